"""What the console costs, through a real pseudo-terminal, beside a `DataTable` of the same fleet.

``python -m benchmarks.console [N…]`` prints tables; a real hub has N providers, each with a new sample a
second. Shares are of one core. Key to paint is from a key that moves the cursor to the first byte that draws
the selected row where it is then.
"""

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.processes import ROOT
from benchmarks.terminal import Watched

COLUMNS, ROWS = 160, 48
KEYS = 120
PATIENCE = 120.0
SETTINGS = '[fleet]\nsort = "name"\n'
"""An order that does not move by itself: the peer has none that does."""

DOWN, UP = b"\x1b[B", b"\x1b[A"

IDLE_AFTER_SECONDS = 63.0
"""From then on the ages of samples that no longer come are told in minutes."""
IDLE_SECONDS = 20.0


class Cost(NamedTuple):
    """What a program cost at a size of fleet."""

    keys: Sequence[float]
    """Seconds from key to paint, each."""
    cpu: float
    """Share of a core."""
    rss: int
    bytes_per_second: float


class Fleet:
    """A hub with a fleet, as a process."""

    def __init__(self, count: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.console_hub", str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=ROOT.parent,
        )
        assert self._process.stdout is not None
        self.url, self.token = self._process.stdout.readline().split()

    def say(self, word: str) -> None:
        """Let it go on, or rest."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


@contextmanager
def fleet_of(count: int) -> Iterator[Fleet]:
    """Run a hub with so many providers."""
    fleet = Fleet(count)
    try:
        yield fleet
    finally:
        fleet.end()


@contextmanager
def started(program: str, fleet: Fleet, *options: str, home: Path) -> Iterator[Watched]:
    """Run the console, or its peer, in a terminal."""
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "QUBIX_HOME": str(home),
        "QUBIX_TOKEN": fleet.token,
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
        "LC_ALL": "C.UTF-8",
    }
    command = [sys.executable, "-m", "qubix_tui.cli.main", "--hub", fleet.url, *options]
    if program == "peer":
        command = [sys.executable, "-m", "benchmarks.console_peer", fleet.url, fleet.token]
    (home / "console").mkdir(exist_ok=True)
    (home / "console" / "console.toml").write_text(SETTINGS)
    with Watched(command, environment, COLUMNS, ROWS) as shown:
        yield shown


def first_row(shown: Watched) -> float:
    """Wait until a row is drawn; give the moment that it was."""
    seen = shown.wait(lambda: shown.cursor_row is not None, PATIENCE)
    if seen is None:
        raise SystemExit(f"console: no row is drawn, but {shown.text[-400:]!r}")
    return seen


def key_times(shown: Watched) -> list[float]:
    """Move the cursor down and up, at moments that have nothing to do with the data's."""
    chance = random.Random(5)
    top = shown.cursor_row
    assert top is not None
    times = []
    for number in range(KEYS):
        shown.watch(chance.uniform(0.1, 0.3))
        expected = top if number % 2 else top + 1
        pressed = time.perf_counter()
        shown.press(UP if number % 2 else DOWN)
        seen = shown.wait(partial(_is_at, shown, expected), PATIENCE)
        if seen is None:
            raise SystemExit(f"console: the cursor never came to line {expected}")
        times.append(seen - pressed)
    return times


def _is_at(shown: Watched, row: int) -> bool:
    return shown.cursor_row == row


def cost(program: str, fleet: Fleet, home: Path) -> Cost:
    """Run a program on a fleet and measure it."""
    with started(program, fleet, home=home) as shown:
        first_row(shown)
        shown.watch(5)
        before, cpu, written = time.perf_counter(), shown.cpu, shown.written
        keys = key_times(shown)
        elapsed = time.perf_counter() - before
        return Cost(keys, (shown.cpu - cpu) / elapsed, shown.rss, (shown.written - written) / elapsed)


def start_seconds(fleet: Fleet, home: Path) -> float:
    """Measure the time from the start of the process to the first row with data."""
    with started("console", fleet, home=home) as shown:
        return first_row(shown) - shown.started


def idle(fleet: Fleet, home: Path) -> tuple[float, int]:
    """Measure a console whose fleet is there and silent: share of a core, and bytes written."""
    with started("console", fleet, home=home) as shown:
        first_row(shown)
        fleet.say("rest")
        shown.watch(IDLE_AFTER_SECONDS)
        cpu, written = shown.cpu, shown.written
        shown.watch(IDLE_SECONDS)
        fleet.say("go")
        return (shown.cpu - cpu) / IDLE_SECONDS, shown.written - written


def slow_link(fleet: Fleet, home: Path) -> float:
    """Measure the bytes that two frames a second take, each second."""
    with started("console", fleet, "--fps", "2", home=home) as shown:
        first_row(shown)
        shown.watch(5)
        written = shown.written
        shown.watch(20)
        return (shown.written - written) / 20


def main(counts: list[int]) -> None:
    """Print the tables."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        print("| providers, rows changed per second | | key → paint p50 / p99 | CPU | RSS | KiB/s |")
        print("|---|---|---:|---:|---:|---:|", flush=True)
        for count in counts:
            with fleet_of(count) as fleet:
                for program in ("console", "peer"):
                    name = "qubix" if program == "console" else "DataTable"
                    print(f"| {count:,} | {name} | {_row(cost(program, fleet, home))} |", flush=True)
        with fleet_of(1000) as fleet:
            start_seconds(fleet, home)  # the files are in memory from here on
            starts = sorted(start_seconds(fleet, home) for _ in range(5))
            link = slow_link(fleet, home)
            cpu, written = idle(fleet, home)
    print(f"\nstart to first painted data, 1,000 providers: {statistics.median(starts):.2f} s", end=" ")
    print(f"({starts[0]:.2f} to {starts[-1]:.2f})")
    print(f"--fps 2, 1,000 providers: {link / 1024:.1f} KiB/s")
    print(f"idle, 1,000 silent providers, {IDLE_SECONDS:.0f} s: {100 * cpu:.1f} % of a core, {written} bytes")


def _row(one: Cost) -> str:
    times = sorted(one.keys)
    p50, p99 = statistics.median(times), times[int(len(times) * 0.99)]
    return (
        f"{1000 * p50:.0f} / {1000 * p99:.0f} ms | {100 * one.cpu:.0f} % | {one.rss / 2**20:.0f} MB "
        f"| {one.bytes_per_second / 1024:.1f}"
    )


if __name__ == "__main__":
    main([int(count) for count in sys.argv[1:]] or [100, 1_000, 10_000])
