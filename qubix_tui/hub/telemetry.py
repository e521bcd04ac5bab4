"""The hub's own counters."""


class Telemetry:
    """Plain numbers; adding to one is all that the hot path does."""

    def __init__(self) -> None:
        self.slow_client_aborts = 0
        self.rate_limited = 0
        self.auth_failures = 0

    def sent(self, kind: str, count: int = 1) -> None:
        """Count messages written to clients, by type; ``count`` is the number of deliveries."""
        raise NotImplementedError

    def received(self, kind: str) -> None:
        """Count one message from a client, by type (those of no known type are counted together)."""
        raise NotImplementedError

    def broadcast_took(self, seconds: float) -> None:
        """Count one flush of the fan-out and how long it took."""
        raise NotImplementedError

    def render(self, *, connections: int, subscriptions: int) -> str:
        """Write everything as OpenMetrics text."""
        raise NotImplementedError
