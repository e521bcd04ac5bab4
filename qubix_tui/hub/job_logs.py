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
from qubix_tui.protocol.job_records import LogPiece
from qubix_tui.protocol.requests import ReportLogs
from qubix_tui.protocol.types import MAX_SAFE_INTEGER, to_timestamp

LOGS_TABLE: Final = "job_logs"

MAX_LOG_BYTES: Final = 1024 * 1024
"""What is kept of one job's log, as it is stored."""

MAX_PIECES: Final = 4_096
"""Pieces that are kept of one job's log, however small."""

MAX_TEXT_BYTES: Final = 32 * 1024
"""One piece of log, encoded."""

TAIL_BYTES: Final = 64 * 1024
"""What a snapshot shows of a log: the rest is at ``/api/jobs/<id>/logs``."""


_SEQ_BITS: Final = MAX_SAFE_INTEGER.bit_length()
_SIZE_BITS: Final = 20
"""Of a row of the store, which is little longer than `MAX_TEXT_BYTES`."""


class _Index:
    """Which pieces there are of one job's log: one number each, for thousands of jobs have thousands."""

    __slots__ = ("_pieces", "size")

    def __init__(self, rows: dict[str, bytes]) -> None:
        self._pieces = deque[int]()
        self.size = 0
        for key in sorted(rows):
            _, attempt, seq = key.rsplit("/", 2)
            self.add(int(attempt), int(seq), len(rows[key]))

    def __len__(self) -> int:
        return len(self._pieces)

    def add(self, attempt: int, seq: int, size: int) -> None:
        """Know one more."""
        self._pieces.append((attempt << _SEQ_BITS | seq) << _SIZE_BITS | size)
        self.size += size

    def drop_oldest(self) -> tuple[int, int]:
        """Forget the oldest; gives its attempt and number."""
        piece, size = divmod(self._pieces.popleft(), 1 << _SIZE_BITS)
        self.size -= size
        return piece >> _SEQ_BITS, piece & (1 << _SEQ_BITS) - 1


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
        row = codec.encode_record(piece)
        index.add(report.attempt, report.seq, len(row))
        changes = [_change(_key(report.job_id, report.attempt, report.seq), row)]
        while index.size > MAX_LOG_BYTES or len(index) > MAX_PIECES:
            changes.append(_change(_key(report.job_id, *index.drop_oldest()), None))
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
        return [_change(key, None) for key in await self._rows(job_id)]

    def forget(self, job_id: str) -> None:
        """Hold nothing about a job's log in memory; it is read again when that is needed."""
        self._indexes.pop(job_id, None)

    async def _index(self, job_id: str) -> _Index:
        index = self._indexes.get(job_id)
        if index is None:
            index = self._indexes[job_id] = _Index(await self._rows(job_id))
        return index

    async def _rows(self, job_id: str) -> dict[str, bytes]:
        return await self._engine.load(LOGS_TABLE, prefix=f"{job_id}/")


def job_of(key: str) -> str:
    """Give the job whose log a row belongs to."""
    return key.partition("/")[0]


def _key(job_id: str, attempt: int, seq: int) -> str:
    return f"{job_id}/{attempt:04d}/{seq:012d}"


def _change(key: str, row: bytes | None) -> Change:
    """Give the write of a piece. Two hubs never add to one log: each piece comes with a report of its job."""
    return Change(LOGS_TABLE, key, row, blind=True)


def tail(pieces: Sequence[LogPiece], most: int = TAIL_BYTES) -> list[LogPiece]:
    """Give the newest pieces of a log, of at most so many characters together, in their order."""
    taken: list[LogPiece] = []
    for piece in reversed(pieces):
        most -= len(piece.text)
        if most < 0:
            break
        taken.append(piece)
    return taken[::-1]
