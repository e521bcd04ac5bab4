"""Jobs in words, for a terminal or a pipe."""

import re
from collections.abc import Sequence
from typing import IO

from qubix_tui.protocol.checks import printable
from qubix_tui.protocol.events import JobLogged
from qubix_tui.protocol.job_records import Job, JobProgress, LogPiece, Receipt

BAR_WIDTH = 24

_MICROS = 1_000_000
_LINE_END = re.compile(r"\r\n?")


def money(micros: int | None) -> str:
    """Give an amount of the hub's currency, exact to its millionth; a dash where it is not known."""
    if micros is None:
        return "—"
    whole, rest = divmod(micros, _MICROS)
    return f"{whole}.{rest:06d}"


def duration(seconds: float | None) -> str:
    """Give a time span, from `0.0s` to `3d 4h`; a dash where it is not known."""
    if seconds is None:
        return "—"
    if seconds < 60:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    for unit, size, below, part in (("d", 86_400, "h", 3_600), ("h", 3_600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // part}{below}"
    raise AssertionError(seconds)


def percent(progress: JobProgress | None) -> str:
    """Give how far a job is; a dash where it does not say."""
    return "—" if progress is None or progress.progress is None else f"{progress.progress:.0f}%"


def status_line(progress: JobProgress) -> str:
    """Give a job's progress on one line: a bar only where there is a percentage."""
    parts = [progress.status.value]
    if progress.progress is not None:
        filled = round(progress.progress / 100 * BAR_WIDTH)
        parts.append(f"[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {progress.progress:.0f}%")
    if progress.elapsed_seconds:
        parts.append(duration(progress.elapsed_seconds))
    if progress.eta_seconds is not None:
        parts.append(f"{duration(progress.eta_seconds)} left")
    if progress.cost_micros:
        parts.append(f"cost {money(progress.cost_micros)}")
    if progress.message:
        parts.append(printable(progress.message))
    return "  ".join(parts)


def job_lines(job: Job, receipts: Sequence[Receipt]) -> list[str]:
    """Give all that is known of a job, one thing a line."""
    facts = [
        ("job", job.id),
        ("workload", job.workload),
        ("params", " ".join(f"{name}={value}" for name, value in job.params.items()) or "none"),
        ("state", f"{job.state.value}{f' ({job.reason})' if job.reason else ''}"),
        ("progress", "—" if job.progress is None else status_line(job.progress)),
        ("provider", job.provider_id or "—"),
        ("submitted", f"{job.created_at} by {job.submitted_by or '—'}"),
        ("started", job.started_at or "—"),
        ("finished", job.finished_at or "—"),
        ("attempts", str(job.attempt)),
        ("cost", money(job.cost_micros)),
    ]
    if job.cancel_requested_at:
        facts.insert(-2, ("cancelled", f"{job.cancel_requested_at} (wanted)"))
    lines = [f"{name:10} {printable(text, 2_000)}" for name, text in facts]
    return [*lines, *_receipt_lines(receipts)]


def _receipt_lines(receipts: Sequence[Receipt]) -> list[str]:
    if not receipts:
        return []
    lines = ["", "attempt  provider               ran           price/h  cost        how it ended"]
    for receipt in receipts:
        price = "—" if receipt.price_per_hour is None else f"{receipt.price_per_hour:.6g}"
        ended = f"{receipt.status}{f': {receipt.reason}' if receipt.reason else ''}"
        lines.append(
            f"{receipt.attempt:>7}  {receipt.provider_id:21}  {duration(receipt.running_ms / 1000):12}  "
            f"{price:7}  {money(receipt.cost_micros):10}  {printable(ended)}"
        )
    return lines


class LogPrinter:
    """Prints what a job printed: exact bytes into a pipe or file, harmless on a terminal.

    Args:
        out: Where its stdout goes.
        err: Where its stderr goes, and what is said about both.
    """

    def __init__(self, out: IO[str], err: IO[str]) -> None:
        self._streams = {"stdout": out, "stderr": err}
        self._note_to = err
        self._expected: dict[str, int] = {}
        self.at_line_start = True
        """Whether the last that was printed was a whole line."""

    def show(self, piece: LogPiece | JobLogged) -> None:
        """Print one piece, and say what is missing before it."""
        expected = self._expected.get(piece.stream, 0)
        if piece.dropped:
            self._note(f"{piece.dropped} bytes of {piece.stream} dropped: its log limit is reached")
        elif piece.from_ > expected and piece.stream in self._expected:
            self._note(f"{piece.from_ - expected} bytes of {piece.stream} skipped; qubix jobs logs has them")
        self._expected[piece.stream] = piece.from_ + len(piece.text.encode())
        if not piece.text:
            return
        stream = self._streams[piece.stream]
        text = harmless(piece.text) if stream.isatty() else piece.text
        # Straight to the bytes: the job's line ends and characters are its own.
        stream.flush()
        stream.buffer.write(text.encode(errors="replace"))  # type: ignore[attr-defined]
        stream.flush()
        self.at_line_start = text.endswith("\n")

    def _note(self, words: str) -> None:
        start = "" if self.at_line_start else "\n"
        print(f"{start}qubix: {words}", file=self._note_to, flush=True)
        self.at_line_start = True


def harmless(text: str) -> str:
    """Escape all that a terminal could obey but line ends and tabs; a bare carriage return ends a line."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else _escaped(character)
        for character in _LINE_END.sub("\n", text)
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
