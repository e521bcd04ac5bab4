"""The hub's framing under the Autobahn test suite: RFC 6455, case by case.

``python -m benchmarks.autobahn --wstest /path/to/wstest`` runs it, and prints a table. The suite (PyPI:
autobahntestsuite 0.8.2) is a program for Python 2.7. It talks to a server that sends back what it gets, which
a hub does not; so this one is made of the hub's own connection, limits and options, with an echo in the place
of its conversation.
"""

import argparse
import asyncio
import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.server import ServerProtocol

from qubix_tui.hub.framed_connection import (
    CLOSING_SECONDS,
    READ_LIMIT,
    WRITE_LIMIT,
    FramedConnection,
)
from qubix_tui.hub.telemetry import Telemetry

SECTIONS = {
    "1": "framing",
    "2": "pings and pongs",
    "3": "reserved bits",
    "4": "opcodes",
    "5": "fragmentation",
    "6": "UTF-8",
    "7": "closing",
    "9": "limits and performance",
    "10": "auto-fragmentation",
}
"""The suite's own. 12 and 13 are about compression, which a hub does not offer."""

_TELEMETRY = Telemetry()
_TEXT, _BINARY = 0x81, 0x82


class Echo(FramedConnection):
    """A connection of a hub, which sends back what it gets."""

    def __init__(
        self,
        protocol: ServerProtocol,
        server: Server,
        **options: Any,  # noqa: ANN401 - handed on
    ) -> None:
        super().__init__(protocol, server, telemetry=_TELEMETRY, **options)

    def begin(self) -> None:
        """The handshake is over."""
        self.let_go()
        self.opened = True

    def take_message(self, message: bytes) -> None:
        """Send it back; text that is none is answered in words, as a hub does."""
        if self.is_text:
            try:
                message.decode()
            except UnicodeDecodeError as error:
                message = str(error).encode()
        self.write(_frame(_TEXT if self.is_text else _BINARY, message))

    def take_control(self, size: int) -> None:
        """Nothing is counted here."""

    def may_read(self) -> bool:
        """Whether the client reads."""
        return not self.paused


def _frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65_536:
        return bytes((first, 126)) + size.to_bytes(2, "big") + payload
    return bytes((first, 127)) + size.to_bytes(8, "big") + payload


async def _serve(connection: ServerConnection) -> None:
    assert isinstance(connection, Echo)
    connection.begin()


async def run(wstest: str, directory: Path) -> Mapping[str, Any]:
    """Run the suite against the echo; gives its index of cases."""
    async with serve(
        _serve,
        "127.0.0.1",
        0,
        create_connection=Echo,
        compression=None,
        ping_interval=None,
        close_timeout=CLOSING_SECONDS,
        max_size=READ_LIMIT,
        write_limit=WRITE_LIMIT,
    ) as server:
        port = server.sockets[0].getsockname()[1]
        spec = {
            "outdir": str(directory / "reports"),
            "servers": [{"agent": "QUBIX", "url": f"ws://127.0.0.1:{port}"}],
            "cases": [f"{section}.*" for section in SECTIONS],
            "exclude-cases": [],
        }
        (directory / "spec.json").write_text(json.dumps(spec))
        process = await asyncio.create_subprocess_exec(
            wstest, "--mode", "fuzzingclient", "--spec", str(directory / "spec.json"), cwd=directory
        )
        if await process.wait() != 0:
            raise SystemExit("wstest failed; what it said is above")
    index: Mapping[str, Any] = json.loads((directory / "reports" / "index.json").read_text())["QUBIX"]
    return index


def table(index: Mapping[str, Any]) -> str:
    """Write what came of each section, and in which of its parts cases ended otherwise than expected."""
    lines = [
        "| section | cases | as expected | of no matter | otherwise | of these in |",
        "|---|---|---|---|---|---|",
    ]
    for section, name in SECTIONS.items():
        ends = {case: one["behavior"] for case, one in index.items() if case.split(".")[0] == section}
        counts = Counter(ends.values())
        failed = sorted((case for case, end in ends.items() if end == "FAILED"), key=_order)
        parts = Counter(case if len(failed) < 5 else case.rpartition(".")[0] for case in failed)
        lines.append(
            f"| {section} {name} | {len(ends)} | {counts['OK']} | "
            f"{counts['NON-STRICT'] + counts['INFORMATIONAL']} | {len(failed)} | {', '.join(parts) or '—'} |"
        )
    return "\n".join(lines)


def _order(case: str) -> list[int]:
    return [int(part) for part in case.split(".")]


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wstest", default="wstest", help="the suite's program (default: wstest)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        print(table(asyncio.run(run(arguments.wstest, Path(directory)))))


if __name__ == "__main__":
    main()
