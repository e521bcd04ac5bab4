"""What a job prints: taken from its pipe, kept up to a limit, counted beyond it.

Of what is beyond the limit the very end is kept too: that is where a job says why it failed.
"""

import contextlib
import os
from collections import deque
from pathlib import Path
from typing import Final

import msgspec

READ_BYTES: Final = 64 * 1024
TAIL_BYTES: Final = 16 * 1024

_READS_A_TURN: Final = 16
"""A job that floods must not keep its supervisor from looking at the clock."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of one stream, in bytes: the first ``head``, and the last ``tail`` of the ``total``."""

    total: int = 0
    head: int = 0
    tail: int = 0


class Budget:
    """How many more bytes may be kept, of both streams together."""

    def __init__(self, left: int) -> None:
        self.left = left


class Stream:
    """One stream of a job.

    Args:
        name: ``stdout`` or ``stderr``.
        pipe: The end to read; it is closed with this.
        path: Where the beginning is kept; the end goes beside it, into ``<name>.tail``.
        budget: What may still be kept.

    Raises:
        OSError: The file can't be made.
    """

    def __init__(self, name: str, pipe: int, path: Path, budget: Budget) -> None:
        self.name = name
        self.pipe = pipe
        self.is_open = True
        self._path = path
        self._budget = budget
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._total = 0
        self._head = 0
        self._is_full = False
        self._end: deque[bytes] = deque()
        self._end_bytes = 0
        os.set_blocking(pipe, False)

    def read(self) -> list[bytes]:
        """Take what is there, or a part of it if that is much; ``is_open`` says whether more can come."""
        chunks = []
        for _ in range(_READS_A_TURN):
            try:
                chunk = os.read(self.pipe, READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                chunk = b""
            if not chunk:
                self.is_open = False
                break
            self._keep(chunk)
            chunks.append(chunk)
        return chunks

    def _keep(self, chunk: bytes) -> None:
        self._total += len(chunk)
        written = 0
        if not self._is_full:
            wanted = chunk[: self._budget.left]
            # A full disk is no reason to end a job.
            with contextlib.suppress(OSError):
                written = os.write(self._file, wanted)
            self._head += written
            self._budget.left -= written
            # Once there is a gap nothing more can be appended after it.
            self._is_full = written < len(chunk)
        if self._is_full:
            self._end.append(chunk[written:])
            self._end_bytes += len(chunk) - written
            while self._end_bytes - len(self._end[0]) >= TAIL_BYTES:
                self._end_bytes -= len(self._end.popleft())

    def close(self) -> Kept:
        """Keep the end, let go of pipe and file, and say what is kept."""
        tail = b"".join(self._end)[-TAIL_BYTES:]
        if tail:
            try:
                self._path.with_name(f"{self.name}.tail").write_bytes(tail)
            except OSError:
                tail = b""
        os.close(self._file)
        os.close(self.pipe)
        return Kept(total=self._total, head=self._head, tail=len(tail))
