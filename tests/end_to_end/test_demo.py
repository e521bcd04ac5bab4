"""The README's first command, as a process in a real pseudo-terminal."""

import re
import signal
import socket
from pathlib import Path

import psutil
import pytest

from tests.end_to_end.processes import no_process_left, processes_of, wait_for
from tests.end_to_end.terminal import Terminal, terminal


def agent_of(home: Path) -> psutil.Process | None:
    """The agent that the demo started."""
    for process in processes_of(home):
        arguments = process.cmdline()
        if "--lifeline" in arguments:
            return process
    return None


def wait_until_live(shown: Terminal) -> str:
    """Wait until this machine's own row is on the screen, with a real number in it."""
    shown.wait_for("available")
    text = shown.text
    while not re.search(r"available.*\d+%", text):
        text = shown.wait_for("available")
        shown.read(0.1)
    return text


def test_it_shows_this_machine_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """`qubix demo` shows this machine with live numbers; `q` ends hub, agent and console, exit code 0."""
    with terminal(["qubix", "demo"], tmp_path) as shown:
        text = wait_until_live(shown)
        assert socket.gethostname().split(".")[0][:8] in text
        assert agent_of(tmp_path) is not None
        shown.press("q")
        assert shown.wait_end() == 0
        wait_for(lambda: no_process_left(tmp_path), "every process to end", 5)
    assert not (tmp_path / "hub.json").exists()


@pytest.mark.parametrize("end", ["ctrl+c", "hang up", "SIGTERM", "SIGKILL"])
def test_every_end_ends_the_agent(end: str, tmp_path: Path) -> None:
    """However the demo ends, SIGKILL included, its agent is gone within seconds."""
    with terminal(["qubix", "demo"], tmp_path, columns=80, rows=24) as shown:
        wait_until_live(shown)
        assert agent_of(tmp_path) is not None
        match end:
            case "ctrl+c":
                shown.press("\x03")
            case "hang up":
                shown.hang_up()
            case "SIGTERM":
                shown.child.kill(signal.SIGTERM)
            case "SIGKILL":
                shown.child.kill(signal.SIGKILL)
        wait_for(lambda: no_process_left(tmp_path), "every process to end", 8)


def test_a_busy_port_is_worked_around_and_said(tmp_path: Path) -> None:
    """Where something else listens on 3001 the hub takes the next free port, and the screen says so."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 3001))
            taken.listen()
        except OSError:
            pass  # something else of this machine has it already: just as good
        with terminal(["qubix", "demo"], tmp_path) as shown:
            shown.wait_for("3001 is taken")
            wait_until_live(shown)
            shown.press("q")
            assert shown.wait_end() == 0


def test_a_second_demo_uses_the_first_ones_hub(tmp_path: Path) -> None:
    """A console opened beside the demo finds its hub; leaving it leaves the demo alone."""
    with terminal(["qubix", "demo"], tmp_path) as first:
        wait_until_live(first)
        with terminal(["qubix"], tmp_path) as second:
            wait_until_live(second)
            second.press("q")
            assert second.wait_end() == 0
            assert first.child.isalive()
            assert agent_of(tmp_path) is not None
            first.press("q")
            assert first.wait_end() == 0
