"""The files under deploy/: what their own programs say of them."""

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qubix_tui.cli.hub_settings import Settings
from qubix_tui.cli.main import build_parser

UNIT = Path(__file__).parents[1] / "deploy" / "systemd" / "qubix-hub.service"
INSTALLED = "/opt/qubix/bin/qubix"
EXPOSURE = 15
"""Tenths of what systemd-analyze calls exposure; what listens on a network is hardly below 1."""


def systemd_analyze(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run it; skips where it is missing."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, naming the command that is installed here."""
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text().replace(INSTALLED, str(Path(sys.executable).with_name("qubix"))))
    return path


def service() -> configparser.SectionProxy:
    """The unit's [Service]; of settings that are repeated, the last."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    return parser["Service"]


def test_systemd_takes_the_unit(unit: Path) -> None:
    """No setting is unknown, none is ignored."""
    verified = systemd_analyze("verify", str(unit))
    assert (verified.returncode, verified.stderr) == (0, "")


def test_the_unit_is_closed(unit: Path) -> None:
    """What the hub does not need is taken from it, by systemd's own count."""
    judged = systemd_analyze("security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", str(unit))
    assert judged.returncode == 0, judged.stdout


def test_the_unit_and_the_hub_agree() -> None:
    """Its command line is one of ours, and it has the files and the time that the hub's defaults ask for."""
    settings, unit = Settings(), service()
    command, *words = unit["ExecStart"].split()
    assert command == INSTALLED
    assert build_parser().parse_args(words).config == Path("/etc/qubix/hub.toml")
    assert int(unit["LimitNOFILE"]) > settings.limits.connections
    assert int(unit["TimeoutStopSec"]) > settings.shutdown.drain_seconds
    assert unit["Type"] == "notify"
    assert re.fullmatch(r"[0-9]+", unit["WatchdogSec"])
