"""What a process loads: a hub or an agent never pays for a screen."""

import json
import subprocess
import sys

import pytest

LOADED = "import json, sys; print(json.dumps(sorted(sys.modules)))"


def modules_after(statement: str) -> set[str]:
    """The modules of a fresh interpreter after a statement."""
    shown = subprocess.run(
        [sys.executable, "-c", f"{statement}\n{LOADED}"], capture_output=True, text=True, check=True
    )
    loaded: list[str] = json.loads(shown.stdout)
    return set(loaded)


@pytest.mark.parametrize(
    "statement",
    [
        "import qubix_tui.hub.server, qubix_tui.hub.thread",
        "import agent.cli, agent.service, agent.sampler, agent.link",
        "import qubix_tui.client",
        "import qubix_tui.simulation",
        "import qubix_tui.cli.main",
    ],
)
def test_textual_and_rich_stay_out(statement: str) -> None:
    """Neither Textual nor Rich is loaded by a hub, an agent, a client, or a command that shows no screen."""
    loaded = {name.partition(".")[0] for name in modules_after(statement)}
    assert not {"textual", "rich"} & loaded


def test_the_agent_loads_no_pynvml() -> None:
    """The driver's library is for the child process alone."""
    assert "pynvml" not in modules_after("import agent.cli, agent.service, agent.sampler, agent.link")


def test_the_agent_does_not_load_the_benchmark_it_offers() -> None:
    """The job is a process of its own: what it works with is not carried by every agent."""
    loaded = modules_after("import agent.cli, agent.service, agent.sampler, agent.link")
    assert not {"agent.jobs.benchmark.run", "agent.jobs.benchmark.processor"} & loaded


def test_the_command_is_light() -> None:
    """`qubix --help` loads neither the hub, nor the client, nor an event loop's TLS."""
    loaded = modules_after("from qubix_tui.cli.main import build_parser; build_parser()")
    assert not {"qubix_tui.hub.server", "qubix_tui.client", "websockets"} & loaded
