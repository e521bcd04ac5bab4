"""One job: how it does, and below that its attempts, parameters, requirements and result."""

import json
from collections.abc import Sequence
from typing import Final, NamedTuple

from rich.cells import cell_len

from qubix_tui.console.format import (
    MIB_PER_GIB,
    UNKNOWN,
    format_duration,
    format_moment,
    format_money,
    format_price,
    safe,
)
from qubix_tui.console.job_book import JobRow
from qubix_tui.console.job_words import cost_words, lease_words, progress_pieces, reason_words, state_pieces
from qubix_tui.console.widgets.line_panel import Line, LinePanel
from qubix_tui.console.widgets.section_panel import SectionPanel
from qubix_tui.console.widgets.tiles import cut, widen
from qubix_tui.protocol.job_records import Job, JobState, Receipt
from qubix_tui.protocol.types import from_timestamp

HEAD_HEIGHT: Final = 3
BAR_WIDTH: Final = 30


class Shown(NamedTuple):
    """What is known of a job."""

    row: JobRow
    provider: str
    """What its provider is called."""
    now: float


class JobHead(LinePanel):
    """A job in three lines: who and where, how far, and what there is to say of it."""

    def __init__(self, *, ascii_only: bool = False) -> None:
        super().__init__(ascii_only=ascii_only)
        self._shown: Shown | None = None
        self._notice = ""

    def show(self, shown: Shown | None, notice: str, *, stale: bool = False) -> None:
        """Show a job.

        Args:
            shown: What is known of it; None for nothing.
            notice: A sentence in place of the last line; empty for none.
            stale: Whether that is no longer of now.
        """
        self._shown, self._notice = shown, notice
        self.changed(stale=stale)

    def make_lines(self, width: int, height: int) -> Sequence[Line]:  # noqa: ARG002 - always of one height
        """Give the three lines."""
        last = [self.text(cut(self._notice, width), "warn")]
        if self._shown is None:
            return [[], [], last]
        row, provider, now = self._shown
        job = row.job
        who = [self.text(job.id, "title"), self.text(f" ({job.workload})  ", "label")]
        who += [self.text(text, style) for text, style in state_pieces(job, ascii_only=self.ascii_only)]
        if job.provider_id is not None:
            attempt = f", attempt {job.attempt}" if job.attempt > 1 else ""
            who.append(self.text(f"  on {provider}{attempt}", "label"))
        far = [
            self.text(text, "fill" if style == "bar" else style)
            for text, style in progress_pieces(row, now, BAR_WIDTH, ascii_only=self.ascii_only)
        ]
        far.append(self.text(f"   {self._numbers(row, now)}", "label"))
        if not self._notice:
            progress = job.progress
            says = safe(progress.message) if progress is not None and progress.message else ""
            style = "hot" if job.state is JobState.FAILED else "value"
            words = cut(reason_words(job) or says, width)
            words = f"{words} " if words else ""
            rule = ("-" if self.ascii_only else "─") * (width - cell_len(words))
            last = [self.text(words, style), self.text(rule, "rule")]
        return [widen(self, who, width), widen(self, far, width), last]

    @staticmethod
    def _numbers(row: JobRow, now: float) -> str:
        parts = []
        if row.job.state is JobState.RUNNING:
            parts.append(f"runs for {format_duration(row.elapsed(now))}")
        if row.job.state is JobState.UNKNOWN:
            parts.append(lease_words(row, now))
        eta = row.eta(now)
        if eta is not None:
            parts.append(f"{format_duration(eta)} left, it says")
        cost = f"cost {cost_words(row, now)}"
        parts.append(_cost(cost, row.cost(now), row.job.price_per_hour))
        return ", ".join(parts)


def _cost(words: str, micros: int | None, per_hour: float | None) -> str:
    """Add the price to the words for what something costs."""
    if per_hour is None:
        return "no price" if micros is None else words
    return f"{words} at {format_price(per_hour)}/h"


class JobFacts(SectionPanel):
    """A job's attempts, parameters, requirements, and what it left."""

    def __init__(self, *, ascii_only: bool = False) -> None:
        super().__init__(ascii_only=ascii_only)
        self._shown: Shown | None = None

    def show(self, shown: Shown, *, stale: bool = False) -> None:
        """Show a job."""
        self._shown = shown
        self.grown(stale=stale)

    def sections(self, width: int) -> Sequence[tuple[str, Sequence[Line]]]:
        """Give the sections."""
        if self._shown is None:
            return []
        row, job = self._shown.row, self._shown.row.job
        facts = {
            "attempts": self._attempts(row),
            "parameters": [(name, _json(value)) for name, value in job.params.items()] or [("", "none")],
            "requires": _requirements(job),
            "result": [("", line) for line in _result_lines(job)],
            "record": self._record(job),
        }
        return [
            (title, [self.row(label, value, width) for label, value in rows]) for title, rows in facts.items()
        ]

    def _attempts(self, row: JobRow) -> list[tuple[str, str]]:
        assert self._shown is not None
        job, now = row.job, self._shown.now
        facts = [(f"{receipt.attempt}", self._receipt(receipt)) for receipt in row.receipts]
        if not job.state.is_final and job.attempt:
            since = format_duration(row.since(now))
            facts.append((f"{job.attempt}", f"{job.state} for {since} on {self._shown.provider}"))
        return facts

    def _receipt(self, receipt: Receipt) -> str:
        assert self._shown is not None
        when = format_moment(from_timestamp(receipt.assigned_at), self._shown.now)
        why = f", {safe(receipt.reason)}" if receipt.reason else ""
        ran = format_duration(receipt.running_ms / 1000)
        return (
            f"{when}  {receipt.status}{why} on {receipt.provider_id}, ran {ran}, "
            f"{_cost(format_money(receipt.cost_micros), receipt.cost_micros, receipt.price_per_hour)}"
        )

    def _record(self, job: Job) -> list[tuple[str, str]]:
        assert self._shown is not None
        now = self._shown.now
        moments = {
            "submitted": job.created_at,
            "started": job.started_at,
            "cancelled": job.cancel_requested_at,
            "ended": job.finished_at,
        }
        facts = [
            (name, format_moment(from_timestamp(stamp), now)) for name, stamp in moments.items() if stamp
        ]
        return [*facts, ("by", safe(job.submitted_by or UNKNOWN))]


def _requirements(job: Job) -> list[tuple[str, str]]:
    wanted = job.requires
    facts = [("GPU", safe(wanted.gpu_model or "any"))]
    if wanted.min_gpu_mem_mb is not None:
        facts.append(("memory", f"at least {wanted.min_gpu_mem_mb / MIB_PER_GIB:.0f}G a GPU"))
    if wanted.max_price_per_hour is not None:
        facts.append(("price", f"at most {format_price(wanted.max_price_per_hour)}/h"))
    if wanted.provider_id is not None:
        facts.append(("provider", f"{wanted.provider_id} and no other"))
    if wanted.simulated:
        facts.append(("simulated", "a made-up provider"))
    return facts


def _result_lines(job: Job) -> list[str]:
    if job.result is None:
        return []
    return [safe(line) for line in json.dumps(job.result, indent=2, ensure_ascii=False).splitlines()]


def _json(value: object) -> str:
    return safe(json.dumps(value, ensure_ascii=False))
