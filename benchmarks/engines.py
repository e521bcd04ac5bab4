"""What a commit costs on each engine: a row, and an event on each of two channels, of a usual size.

``python -m benchmarks.engines`` prints a table. A hundred commits at a time show what the engines carry, one
after another what each of them waits for. Redis runs on the same machine, on a Unix socket.
"""

import asyncio
import contextlib
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from qubix_tui.hub.engine.base import Change, Engine, NewEvent
from qubix_tui.hub.engine.local import LocalEngine
from qubix_tui.hub.engine.redis import RedisEngine
from qubix_tui.hub.engine.redis_address import parse_redis

TOGETHER = 100
ROUNDS = 100
ALONE = 500
KEYS = 1_000
PATIENCE_SECONDS = 10.0

_HEADING = (
    "| engine | commits a second | hub, µs each | Redis, µs each | one alone, median | 99 of 100 below |"
)


async def commit(engine: Engine, number: int) -> float:
    """Do one commit; give the seconds that it took."""
    key = str(number % KEYS)
    before = time.perf_counter()
    await engine.commit(
        (),
        [Change("providers", key, b"x" * 300)],
        [NewEvent("marketplace", "T", b"y" * 200), NewEvent(f"provider:{key}", "T", b"y" * 200)],
    )
    return time.perf_counter() - before


def processor_seconds(process: psutil.Process | None) -> float:
    """Give what a process has used so far."""
    if process is None:
        return 0.0
    times = process.cpu_times()
    return float(times.user + times.system)


async def measure(name: str, engine: Engine, server: psutil.Process | None = None) -> str:
    """Give one engine's line of the table."""
    hub, count = psutil.Process(), ROUNDS * TOGETHER
    await engine.open()
    try:
        began = time.perf_counter(), processor_seconds(hub), processor_seconds(server)
        for start in range(0, count, TOGETHER):
            await asyncio.gather(*(commit(engine, start + one) for one in range(TOGETHER)))
        ended = time.perf_counter(), processor_seconds(hub), processor_seconds(server)
        alone = [await commit(engine, number) * 1e3 for number in range(ALONE)]
    finally:
        await engine.close()
    wall, own, other = (after - before for before, after in zip(began, ended, strict=True))
    redis = "—" if server is None else f"{other / count * 1e6:.0f}"
    tail = statistics.quantiles(alone, n=100)[-1]
    return (
        f"| {name} | {count / wall:,.0f} | {own / count * 1e6:.0f} | {redis} | "
        f"{statistics.median(alone):.2f} ms | {tail:.2f} ms |"
    )


@contextlib.contextmanager
def redis(program: str, policy: str) -> Iterator[tuple[str, psutil.Process]]:
    """Run a Redis; gives its address and its process."""
    with tempfile.TemporaryDirectory(prefix="qubix-bench-") as folder:
        path = Path(folder) / "redis.sock"
        settings = {
            "port": "0",
            "dir": folder,
            "unixsocket": str(path),
            "appendonly": "yes",
            "appendfsync": policy,
            "save": "",
        }
        words = [word for name, value in settings.items() for word in (f"--{name}", value)]
        process = subprocess.Popen([program, *words], stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while not path.exists():
                if time.monotonic() > deadline or process.poll() is not None:
                    raise RuntimeError(f"{program} did not start")
                time.sleep(0.01)
            yield f"unix://{path}", psutil.Process(process.pid)
        finally:
            process.kill()
            process.wait()


def main() -> None:
    """Measure and print."""
    print(_HEADING)
    print(f"|{'---|' * 6}")
    with tempfile.TemporaryDirectory(prefix="qubix-bench-") as folder:
        print(asyncio.run(measure("SQLite", LocalEngine(Path(folder) / "hub.sqlite3"))), flush=True)
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        print("neither redis-server nor valkey-server is installed; nothing more is measured")
        return
    for policy in ("always", "everysec"):
        with redis(program, policy) as (url, process):
            engine = RedisEngine(parse_redis(url))
            print(asyncio.run(measure(f"{Path(program).name}, {policy}", engine, process)), flush=True)


if __name__ == "__main__":
    main()
