"""What all curves of a screen share."""

from collections.abc import Sequence
from dataclasses import dataclass

from qubix_tui.console.provider_history import Metric, ProviderHistory
from qubix_tui.console.widgets.graph import Mark, Trace


@dataclass(frozen=True, slots=True)
class Timeline:
    """One provider's past, and the part of it that is shown."""

    history: ProviderHistory
    end: float
    """The moment at the right edge, hub time."""
    span: float
    """Seconds shown."""
    span_label: str
    marks: Sequence[Mark] = ()

    def trace(
        self,
        metric: Metric,
        name: str,
        top: float,
        top_label: str,
        *,
        bands: Sequence[tuple[float, str]] = (),
        tells_marks: bool = False,
    ) -> Trace:
        """Give the curve of one metric; ``tells_marks`` where it is the one that names the events."""
        return Trace(
            name=name,
            peaks=lambda window: self.history.peaks(metric, window),
            end=self.end,
            span=self.span,
            top=top,
            top_label=top_label,
            span_label=self.span_label,
            marks=self.marks if tells_marks else [Mark(moment, "") for moment, _ in self.marks],
            bands=bands,
        )
