"""`qubix web`: the console in a browser."""

import argparse
import asyncio
import ipaddress
import shlex
import socket
import sys
from typing import Final
from urllib.parse import urlsplit

from qubix_tui.cli.common import (
    EXIT_USAGE,
    CommandError,
    RawFormatter,
    add_hub_options,
    find_hub,
)

EXAMPLES = """\
examples:
  qubix web                                          the console of this machine's hub, for a browser here
  qubix web --hub wss://hub.example.org              the one of another hub
  qubix web -- --read-only --ascii                   options of the console come after --
  qubix web --public-url https://console.example.org behind a proxy that speaks TLS

It shows a link that works once and lets one browser in, and after that the link for the next one. Who has the
link can do what this console can: give it to nobody else. A cookie keeps the browser in until this ends.
Kept out: other users of this machine, other web pages, whoever reaches the port without a link.
Not kept out: your own programs, and other web servers on this machine that the same browser visits.
"""

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8080


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "web",
        help="the console in a browser",
        description="Serve the console to browsers, on this machine alone unless told otherwise.",
        epilog=EXAMPLES,
        formatter_class=RawFormatter,
    )
    add_hub_options(parser)
    parser.add_argument("--host", default=DEFAULT_HOST, help=f"where to listen (default: {DEFAULT_HOST})")
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help=f"0 picks a free one (default: {DEFAULT_PORT})"
    )
    parser.add_argument(
        "--public-url",
        metavar="URL",
        help="where browsers find it, if not there",
    )
    parser.add_argument(
        "--insecure", action="store_true", help="listen beyond this machine without TLS, in a trusted network"
    )
    parser.add_argument("console", nargs="*", metavar="OPTION", help="after --: options of the console")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    try:
        from qubix_tui.web.gate import Gate
        from qubix_tui.web.server import WebConsole
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("qubix_tui"):
            raise
        raise CommandError(
            "the browser's console needs more packages: pip install '.[web]' in the source tree"
        ) from None
    _check_host(arguments.host, insecure=arguments.insecure)
    command = _command(arguments)
    with _listener(arguments.host, arguments.port) as listener:
        url = _url(arguments.public_url, listener)
        console = WebConsole(command, Gate(url), url, _say)
        asyncio.run(console.run(listener))
    return 0


def _say(sentence: str) -> None:
    print(sentence, flush=True)


def _command(arguments: argparse.Namespace) -> str:
    """Give the shell command that runs the console of one page."""
    # In front of the rest: the page's console must not start a hub of its own.
    console = ["--hub", find_hub(arguments).url]
    if arguments.token_file is not None:
        console += ["--token-file", str(arguments.token_file.absolute())]
    return f"exec {shlex.join([sys.executable, '-m', 'qubix_tui.cli.main', *console, *arguments.console])}"


def _check_host(host: str, *, insecure: bool) -> None:
    if insecure or _is_loopback(host):
        return
    raise CommandError(
        f"{host} can be reached from other machines, and this speaks without TLS: leave it on {DEFAULT_HOST} "
        "and let a proxy with TLS stand in front (--public-url https://…), or say --insecure if the network "
        "is trusted",
        EXIT_USAGE,
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listener(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OverflowError:
        raise CommandError(f"there is no port {port}; give one from 0 to 65535", EXIT_USAGE) from None
    except OSError as error:
        raise CommandError(
            f"can't listen on {host}, port {port}: {error.strerror or error}; give another --port"
        ) from None


def _url(public: str | None, listener: socket.socket) -> str:
    if public is None:
        host, port = listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    try:
        parts = urlsplit(public)
        is_whole = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole or parts.path not in {"", "/"} or parts.query or parts.fragment or "@" in parts.netloc:
        raise CommandError(
            "--public-url is an address without a path, such as https://console.example.org", EXIT_USAGE
        )
    return f"{parts.scheme}://{parts.netloc}"
