"""What several hubs on one Redis cost, and how long a message takes from one's agent to another's client.

``python -m benchmarks.scale`` prints two tables, each for one, two and three hubs: of samples, which go from
hub to hub past the store, and of states, which are stored, and of which every hub hears. The hubs are
``qubix hub`` as it is installed; they and the Redis share core 0, the fleet and its audience (``whole.c``)
have core 1. Agents and consoles are spread over the hubs; a client that follows one provider is always at
another hub than that provider, where there is one.

A third table says what each part of that costs, from pairs of runs that differ by it: the constants with
which docs/scaling.md reckons how many hubs a larger fleet takes.
"""

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from benchmarks import engines
from benchmarks.processes import LOAD_CORE, SERVER_CORE, Process, allow_files, cpu_seconds
from benchmarks.whole import SETTLE_SECONDS, Fleet, audience
from qubix_tui import home
from qubix_tui.protocol.tokens import Role

MOST_HUBS = 3
MOST_ADDED_MILLISECONDS = 25.0
"""How much longer, at the 99th percentile, a message may take over two hubs than over one."""

SAMPLES = Fleet(agents=3_000, consoles=6, watchers=300)
STATES = Fleet(agents=300, consoles=6, watchers=150, states=True)

AGENTS = Fleet(agents=3_000, consoles=0, watchers=0, apart=True)
AGENTS_SHOWN = Fleet(agents=3_000, consoles=1, watchers=0, apart=True)
NEXT_TO_NONE = Fleet(agents=1, consoles=0, watchers=0, apart=True)
FEW_CHANGES = Fleet(agents=300, consoles=0, watchers=0, apart=True, states=True)
MANY_CHANGES = Fleet(agents=2_000, consoles=0, watchers=0, apart=True, states=True)


@dataclass(frozen=True)
class Outcome:
    """What was measured of some hubs.

    Attributes:
        fleet: Who took part.
        seconds: For how long.
        hubs: Each hub's processor time as a share of one core.
        redis: The Redis's.
        resident_mib: Each hub's resident memory at the end.
        delivery_ms: Agent to a client that follows it: median, 99th percentile, highest.
        digest_ms: How old a provider's sample is when a console gets it: likewise.
        missing: What did not arrive, in words; empty where all did.
    """

    fleet: Fleet
    seconds: int
    hubs: list[float]
    redis: float
    resident_mib: list[float]
    delivery_ms: tuple[float, float, float]
    digest_ms: tuple[float, float, float]
    missing: str


@contextlib.contextmanager
def hubs(count: int, url: str, folder: Path) -> Iterator[list[tuple[Process, int]]]:
    """Run some hubs on one Redis; gives each with its port."""
    program = [sys.executable, "-c", "from qubix_tui.cli.main import main; main()"]
    words = ["hub", "--port", "0", "--log-level", "warning", "--engine", url]
    with contextlib.ExitStack() as stack:
        running = []
        for number in range(count):
            # One folder each, but the same tokens.
            own = folder / f"hub-{number}"
            shutil.copytree(folder / "home", own)
            command = ["env", f"QUBIX_HOME={own}", *program, *words]
            process = stack.enter_context(Process(command, SERVER_CORE))
            running.append((process, int(process.read().rpartition(":")[2])))
        yield running


def measure(fleet: Fleet, count: int, seconds: int, program: str) -> Outcome:
    """Run hubs with a fleet, and measure them.

    Raises:
        RuntimeError: The fleet was not let in.
    """
    with (
        tempfile.TemporaryDirectory(prefix="qubix-bench-") as name,
        engines.redis(program, "everysec") as (url, redis),
    ):
        folder = Path(name)
        token = home.ensure_local_token(Role.OPERATOR, home=folder / "home")
        redis.cpu_affinity([SERVER_CORE])
        with hubs(count, url, folder) as running:
            ports = [port for _, port in running]
            with audience(fleet, ports, token, folder) as (clients, _):
                time.sleep(SETTLE_SECONDS)
                clients.tell(f"measure {seconds}")
                time.sleep(4)  # The clients pause before they begin.
                taken = _watch([process for process, _ in running], redis, seconds - 5)
                seen = json.loads(clients.read())
                resident = [process.resident_kib() / 1024 for process, _ in running]
    wanted = fleet.watchers * seconds
    lost = f"{wanted - seen['delivered']} of {wanted} messages, {seen['lost']} connections lost"
    return Outcome(
        fleet=fleet,
        seconds=seconds,
        hubs=taken[:-1],
        redis=taken[-1],
        resident_mib=resident,
        delivery_ms=tuple(seen["delivery_ms"]),
        digest_ms=tuple(seen["digest_ms"]),
        missing=lost if seen["delivered"] != wanted or seen["lost"] else "",
    )


