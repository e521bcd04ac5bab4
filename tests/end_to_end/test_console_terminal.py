"""The console in a real pseudo-terminal, where it has to bear what terminals do."""

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.end_to_end.processes import hub_process, no_process_left, started, wait_for
from tests.end_to_end.terminal import Terminal, terminal

ROOT = Path(__file__).parents[2]
SIZES = [(80, 24), (120, 40), (200, 60), (40, 10), (20, 5), (300, 80)]


@contextmanager
def console(home: Path, providers: int, columns: int = 120, rows: int = 40) -> Iterator[Terminal]:
    """A console on a hub with a simulated fleet."""
    with (
        hub_process(home) as (_, url),
        started(["qubix", "simulate", "--providers", str(providers), "--hub", url], home),
        terminal(["qubix", "--hub", url], home, columns=columns, rows=rows) as shown,
    ):
        yield shown


def is_whole(shown: Terminal) -> bool:
    """Whether the fleet's screen is there, its keys in the last line."""
    shown.read(0.1)
    lines = shown.text.splitlines()
    return len(lines) == 30 and lines[0].startswith(" QUBIX") and lines[-1].endswith("? help")


def test_a_storm_of_sizes(tmp_path: Path) -> None:
    """Resized a hundred times while it paints, tiny and huge, it shows the last size's screen, whole."""
    with console(tmp_path, 20) as shown:
        shown.wait_for("SIMULATED DATA")
        chance = random.Random(1)
        for _ in range(100):
            shown.resize(*chance.choice(SIZES))
            shown.read(0.01)
        shown.resize(100, 30)
        wait_for(lambda: is_whole(shown), "the screen of the last size, from its first line to its last")
        assert "Traceback" not in shown.text
        shown.press("q")
        assert shown.wait_end() == 0


@pytest.mark.parametrize("end", ["ctrl+c", "hang up", "SIGTERM"])
def test_every_end_is_an_end(end: str, tmp_path: Path) -> None:
    """By ctrl+c, with its terminal closed, or asked to: the console is gone, and left no traceback."""
    with console(tmp_path, 3, 80, 24) as shown:
        shown.wait_for("SIMULATED DATA")
        match end:
            case "ctrl+c":
                shown.press("\x03")
                assert shown.wait_end() == 0
            case "hang up":
                shown.hang_up()
            case "SIGTERM":
                shown.child.kill(signal.SIGTERM)
                assert shown.wait_end() == 0
        assert "Traceback" not in shown.text
        wait_for(lambda: not shown.child.isalive(), "the console to end")
    wait_for(lambda: no_process_left(tmp_path), "every process to end")


@pytest.mark.soak
@pytest.mark.timeout(180)
def test_ten_thousand_providers(tmp_path: Path) -> None:
    """All of them are there, the last is a key away, and a filter finds one."""
    command = [sys.executable, "-m", "benchmarks.console_hub", "10000"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as feeder:
        try:
            assert feeder.stdout is not None
            url, token = feeder.stdout.readline().split()
            with terminal(["qubix", "--hub", url], tmp_path, QUBIX_TOKEN=token) as shown:
                shown.wait_for("10000, by trouble", 60)
                shown.press("/name:09999")
                shown.wait_for("1 of 10000", 30)
                assert "-09999" in shown.text
                shown.press("\x1b")
                shown.wait_for("  10000, by trouble", 30)
                shown.press("q")
                assert shown.wait_end() == 0
        finally:
            feeder.kill()
