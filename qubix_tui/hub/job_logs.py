"""What jobs print: the last 1 MiB of each is kept, in pieces, as it came.

A piece is a row whose key sorts by job, attempt and report. What there is of a job is read from the store
when its next piece comes, and forgotten when it is over, so that memory holds a few bytes for each piece of
the jobs that run.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

from qubix_tui.hub.engine.base import Change, Engine
from qubix_tui.protocol import codec
from qubix_tui.protocol.errors import ErrorCode, ProtocolError
from qubix_tui.protocol.records import LogPiece
from qubix_tui.protocol.requests import ReportLogs
from qubix_tui.protocol.types import to_timestamp

LOGS_TABLE: Final = "job_logs"

MAX_LOG_BYTES: Final = 1024 * 1024
"""What is kept of one job's log, as it is stored."""

MAX_PIECES: Final = 4_096
"""Pieces that are kept of one job's log, however small."""

MAX_TEXT_BYTES: Final = 32 * 1024
"""One piece of log, encoded."""

TAIL_BYTES: Final = 64 * 1024
"""What a snapshot shows of a log: the rest is at ``/api/jobs/<id>/logs``."""


class _Index:
    """Which pieces there are of one job's log."""

    __slots__ = ("pieces", "size")

    def __init__(self, rows: dict[str, bytes]) -> None:
        self.pieces = deque((key, len(rows[key])) for key in sorted(rows))
        self.size = sum(size for _, size in self.pieces)


class JobLogs:
    """The logs of one hub's jobs.

    Args:
        engine: Where they are kept.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._indexes: dict[str, _Index] = {}

    async def add(self, report: ReportLogs, now: float) -> tuple[LogPiece, list[Change]]:
        """Decide what to write for a piece of log.

        Nothing else may be decided about that log before it is written; where that fails, `forget` it.

        Raises:
            ProtocolError: ``too_large``.
            EngineUnavailable: The store can't be read.
        """
        size = len(codec.encode_record(report.text))
        if size > MAX_TEXT_BYTES:
            raise ProtocolError(
                ErrorCode.TOO_LARGE,
                f"a piece of log has at most {MAX_TEXT_BYTES} bytes; this one has {size}",
                field="data.text",
            )
        piece = LogPiece(
            attempt=report.attempt,
            stream=report.stream,
            from_=report.from_,
            text=report.text,
            dropped=report.dropped,
            timestamp=to_timestamp(now),
        )
        index = await self._index(report.job_id)
        key = f"{report.job_id}/{report.attempt:04d}/{report.seq:012d}"
        row = codec.encode_record(piece)
        index.pieces.append((key, len(row)))
        index.size += len(row)
        changes = [Change(LOGS_TABLE, key, row)]
        while index.size > MAX_LOG_BYTES or len(index.pieces) > MAX_PIECES:
            oldest, size = index.pieces.popleft()
            index.size -= size
            changes.append(Change(LOGS_TABLE, oldest, None))
        return piece, changes

    async def size(self, job_id: str) -> int:
        """Give the bytes that a job's log takes.

        Raises:
            EngineUnavailable: The store can't be read.
        """
        return (await self._index(job_id)).size

    async def read(self, job_id: str) -> list[LogPiece]:
        """Give what is kept of a job's log, the oldest piece first.

        Raises:
            EngineUnavailable: The store can't be read.
            ProtocolError: It is not what a hub has written.
        """
        rows = await self._rows(job_id)
        return [codec.decode_record(rows[key], LogPiece) for key in sorted(rows)]

    async def removal(self, job_id: str) -> list[Change]:
        """Give what is to be written to be rid of a job's log.

        Raises:
            EngineUnavailable: The store can't be read.
        """
        return [Change(LOGS_TABLE, key, None) for key in await self._rows(job_id)]

    def forget(self, job_id: str) -> None:
        """Hold nothing about a job's log in memory."""
        self._indexes.pop(job_id, None)

    async def _index(self, job_id: str) -> _Index:
        index = self._indexes.get(job_id)
        if index is None:
            index = self._indexes[job_id] = _Index(await self._rows(job_id))
        return index

    async def _rows(self, job_id: str) -> dict[str, bytes]:
        return await self._engine.load(LOGS_TABLE, prefix=f"{job_id}/")


def tail(pieces: Sequence[LogPiece], most: int = TAIL_BYTES) -> list[LogPiece]:
    """Give the newest pieces of a log, of at most so many characters together, in their order."""
    taken: list[LogPiece] = []
    for piece in reversed(pieces):
        most -= len(piece.text)
        if most < 0:
            break
        taken.append(piece)
    return taken[::-1]
