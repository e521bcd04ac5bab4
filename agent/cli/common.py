"""What the subcommands share: options, what applies, and how to fail in one sentence."""

import argparse
import contextlib
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from qubix_tui.command import EXIT_FAILED as EXIT_FAILED
from qubix_tui.command import EXIT_UNREACHABLE as EXIT_UNREACHABLE
from qubix_tui.command import EXIT_USAGE as EXIT_USAGE
from qubix_tui.command import CommandError as CommandError
from qubix_tui.command import Parser as Parser
from qubix_tui.command import RawFormatter as RawFormatter

if TYPE_CHECKING:
    from agent.sampler import Sampler
    from agent.settings import AgentSettings
    from agent.transport import Transport


def add_hub_options(parser: argparse.ArgumentParser, *, default: str | None = argparse.SUPPRESS) -> None:
    """Add what says which hub, and how it is reached.

    Args:
        parser: Where to.
        default: None on the main parser; a subcommand leaves alone what was said before it.
    """
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        default=default,
        help="the settings (default: $QUBIX_HOME/agent.toml, if there)",
    )
    parser.add_argument(
        "--hub",
        metavar="URL",
        default=default,
        help="the hub's address (default: the hub of the enrollment, else the one of this machine)",
    )
    parser.add_argument(
        "--ca",
        metavar="FILE",
        type=Path,
        default=default,
        help="trust the authorities in this file (PEM), in place of the system's",
    )
    parser.add_argument(
        "--proxy", metavar="URL", default=default, help="go through this HTTP proxy (default: none)"
    )
    parser.add_argument(
        "--insecure",
        action="store_true",
        default=default,
        help="allow the token over plain ws:// beyond this machine",
    )


def add_token_option(parser: argparse.ArgumentParser, *, default: str | None = argparse.SUPPRESS) -> None:
    """Add ``--token-file``; ``default`` as for `add_hub_options`."""
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        type=Path,
        default=default,
        help="file with the token to show there (default: $QUBIX_TOKEN, else the enrollment's)",
    )


def transport(settings: "AgentSettings") -> "Transport":
    """Give how the hub is reached."""
    from agent.transport import Transport

    hub = settings.hub
    return Transport(Path(hub.ca_file) if hub.ca_file else None, hub.proxy, hub.insecure)


def sampler(settings: "AgentSettings", directory: Path, *, pcie: bool = False) -> "Sampler":
    """Give what takes samples of this machine, as its owner wants it.

    Args:
        settings: What applies.
        directory: Whose filesystem ``diskPercent`` speaks of.
        pcie: Whether PCIe throughput is measured too.
    """
    from agent.sampler import Sampler
    from agent.sensors.gpu import GpuSensor
    from agent.sensors.gpu_off import NoGpus
    from agent.sensors.host import HostSensor
    from agent.sensors.offer import Offer

    return Sampler(
        directory,
        host=HostSensor(directory, temperature=settings.sensors.cpu_temperature),
        gpu=GpuSensor(offer=Offer(settings.gpus.offer), pcie=pcie) if settings.sensors.gpu else NoGpus(),
    )


def default_name() -> str | None:
    """The machine's own name, without its domain."""
    from agent.sensors.base import one_line

    return one_line(socket.gethostname().split(".")[0])


def report(line: str) -> None:
    """Say one line on stdout."""
    _write(1, line)


def complain(sentence: str) -> None:
    """Say one sentence on stderr."""
    _write(2, f"qubix-agent: {sentence}")


def _write(descriptor: int, line: str) -> None:
    # A full disk, or a reader that has gone, is no reason to stop; nor may a rest in a buffer fail at exit.
    with contextlib.suppress(OSError):
        os.write(descriptor, f"{line}\n".encode())
