"""What an attempt has to tell the hub: numbered before it is sent, kept on disk until it is acknowledged.

Only what was numbered is in here, and of that only what is not acknowledged: never more than the window that
the sender keeps. What comes after it is in the attempt's own files until its turn has come. A message that is
sent again is the same message, whatever happened to the agent meanwhile.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from agent.jobs.files import replace
from agent.jobs.progress import Report

COMPACT_BYTES: Final = 64 * 1024
"""When the file is written anew, with what still counts alone."""

AFTER_REBOOT: Final = 2**20
"""How far the numbers jump with a boot: of those that the hub got, the last may not be on the disk."""


class Logs(msgspec.Struct, frozen=True, kw_only=True, tag="logs"):
    """A piece of a stream: the bytes from ``start`` to ``end``, after ``dropped`` that were lost."""

    stream: Literal["stdout", "stderr"]
    start: int
    end: int
    dropped: int = 0


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag="progress"):
    """How far the job was."""

    report: Report


class Completion(msgspec.Struct, frozen=True, kw_only=True, tag="completion"):
    """How the job ended, as its journal says."""

    bare: bool = False
    """Without the result, which the hub did not take."""


Item = Logs | Progress | Completion


class _Numbered(msgspec.Struct, frozen=True, tag="sent"):
    seq: int
    item: Item


class _Acknowledged(msgspec.Struct, frozen=True, tag="ack"):
    seq: int


class _Summary(msgspec.Struct, frozen=True, tag="summary"):
    """Stands for all lines before it, but for what is not acknowledged."""

    seq: int
    boot_id: str
    offsets: dict[str, int]
    report: Report
    completed: bool


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Numbered | _Acknowledged | _Summary)


class Outbox:
    """The messages of one attempt.

    Args:
        path: Its file; made if it is missing.
        boot_id: The boot of now.

    Attributes:
        last_seq: The newest number given.
        unacknowledged: What the hub has yet to confirm, by number, oldest first.
        offsets: Up to where each stream is in messages.
        report: The newest progress that is in a message.
        completed: Whether the end is in a message.

    Raises:
        OSError: The file can't be read or written.
    """

    def __init__(self, path: Path, boot_id: str) -> None:
        self.last_seq = 0
        self.unacknowledged: dict[int, Item] = {}
        self.offsets = {"stdout": 0, "stderr": 0}
        self.report = Report()
        self.completed = False
        self._path = path
        self._boot_id = boot_id
        self._bytes = 0
        self._read()

    def _read(self) -> None:
        before = self._boot_id
        with contextlib.suppress(FileNotFoundError):
            for line in self._path.read_bytes().splitlines():
                # The last line may have been cut short; it was not sent then.
                with contextlib.suppress(msgspec.MsgspecError):
                    entry = _decoder.decode(line)
                    if isinstance(entry, _Summary):
                        before = entry.boot_id
                    self._take(entry)
        if before != self._boot_id:
            self.last_seq += AFTER_REBOOT
        self._compact()

    def _take(self, entry: _Numbered | _Acknowledged | _Summary) -> None:
        match entry:
            case _Summary():
                self.last_seq, self.report, self.completed = entry.seq, entry.report, entry.completed
                self.offsets = dict(entry.offsets)
            case _Acknowledged():
                self._forget(entry.seq)
            case _Numbered():
                self.unacknowledged[entry.seq] = entry.item
                self.last_seq = max(self.last_seq, entry.seq)
                match entry.item:
                    case Logs():
                        self.offsets[entry.item.stream] = max(self.offsets[entry.item.stream], entry.item.end)
                    case Progress():
                        self.report = entry.item.report
                    case Completion():
                        self.completed = True

    def add(self, item: Item) -> int:
        """Number a message, and keep it; an end is on the disk when this returns.

        Raises:
            OSError: It can't be kept, and must not be sent.
        """
        entry = _Numbered(self.last_seq + 1, item)
        self._append(entry, durable=isinstance(item, Completion))
        self._take(entry)
        return entry.seq

    def acknowledge(self, seq: int) -> None:
        """Let go of all messages up to ``seq``.

        Raises:
            OSError: That can't be noted; they would be sent again after a restart, and ignored.
        """
        if self._forget(seq):
            self._append(_Acknowledged(seq))

    def set_aside(self, seq: int) -> None:
        """Let go of one message that the hub will never take.

        Raises:
            OSError: That can't be noted.
        """
        if self.unacknowledged.pop(seq, None) is not None:
            self._compact()

    def after(self, seq: int) -> Iterator[tuple[int, Item]]:
        """Give what is not acknowledged and younger than ``seq``."""
        return ((number, item) for number, item in self.unacknowledged.items() if number > seq)

    def _forget(self, seq: int) -> bool:
        over = [number for number in self.unacknowledged if number <= seq]
        for number in over:
            del self.unacknowledged[number]
        return bool(over)

    def _append(self, entry: _Numbered | _Acknowledged, *, durable: bool = False) -> None:
        if self._bytes > COMPACT_BYTES:
            self._compact()
        line = b"\n" + _encoder.encode(entry)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            written = os.write(descriptor, line)
            self._bytes += written
            if written < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _compact(self) -> None:
        summary = _Summary(self.last_seq, self._boot_id, self.offsets, self.report, self.completed)
        entries = [summary, *(_Numbered(seq, item) for seq, item in self.unacknowledged.items())]
        content = b"\n".join(map(_encoder.encode, entries))
        replace(self._path, content, durable=self.completed)
        self._bytes = len(content)
