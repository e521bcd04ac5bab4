"""`qubix hub`: the hub alone, until SIGTERM or Ctrl-C."""

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from qubix_tui import home
from qubix_tui.cli.common import EXIT_FAILED, EXIT_USAGE, CommandError, RawFormatter
from qubix_tui.protocol import DEFAULT_PORT

if TYPE_CHECKING:
    from qubix_tui.hub.server import Hub, HubConfig

EXAMPLES = """\
examples:
  qubix hub                            on ws://127.0.0.1:3001, for this machine
  qubix hub --port 0                   on a free port, which it prints
  qubix hub --host 0.0.0.0 --insecure  for other machines, without TLS (a trusted network only)
"""

STOP_SECONDS = 2.0
"""How long clients may take to say goodbye before they are cut."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "hub",
        help="run the hub alone",
        description="Run the hub alone. It prints one line when it listens and ends on SIGTERM or Ctrl-C.",
        epilog=EXAMPLES,
        formatter_class=RawFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument(
        "--port", type=port_number, default=DEFAULT_PORT, help=f"0 picks a free one (default: {DEFAULT_PORT})"
    )
    parser.add_argument("--data", metavar="DIR", type=Path, help="its data (default: $QUBIX_HOME/hub)")
    parser.add_argument(
        "--allow-origin",
        metavar="ORIGIN",
        action="append",
        default=[],
        help="let pages of this origin connect, e.g. https://console.example.org (repeat for more)",
    )
    parser.add_argument(
        "--public-name",
        metavar="HOST",
        action="append",
        default=[],
        help="a name under which clients reach it (repeat for more)",
    )
    parser.add_argument(
        "--no-anonymous", action="store_true", help="even this machine's clients need a token to look"
    )
    parser.add_argument(
        "--insecure", action="store_true", help="listen beyond this machine without TLS, against advice"
    )
    parser.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default="info", help="(default: info)"
    )
    parser.set_defaults(run=run)


def port_number(text: str) -> int:
    """Read a port.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {text!r}")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Run the hub until it is told to end."""
    from qubix_tui.cli.local_hub import local_access, local_engine, locked_data
    from qubix_tui.hub.server import Hub, HubConfig
    from qubix_tui.hub.thread import event_loop_factory

    logging.basicConfig(
        stream=sys.stderr,
        level=arguments.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    directory = home.home_dir()
    config = HubConfig(
        host=arguments.host,
        port=arguments.port,
        allow_origins=tuple(arguments.allow_origin),
        public_names=tuple(arguments.public_name),
        anonymous=not arguments.no_anonymous,
        insecure=arguments.insecure,
    )
    with locked_data(arguments.data or directory / "hub") as data:
        try:
            instance = Hub(config, access=local_access(config, directory), engine=local_engine(data))
        except ValueError as error:  # an origin or a name that is none
            raise CommandError(str(error), EXIT_USAGE) from None
        with asyncio.Runner(loop_factory=event_loop_factory()) as runner:
            return runner.run(_serve(instance, config, directory))


async def _serve(hub: "Hub", config: "HubConfig", directory: Path) -> int:
    from qubix_tui.hub.engine.base import EngineUnavailable

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stopped.set)
    try:
        await hub.start()
    except OSError as error:
        raise CommandError(_why_not(error, config), EXIT_FAILED) from None
    except (ValueError, EngineUnavailable) as error:
        raise CommandError(str(error), EXIT_FAILED) from None
    record = home.running_hub(home=directory) is None
    if record:
        home.write_hub_record(hub.url, home=directory)
    try:
        print(f"listening on {hub.url}", flush=True)
        await stopped.wait()
    finally:
        if record:
            home.remove_hub_record(home=directory)
        await hub.stop(STOP_SECONDS)
    return 0


def _why_not(error: OSError, config: "HubConfig") -> str:
    where = f"{config.host}:{config.port}"
    return (
        f"can't listen on {where}: {error.strerror or error}; try another --port, or --port 0 for a free one"
    )
