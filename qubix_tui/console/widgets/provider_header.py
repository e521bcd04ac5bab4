"""Who a provider is, what it does, and how fresh that is: three lines at the top of its screen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from qubix_tui.console.columns import state_piece
from qubix_tui.console.format import UNKNOWN, format_age, format_price, safe
from qubix_tui.console.widgets.line_panel import Line, LinePanel
from qubix_tui.console.widgets.tiles import cut, widen
from qubix_tui.protocol.records import Provider

HEIGHT: Final = 3

SILENT_SECONDS: Final = 15.0
"""An age from which on a provider is called silent; the hub calls it unreachable then."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How things are with a provider."""

    provider_id: str
    record: Provider | None
    reason: str | None
    """Why it is in its state."""
    gpus: str
    """``4× RTX 4090``."""
    age: float | None
    """Seconds since the hub received the newest sample; None before the first."""
    is_stale: bool
    is_connected: bool
    """Whether the hub is heard: else the state, too, is of the past."""
    span_label: str
    job_words: str | None
    """How the job that it has does: ``62%, 3m12s, 0.02 so far``."""
    notice: str | None
    """A sentence about what is shown, where that needs one."""


class ProviderHeader(LinePanel):
    """A provider's name, state and facts, and a sentence where one is needed, else a rule."""

    def __init__(self, *, ascii_only: bool = False) -> None:
        super().__init__(ascii_only=ascii_only)
        self._standing: Standing | None = None

    def show(self, standing: Standing) -> None:
        """Show how things are; drawn anew only where that changed."""
        if standing != self._standing:
            self._standing = standing
            self.changed()

    def make_lines(self, width: int, height: int) -> Sequence[Line]:  # noqa: ARG002 - always of one height
        """Give the three lines."""
        standing = self._standing
        if standing is None:
            return []
        if standing.notice is not None:
            last = [self.text(cut(standing.notice, width), "warn")]
        else:
            last = [self.text(("-" if self.ascii_only else "─") * width, "rule")]
        return [self._who(standing, width), self._what(standing, width), last]

    def _who(self, standing: Standing, width: int) -> Line:
        record = standing.record
        name = (record.name if record is not None else None) or standing.provider_id
        line = [self.text(safe(name), "title")]
        if record is not None:
            if record.simulated:
                line.append(self.text(" SIM", "warn"))
            glyph, style = state_piece(record.state, ascii_only=self.ascii_only)
            if not standing.is_connected:
                style = "stale"
            line.append(self.text(f"  {glyph} {record.state}", style))
            if standing.reason:
                line.append(self.text(f", {safe(standing.reason)}", "label"))
            job = record.current_job_id
            line.append(
                self.text(
                    f"   {safe(job)}" if job else "   no job",
                    "value" if job and standing.is_connected else "label",
                )
            )
            if standing.job_words:
                line.append(self.text(f" {standing.job_words}", "label"))
        return self._with_end(line, *self._freshness(standing), width)

    def _what(self, standing: Standing, width: int) -> Line:
        record = standing.record
        if record is None:
            return []
        parts = [standing.gpus]
        if record.gpu_count != 0:
            parts += [
                f"driver {safe(record.driver_version or UNKNOWN)}",
                f"CUDA {safe(record.cuda_version or UNKNOWN)}",
            ]
        parts += [safe(record.location or f"location {UNKNOWN}"), f"{format_price(record.price_per_hour)}/h"]
        words = [self.text(" · ".join(parts), "label")]
        return self._with_end(words, f"last {standing.span_label}", "label", width)

    def _freshness(self, standing: Standing) -> tuple[str, str]:
        age = standing.age
        if age is None:
            return "no sample yet", "label"
        shown = format_age(age)
        if not standing.is_stale:
            return f"{'o' if self.ascii_only else '●'} live {shown}", "ok"
        word = "late" if standing.is_connected and age < SILENT_SECONDS else "stale"
        return f"{'x' if self.ascii_only else '○'} {word} {shown}", "warn"

    def _with_end(self, line: Line, end: str, style: str, width: int) -> Line:
        """Put words at the right end of a line, over what has no room there."""
        room = width - len(end) - 1
        return [*widen(self, line, max(0, room)), self.text(f" {end}", style)]
