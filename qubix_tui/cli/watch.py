"""`qubix watch`: events as they come, one JSON document a line."""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence

from qubix_tui.cli.common import (
    EXIT_FAILED,
    EXIT_UNREACHABLE,
    CommandError,
    RawFormatter,
    Target,
    add_hub_options,
    find_hub,
)
from qubix_tui.protocol import channels
from qubix_tui.protocol.events import Event

EXAMPLES = """\
examples:
  qubix watch marketplace                     who comes, goes, and changes
  qubix watch provider:rig-7-3f9a1c job:*     one provider's metrics, and all jobs
  qubix watch provider:* | jq .data.metrics   into a pipe: the exact bytes of the wire
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "watch",
        help="print events as they come",
        description="Print each event of the channels as it came on the wire, one line each, until Ctrl-C. "
        "On a terminal, control characters are escaped.",
        epilog=EXAMPLES,
        formatter_class=RawFormatter,
    )
    parser.add_argument(
        "channels",
        metavar="CHANNEL",
        nargs="+",
        type=channel_key,
        help="marketplace, provider:ID, job:ID, provider:* or job:*",
    )
    parser.add_argument("--snapshot", action="store_true", help="begin with the present state")
    parser.add_argument("--json", action="store_true", help="JSON lines: what it prints anyway")
    add_hub_options(parser)
    parser.set_defaults(run=run)


def channel_key(text: str) -> str:
    """Read a channel key.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    if not channels.is_channel(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no channel; expected marketplace, provider:ID, job:ID, provider:* or job:*"
        )
    return text


def printable(raw: bytes) -> bytes:
    """Escape what a terminal could obey: C0, C1, DEL and bidirectional controls, as JSON escapes.

    Inside JSON these can stand only in strings, so the escaped line means the same.
    """
    text = raw.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text).encode()


def run(arguments: argparse.Namespace) -> int:
    """Print until interrupted or the hub is given up."""
    return asyncio.run(_watch(find_hub(arguments), arguments.channels, snapshot=arguments.snapshot))


async def _watch(target: Target, keys: Sequence[str], *, snapshot: bool) -> int:
    from qubix_tui.cli.dial import dialled
    from qubix_tui.client import ConnectFailed, ConnectionState

    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    on_terminal = sys.stdout.isatty()
    latest = b""

    def remember(raw: bytes) -> None:
        nonlocal latest
        latest = raw

    def write(event: Event) -> None:
        # Only what was published has a channel; a direct reply is no event.
        if event.channel is None or ended.done():
            return
        try:
            sys.stdout.buffer.write((printable(latest) if on_terminal else latest) + b"\n")
            sys.stdout.buffer.flush()
        except OSError as error:
            ended.set_exception(error)

    def say(state: ConnectionState) -> None:
        if state is ConnectionState.RECONNECTING:
            print(f"qubix: {connection.last_error}; trying again", file=sys.stderr)
        elif state is ConnectionState.DISCONNECTED and not ended.done():
            ended.set_result(None)

    async with dialled(target) as connection:
        connection.on_state(say)
        connection.on_raw(remember)
        connection.on("*", write)
        for key in dict.fromkeys(keys):
            connection.subscribe(key, snapshot=snapshot)
        await ended
        try:
            await connection.wait_open(timeout=0)
        except ConnectFailed as error:
            code = EXIT_UNREACHABLE if error.unreachable else EXIT_FAILED
            raise CommandError(f"gave up: {error}", code) from None
    return 0
