"""Jobs in words, for a table and for a head. No Textual in it."""

from collections.abc import Sequence
from typing import Final

from qubix_tui.console.columns import Piece, bar
from qubix_tui.console.format import UNKNOWN, format_duration, format_money, format_percent, safe
from qubix_tui.console.job_book import JobRow
from qubix_tui.protocol.job_records import Job, JobState

GLYPHS: Final[dict[JobState, tuple[str, str, str]]] = {
    JobState.QUEUED: ("○", "o", "label"),
    JobState.ASSIGNED: ("◌", ".", "label"),
    JobState.RUNNING: ("▲", "R", "busy"),
    JobState.UNKNOWN: ("?", "?", "warn"),
    JobState.COMPLETED: ("●", "v", "ok"),
    JobState.FAILED: ("×", "x", "hot"),
    JobState.CANCELLED: ("‖", "c", "stale"),
}
"""Glyph, its ASCII fallback, and style of each state."""

PERCENT_WIDTH: Final = 4


def state_pieces(job: Job, *, ascii_only: bool) -> Sequence[Piece]:
    """Give a job's state: a glyph and the word."""
    glyph, plain, style = GLYPHS[job.state]
    word = "cancelling" if job.cancel_requested_at and not job.state.is_final else job.state.value
    return [(plain if ascii_only else glyph, style), (f" {word}", style if style != "busy" else "value")]


def progress_pieces(row: JobRow, now: float, width: int, *, ascii_only: bool) -> Sequence[Piece]:
    """Say how far a job is: a bar where it reports a share, else for how long it runs, waits or is away."""
    job, progress = row.job, row.job.progress
    share = progress.progress if progress is not None else None
    if job.state in {JobState.RUNNING, JobState.UNKNOWN} and share is not None:
        number = f"{format_percent(share):>{PERCENT_WIDTH}}"
        room = width - PERCENT_WIDTH - 1
        style = "bar" if job.state is JobState.RUNNING else "stale"
        return [(f"{number} ", "value"), (bar(share, room, ascii_only=ascii_only) if room > 2 else "", style)]
    match job.state:
        case JobState.RUNNING:
            return [(f"runs {format_duration(row.elapsed(now))}", "value")]
        case JobState.UNKNOWN:
            return [(f"no word for {format_duration(row.since(now))}", "warn")]
        case JobState.QUEUED | JobState.ASSIGNED:
            return [(f"waits {format_duration(row.since(now))}", "label")]
        case _:
            took = row.elapsed(now)
            return [("" if took is None else f"took {format_duration(took)}", "label")]


def left_pieces(row: JobRow, now: float) -> Sequence[Piece]:
    """Give the time that is left: to a job by its own account, or to a provider that is out of reach."""
    lease_left = row.lease_left(now)
    if lease_left is not None:
        return [(format_duration(lease_left), "warn")]
    eta = row.eta(now)
    return [(UNKNOWN if eta is None else format_duration(eta), "value")]


def lease_words(row: JobRow, now: float) -> str:
    """Say for how long there is no word from a job's provider, and when it is given up."""
    left = row.lease_left(now)
    silent = f"no word for {format_duration(row.since(now))}"
    return silent if left is None else f"{silent}, given up in {format_duration(left)}"


def reason_words(job: Job) -> str:
    """Give why a job is in its state, harmless to show; empty where there is nothing more to say."""
    return safe(job.reason or "")


def cost_words(row: JobRow, now: float) -> str:
    """Give what a job costs so far."""
    return format_money(row.cost(now))


def provider_name(job: Job, name: str | None) -> str:
    """Give who has a job, or had it last."""
    return safe(name or job.provider_id or UNKNOWN)
