"""The hub's own counters: plain numbers; `qubix_tui.hub.exposition` shows them to Prometheus."""

from bisect import bisect_left
from collections import Counter
from typing import Final

from qubix_tui.protocol.requests import REQUESTS

UNKNOWN: Final = "unknown"
"""The ``type`` label of all messages whose type is not in `REQUESTS`."""

BROADCAST_BOUNDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Upper bounds of the histogram of flushes, in seconds: one write costs about 5 µs, so one to 1,000 readers
lie in the first half; the second half is where a hub is in trouble."""


class Telemetry:
    """Plain numbers; adding to one is all that the hot path does.

    Attributes:
        slow_client_aborts: Connections cut because they did not read.
        rate_limited: Refusals by a limit of ``limits.py``.
        auth_failures: Tokens refused.
        messages_sent: Deliveries by message type; add to it directly where many are sent at once.
        messages_received: Messages by type.
        bytes_sent: Of frames handed to sockets.
        bytes_received: Of frames from clients.
    """

    def __init__(self) -> None:
        self.slow_client_aborts = 0
        self.rate_limited = 0
        self.auth_failures = 0
        self.messages_sent: Counter[str] = Counter()
        self.messages_received: Counter[str] = Counter()
        self.bytes_sent = 0
        self.bytes_received = 0
        self.broadcast_seconds = 0.0
        self.broadcast_counts = [0] * (len(BROADCAST_BOUNDS) + 1)
        """Flushes per interval between two bounds; the last is what lies beyond all."""

    def sent(self, kind: str, count: int = 1) -> None:
        """Count messages written to clients, by type; ``count`` is the number of deliveries."""
        self.messages_sent[kind] += count

    def received(self, kind: str) -> None:
        """Count one message from a client, by type; what is not in `REQUESTS` counts as `UNKNOWN`."""
        self.messages_received[kind if kind in REQUESTS else UNKNOWN] += 1

    def broadcast_took(self, seconds: float) -> None:
        """Count one flush of the fan-out and how long it took."""
        self.broadcast_seconds += seconds
        self.broadcast_counts[bisect_left(BROADCAST_BOUNDS, seconds)] += 1
