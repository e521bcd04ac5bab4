"""What the subcommands share: which hub, which token, and how to fail in one sentence."""

import argparse
import os
from pathlib import Path
from typing import NamedTuple

from qubix_tui import home
from qubix_tui.command import EXIT_FAILED as EXIT_FAILED
from qubix_tui.command import EXIT_INTERRUPTED as EXIT_INTERRUPTED
from qubix_tui.command import EXIT_UNREACHABLE as EXIT_UNREACHABLE
from qubix_tui.command import EXIT_USAGE as EXIT_USAGE
from qubix_tui.command import CommandError as CommandError
from qubix_tui.command import Parser as Parser
from qubix_tui.command import RawFormatter as RawFormatter
from qubix_tui.protocol import DEFAULT_PORT
from qubix_tui.protocol.tokens import Role, is_token

DEFAULT_URL = f"ws://localhost:{DEFAULT_PORT}"

EXIT_CODES = "exit codes: 0 done · 1 refused or failed · 2 wrong usage · 3 no hub answers · 130 Ctrl-C"


class Target(NamedTuple):
    """The hub to dial and the token to show there."""

    url: str
    token: str | None


def add_hub_options(parser: argparse.ArgumentParser, *, default: str | None = argparse.SUPPRESS) -> None:
    """Add ``--hub`` and ``--token-file``.

    Args:
        parser: Where to.
        default: None on the main parser; a subcommand leaves alone what was said before it.
    """
    parser.add_argument(
        "--hub",
        metavar="URL",
        default=default,
        help=f"the hub's address (default: $QUBIX_HUB, else the hub of this machine, else {DEFAULT_URL})",
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        type=Path,
        default=default,
        help="file with the token to show there (default: $QUBIX_TOKEN, else the local hub's own)",
    )


def add_display_options(parser: argparse.ArgumentParser, *, default: bool | str = argparse.SUPPRESS) -> None:
    """Add what the console takes; ``default`` as for `add_hub_options`."""
    parser.add_argument("--ascii", action="store_true", default=default, help="no glyphs beyond ASCII")
    parser.add_argument(
        "--read-only", action="store_true", default=default, help="offer nothing that changes anything"
    )
    parser.add_argument(
        "--no-mouse", action="store_true", default=default, help="leave the mouse to the terminal"
    )
    parser.add_argument(
        "--fps",
        metavar="N",
        type=_frames,
        default=None if default is False else default,
        help="paint changes at most N times a second (default: 10); 2 suits a slow link",
    )


def _frames(text: str) -> float:
    try:
        frames = float(text)
    except ValueError:
        frames = 0.0
    if not 0.2 <= frames <= 60:
        raise argparse.ArgumentTypeError(f"expected 0.2 to 60 times a second, not {text!r}")
    return frames


def asked_url(arguments: argparse.Namespace) -> str | None:
    """The hub that the user named, by option or environment; None if by neither."""
    url: str | None = arguments.hub or os.environ.get("QUBIX_HUB") or None
    return url


def find_hub(arguments: argparse.Namespace, role: Role = Role.OPERATOR) -> Target:
    """Settle which hub to dial and which token to show.

    Raises:
        CommandError: The token given can't be used.
    """
    directory = home.home_dir()
    url = asked_url(arguments) or home.running_hub(home=directory) or DEFAULT_URL
    url, local = home.credentials_for(url, role, home=directory)
    return Target(url, given_token(arguments) or local)


def given_token(arguments: argparse.Namespace) -> str | None:
    """The token that the user gave, by file or environment; None if by neither.

    Raises:
        CommandError: It can't be read or is no token.
    """
    path: Path | None = arguments.token_file
    if path is not None:
        try:
            return home.read_token(path)
        except FileNotFoundError:
            raise CommandError(f"there is no token file {path}", EXIT_USAGE) from None
    token = os.environ.get("QUBIX_TOKEN") or None
    if token is not None and not is_token(token):
        raise CommandError("QUBIX_TOKEN holds no valid token (mistyped, or cut short)", EXIT_USAGE)
    return token
