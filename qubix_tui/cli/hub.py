"""`qubix hub`: the hub alone, until SIGTERM or Ctrl-C."""

import argparse
from pathlib import Path

from qubix_tui import home
from qubix_tui.cli import hub_backup, hub_config, hub_move, logs
from qubix_tui.cli.common import Parser, RawFormatter
from qubix_tui.cli.hub_engine import PASSWORD_VARIABLE
from qubix_tui.protocol import DEFAULT_PORT

EXAMPLES = """\
examples:
  qubix hub                            on ws://127.0.0.1:3001, for this machine
  qubix hub --port 0                   on a free port, which it prints
  qubix hub --host 0.0.0.0 --tls-cert tls.pem --tls-key tls.key
  qubix hub --host 0.0.0.0 --insecure  for other machines, without TLS (a trusted network only)
  qubix hub config init                write a commented hub.toml, which it reads when it starts
  qubix hub backup FILE                copy its database while it runs
  qubix hub move --from sqlite --to redis://HOST:6379/0
  qubix hub --engine redis://HOST:6379/0    its state in a Redis or Valkey (docs/scaling.md)
  qubix hub --engine redis://HOST:6379/0 --workers 4    a hub for each core, on one port

Each flag has a setting in hub.toml, and goes before it. SIGTERM or Ctrl-C lets clients leave (the second
one ends at once); SIGHUP reads the TLS files again.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand; a flag that is not given is None, and leaves the setting to others."""
    parser = subparsers.add_parser(
        "hub",
        help="run the hub alone",
        description="Run the hub alone. It prints one line when it listens and ends on SIGTERM or Ctrl-C.",
        epilog=EXAMPLES,
        formatter_class=RawFormatter,
    )
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help="its settings (default: $QUBIX_HOME/hub.toml, if there)"
    )
    _add_listening(parser)
    _add_access(parser)
    parser.add_argument(
        "--engine",
        metavar="ENGINE",
        help="where its state is: sqlite, or a Redis or Valkey at redis://HOST:6379/0, rediss:// with TLS, "
        "unix:///PATH (default: sqlite)",
    )
    parser.add_argument(
        "--engine-password-file",
        metavar="FILE",
        type=Path,
        help=f"the password for that Redis (or {PASSWORD_VARIABLE} in the environment)",
    )
    parser.add_argument("--data", metavar="DIR", type=Path, help="its data (default: $QUBIX_HOME/hub)")
    parser.add_argument(
        "--retention",
        metavar="DAYS",
        type=float,
        help="how long finished jobs and their logs are kept (default: 30)",
    )
    parser.add_argument(
        "--drain-seconds",
        metavar="SECONDS",
        type=float,
        help="how long clients may take to leave at its end (default: 10)",
    )
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), help="(default: info)")
    parser.add_argument("--log-format", choices=("text", "json"), help="(default: text)")
    parser.set_defaults(run=run)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    hub_config.add_config_parser(commands)
    hub_backup.add_backup_parser(commands)
    hub_move.add_move_parser(commands)


def _add_listening(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=port_number, help=f"0 picks a free one (default: {DEFAULT_PORT})")
    parser.add_argument(
        "--workers",
        metavar="N",
        type=int,
        help="so many hubs on that one address, each a process of its own, on one Redis (default: 1)",
    )
    parser.add_argument("--unix-socket", metavar="FILE", type=Path, help="listen on this Unix socket, too")
    parser.add_argument("--tls-cert", metavar="FILE", type=Path, help="speak TLS with this certificate (PEM)")
    parser.add_argument("--tls-key", metavar="FILE", type=Path, help="and its private key (PEM)")
    parser.add_argument(
        "--insecure",
        action="store_true",
        default=None,
        help="listen beyond this machine without TLS, against advice",
    )


def _add_access(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow-origin",
        metavar="ORIGIN",
        action="append",
        help="let pages of this origin connect, e.g. https://console.example.org (repeat for more)",
    )
    parser.add_argument(
        "--public-name",
        metavar="HOST",
        action="append",
        help="a name under which clients reach it (repeat for more)",
    )
    parser.add_argument(
        "--trusted-proxy",
        metavar="NETWORK",
        action="append",
        help="believe X-Forwarded-For from this address, network, or unix, the socket (repeat for more)",
    )
    parser.add_argument(
        "--no-anonymous",
        action="store_false",
        default=None,
        help="even this machine's clients need a token to look",
    )


def port_number(text: str) -> int:
    """Read a port.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {text!r}")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Run the hub, or several, until it is told to end."""
    from qubix_tui.cli.activation import take_sockets
    from qubix_tui.cli.hub_service import serve
    from qubix_tui.cli.hub_workers import supervise
    from qubix_tui.notify import Notifier

    directory = home.home_dir()
    settings = hub_config.apply(arguments, directory).settings
    logs.configure(level=settings.log.level, log_format=settings.log.format)
    config = hub_config.hub_config(settings)
    notifier = Notifier.from_environment()
    sockets = take_sockets()
    if settings.listen.workers > 1:
        return supervise(settings, config, directory, notifier, handed=sockets)
    serve(settings, config, directory, notifier, sockets=sockets)
    return 0