def _watch(processes: Sequence[Process], redis: psutil.Process, seconds: int) -> list[float]:
    """Give what share of a core each has had: the hubs, and then the Redis."""

    def read() -> list[float]:
        return [*(process.cpu_seconds() for process in processes), cpu_seconds(redis.pid)]

    before, began = read(), time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - began
    return [(now - then) / passed for then, now in zip(before, read(), strict=True)]


def parts(seconds: int, program: str) -> Iterator[str]:
    """Give what each part of the work costs, as lines of the table: microseconds of a processor, KiB.

    Every sample and every change of these runs comes to the first hub; a console, where there is one, is at
    the last. A part is what two runs differ by.
    """
    idle = measure(NEXT_TO_NONE, 2, seconds, program)
    yield f"| an idle hub among two, each second | {idle.hubs[1] * 1e6:,.0f} µs |"
    alone = measure(AGENTS, 1, seconds, program)
    yield _cost("a sample, at the hub of its provider", alone.hubs[0], idle.hubs[0], AGENTS)
    shown = measure(AGENTS_SHOWN, 2, seconds, program)
    what = "its headline for another hub, where that shows the fleet"
    yield _cost(what, shown.hubs[0], alone.hubs[0], AGENTS)
    what = "a headline of another hub, in the digest of one console"
    yield _cost(what, shown.hubs[1], idle.hubs[1], AGENTS)
    for where, which in (("at its hub", 0), ("at any other", 1)):
        kib = (shown.resident_mib[which] - idle.resident_mib[which]) * 1024 / AGENTS_SHOWN.agents
        yield f"| memory for a provider, {where} | {kib:.1f} KiB |"
    for fleet in (FEW_CHANGES, MANY_CHANGES):
        changes = measure(fleet, 2, seconds, program)
        of = f"a change of {fleet.agents:,} a second (a row, two events)"
        yield _cost(f"{of}, at the hub that makes it", changes.hubs[0], idle.hubs[0], fleet)
        yield _cost(f"{of}, at each other hub", changes.hubs[1], idle.hubs[1], fleet)
        yield _cost(f"{of}, at the Redis", changes.redis, idle.redis, fleet)


def _cost(what: str, share: float, without: float, fleet: Fleet) -> str:
    return f"| {what} | {(share - without) / fleet.agents * 1e6:,.0f} µs |"


def line(outcome: Outcome) -> str:
    """Give an outcome's line of the table."""
    each = " + ".join(f"{share:.1%}" for share in outcome.hubs)
    return (
        f"| {len(outcome.hubs)} | {each} | {outcome.redis:.1%} | {outcome.delivery_ms[0]:.1f} | "
        f"{outcome.delivery_ms[1]:.1f} | {outcome.delivery_ms[2]:.1f} |"
        + (f" **lost: {outcome.missing}** |" if outcome.missing else "")
    )


def main() -> None:
    """Measure one, two and three hubs, and say what they cost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=main.__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="how long each is measured (default: 60)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        parser.exit(1, "neither redis-server nor valkey-server is installed\n")
    if (os.cpu_count() or 1) <= LOAD_CORE:
        parser.exit(1, "the hubs and the load need a core each; this machine has one\n")
    os.sched_setaffinity(0, {LOAD_CORE})
    allow_files(SAMPLES.agents + SAMPLES.watchers + 500)
    outcomes: list[Outcome] = []
    late: list[str] = []
    for fleet, what in ((SAMPLES, "samples"), (STATES, "changes of state, two events each")):
        print(
            f"\n{fleet.agents:,} {what} a second, {fleet.watchers} clients on one provider each, "
            f"{fleet.consoles} consoles\n"
        )
        print("| hubs | processor of each | Redis | agent → client, ms: median | 99 of 100 below | highest |")
        print("|---|---|---|---|---|---|")
        first: Outcome | None = None
        for count in range(1, MOST_HUBS + 1):
            outcome = measure(fleet, count, options.seconds, program)
            print(line(outcome), flush=True)
            outcomes.append(outcome)
            first = first or outcome
            added = outcome.delivery_ms[1] - first.delivery_ms[1]
            if added > MOST_ADDED_MILLISECONDS or outcome.missing:
                late.append(f"{what}, {count} hubs: {added:.1f} ms added at the 99th percentile")
    print("\n| what | costs |\n|---|---|")
    for part in parts(options.seconds, program):
        print(part, flush=True)
    print("\n" + ("\n".join(f"NOT REACHED: {what}" for what in late) or "all reached"))
    if options.json:
        options.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=2) + "\n")
    sys.exit(1 if late else 0)


if __name__ == "__main__":
    main()
