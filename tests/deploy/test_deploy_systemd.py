"""The files under deploy/: what their own programs say of them."""

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent import cli as agent_cli
from agent.settings import AGENT
from qubix_tui.cli.hub_settings import Settings
from qubix_tui.cli.main import build_parser

DIRECTORY = Path(__file__).parents[2] / "deploy" / "systemd"
HUB, AGENT_UNIT = DIRECTORY / "qubix-hub.service", DIRECTORY / "qubix-agent.service"
HUB_SOCKET = DIRECTORY / "qubix-hub.socket"
INSTALLED = "/opt/qubix/bin"
EXPOSURE = {HUB: 15, AGENT_UNIT: 45}
"""Tenths of what systemd-analyze calls exposure. What listens on a network is hardly below 1; what an agent
gives up, its jobs would have to give up too."""

HIDES_GPUS = frozenset({"PrivateDevices", "DeviceAllow", "DevicePolicy", "ProtectClock"})
BREAKS_SANDBOXES = frozenset(
    {
        *("ProtectKernelTunables", "ProtectKernelLogs", "ProtectHostname", "ProtectProc", "ProcSubset"),
        *("RestrictNamespaces", "PrivateUsers", "ProtectControlGroups"),
    }
)
BREAKS_JOBS = frozenset({"MemoryDenyWriteExecute", "RemoveIPC"})


def systemd_analyze(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run it; skips where it is missing."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture(params=[HUB, AGENT_UNIT], ids=["hub", "agent"])
def source(request: pytest.FixtureRequest) -> Path:
    """Each unit."""
    path: Path = request.param
    return path


@pytest.fixture
def unit(source: Path, tmp_path: Path) -> Path:
    """The unit, naming the command that is installed here."""
    path = tmp_path / source.name
    path.write_text(source.read_text().replace(INSTALLED, str(Path(sys.executable).parent)))
    return path


def section(unit: Path, name: str) -> configparser.SectionProxy:
    """A section of a unit; of settings that are repeated, the last."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit)
    return parser[name]


def service(unit: Path) -> configparser.SectionProxy:
    """A unit's [Service]."""
    return section(unit, "Service")


def test_systemd_takes_the_unit(unit: Path) -> None:
    """No setting is unknown, none is ignored."""
    verified = systemd_analyze("verify", str(unit))
    assert (verified.returncode, verified.stderr) == (0, "")


def test_systemd_takes_the_hubs_socket(tmp_path: Path) -> None:
    """Beside its service, which it finds by its name."""
    (tmp_path / HUB.name).write_text(HUB.read_text().replace(INSTALLED, str(Path(sys.executable).parent)))
    (tmp_path / HUB_SOCKET.name).write_text(HUB_SOCKET.read_text())
    verified = systemd_analyze("verify", str(tmp_path / HUB_SOCKET.name), str(tmp_path / HUB.name))
    assert (verified.returncode, verified.stderr) == (0, "")


def test_the_socket_is_where_a_hub_listens_by_default() -> None:
    """So that installing it moves nobody; each connection goes to the one hub."""
    listening = Settings().listen
    unit = section(HUB_SOCKET, "Socket")
    assert unit["ListenStream"] == f"{listening.host}:{listening.port}"
    assert "Accept" not in unit


def test_the_unit_is_closed(source: Path, unit: Path) -> None:
    """What a service does not need is taken from it, by systemd's own count."""
    threshold = f"--threshold={EXPOSURE[source]}"
    judged = systemd_analyze("security", "--offline=true", threshold, "--no-pager", str(unit))
    assert judged.returncode == 0, judged.stdout


def test_the_unit_and_the_hub_agree() -> None:
    """Its command line is one of ours, and it has the files and the time that the hub's defaults ask for."""
    settings, unit = Settings(), service(HUB)
    command, *words = unit["ExecStart"].split()
    assert command == f"{INSTALLED}/qubix"
    assert build_parser().parse_args(words).config == Path("/etc/qubix/hub.toml")
    assert int(unit["LimitNOFILE"]) > settings.limits.connections
    assert int(unit["TimeoutStopSec"]) > settings.shutdown.drain_seconds
    assert unit["Type"] == "notify"
    assert re.fullmatch(r"[0-9]+", unit["WatchdogSec"])


def test_the_unit_and_the_agent_agree() -> None:
    """Its command line is one of ours, jobs outlive it, and its watchdog waits for the slowest sampling."""
    unit = service(AGENT_UNIT)
    command, *words = unit["ExecStart"].split()
    assert command == f"{INSTALLED}/qubix-agent"
    assert agent_cli.build_parser().parse_args(words).config == Path("/etc/qubix/agent.toml")
    assert (unit["Type"], unit["KillMode"], unit["Delegate"]) == ("notify", "process", "yes")
    assert AGENT.check("sampling.interval_seconds", 10.0) == 10.0
    assert int(unit["WatchdogSec"]) > 2 * 10.0
    assert unit["RestartPreventExitStatus"] == str(agent_cli.common.EXIT_USAGE)
    assert f"/{unit['StateDirectory']}" in unit["Environment"]
    assert f"u {unit['User']} " in (DIRECTORY / "qubix-agent.sysusers.conf").read_text()


def test_the_agents_unit_leaves_what_gpus_and_sandboxes_need() -> None:
    """Hardening that hides GPUs, or that no sandbox can be made under, is not there."""
    assert not (HIDES_GPUS | BREAKS_SANDBOXES | BREAKS_JOBS) & service(AGENT_UNIT).keys()
