"""A clock that moves only when a test says so."""


class ManualClock:
    """Implements `qubix_tui.hub.clock.Clock`; both of its clocks move together unless one is set apart."""

    def __init__(self, *, now: float = 1_800_000_000.0, elapsed: float = 1_000.0) -> None:
        self.now = now
        self.elapsed = elapsed

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.elapsed

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass on both clocks."""
        self.now += seconds
        self.elapsed += seconds
