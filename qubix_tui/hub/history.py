"""The last ten minutes of every provider, in steps of five seconds."""

from qubix_tui.hub.clock import Clock
from qubix_tui.protocol.records import HistoryPoint, Metrics

STEP_SECONDS = 5
STEPS = 120


class History:
    """A ring of `STEPS` steps per provider, aligned to `STEP_SECONDS` of hub time; bounded.

    Args:
        clock: Hub time (``time``) says which steps are still in the window.
        max_providers: With more, the one that was silent longest is forgotten.
    """

    def __init__(self, clock: Clock, *, max_providers: int = 20_000) -> None:
        raise NotImplementedError

    def record(self, provider_id: str, received: float, metrics: Metrics, *, late: bool = False) -> None:
        """Keep a sample.

        Args:
            provider_id: Whose sample it is.
            received: When the hub received it, seconds since the epoch (`Clock.time`).
            metrics: The sample. The last one of a step is what the step holds.
            late: It was kept while the hub was away: its place is ``sampledAt`` (the provider's clock,
                corrected by what the last live sample showed of it), and it only fills a step that is empty.
                Without ``sampledAt``, or outside of the window, it is dropped.
        """
        raise NotImplementedError

    def points(self, provider_id: str, seconds: float = STEPS * STEP_SECONDS) -> list[HistoryPoint]:
        """Give the steps of the last ``seconds`` that have data, oldest first; empty for the unknown."""
        raise NotImplementedError

    def forget(self, provider_id: str) -> None:
        """Drop a provider's past. Unknown providers are no error."""
        raise NotImplementedError
