"""Turns an attempt's files into messages for the hub: what it printed, how far it is, how it ended."""

import codecs
import os
from typing import Final, Literal

import msgspec

from agent.jobs.files import Ended, Files
from agent.jobs.outbox import Completion, Item, Logs, Outbox, Progress
from agent.jobs.output import Kept
from qubix_tui.protocol.events import JOB_COMPLETED, JOB_LOGS, JOB_PROGRESS
from qubix_tui.protocol.requests import ReportCompletion, ReportedProgress, ReportLogs, ReportProgress

MAX_CHUNK_BYTES: Final = 32 * 1024
"""Of a piece of output, as it is encoded."""

PROGRESS_SECONDS: Final = 0.5
"""Between two messages of progress."""

LOGS_SECONDS: Final = 0.25
LONG_BYTES: Final = 4 * 1024
"""Between two pieces of output, unless a piece is as long as this."""

STREAMS: Final[tuple[Literal["stdout", "stderr"], ...]] = ("stdout", "stderr")

Message = ReportLogs | ReportProgress | ReportCompletion


class Reporter:
    """What one attempt has to say.

    Args:
        job_id: The job.
        attempt: The attempt.
        files: Its directory.
        outbox: Its messages.
    """

    def __init__(self, job_id: str, attempt: int, files: Files, outbox: Outbox) -> None:
        self._job_id = job_id
        self._attempt = attempt
        self._files = files
        self._outbox = outbox
        self._progress_at = float("-inf")
        self._logs_at = {"stdout": float("-inf"), "stderr": float("-inf")}

    def next_item(self, now: float, ended: Ended | None) -> Item | None:
        """Give what is to be said next, None where there is nothing (yet): first all output, last the end.

        Args:
            now: Seconds of a clock that only goes forward.
            ended: How the job ended, None while it runs.
        """
        if self._outbox.completed:
            return None
        for stream in STREAMS:
            logs = self._next_logs(stream, ended)
            if logs is not None and (ended is not None or self._is_due(logs, now)):
                self._logs_at[stream] = now
                return logs
        if ended is not None or now - self._progress_at >= PROGRESS_SECONDS:
            report = self._files.read_progress()
            if report != self._outbox.report:
                self._progress_at = now
                return Progress(report=report)
        return None if ended is None else Completion()

    def message(self, seq: int, item: Item, ended: Ended | None) -> tuple[str, Message]:
        """Give type and data of a message: always the same for the same number."""
        match item:
            case Logs():
                raw = self._bytes(item.stream, item.start, item.end - item.start, ended)
                return JOB_LOGS, ReportLogs(
                    job_id=self._job_id,
                    attempt=self._attempt,
                    seq=seq,
                    stream=item.stream,
                    from_=item.start,
                    text=raw.decode(errors="replace"),
                    dropped=item.dropped,
                )
            case Progress():
                progress = ReportedProgress(
                    progress=item.report.progress,
                    message=item.report.message,
                    source=item.report.source,
                    eta_seconds=item.report.eta,
                )
                return JOB_PROGRESS, ReportProgress(
                    job_id=self._job_id, attempt=self._attempt, seq=seq, progress=progress
                )
            case Completion():
                assert ended is not None, "an end is said of what has ended"
                return JOB_COMPLETED, ReportCompletion(
                    job_id=self._job_id,
                    attempt=self._attempt,
                    seq=seq,
                    status=ended.status,
                    reason=ended.reason,
                    result=None if item.bare else ended.result,
                )

    def _is_due(self, logs: Logs, now: float) -> bool:
        """Whether a piece is long enough to be sent, or has waited: a job that prints a word at a time."""
        return logs.end - logs.start >= LONG_BYTES or now - self._logs_at[logs.stream] >= LOGS_SECONDS

    def _next_logs(self, stream: Literal["stdout", "stderr"], ended: Ended | None) -> Logs | None:
        start = self._outbox.offsets[stream]
        if ended is None:
            _, used = piece(self._bytes(stream, start, MAX_CHUNK_BYTES, None), final=False)
            return Logs(stream=stream, start=start, end=start + used) if used else None
        kept: Kept = getattr(ended, stream)
        if start >= kept.total:
            return None
        dropped, stop = 0, kept.head
        if start >= kept.head:
            dropped, stop = max(kept.total - kept.tail - start, 0), kept.total
        raw = self._bytes(stream, start + dropped, MAX_CHUNK_BYTES, ended)
        _, used = piece(raw, final=start + dropped + len(raw) >= stop)
        if not used:
            # Not kept, or gone since.
            dropped = kept.total - start
        return Logs(stream=stream, start=start + dropped, end=start + dropped + used, dropped=dropped)

    def _bytes(self, stream: str, start: int, length: int, ended: Ended | None) -> bytes:
        path = self._files.stream(stream)
        if ended is not None:
            kept: Kept = getattr(ended, stream)
            if start < kept.head:
                length = min(length, kept.head - start)
            else:
                path, start = self._files.tail(stream), start - (kept.total - kept.tail)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return b""
        try:
            return os.pread(descriptor, length, start)
        finally:
            os.close(descriptor)


def piece(raw: bytes, *, final: bool) -> tuple[str, int]:
    """Decode as many of these bytes as fit into one message, up to the end of a character.

    Args:
        raw: UTF-8, or what a job takes for it: the rest is replaced.
        final: Whether nothing follows, so that half a character at the end is one that is broken.

    Returns:
        The text, and how many bytes it stands for.
    """
    while True:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        text = decoder.decode(raw, final)
        if len(msgspec.json.encode(text)) <= MAX_CHUNK_BYTES:
            return text, len(raw) - len(decoder.getstate()[0])
        raw, final = raw[: len(raw) // 2], False
