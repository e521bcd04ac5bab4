"""The hub's own counters, and how they are written for Prometheus (OpenMetrics text).

No client or channel is ever a label: their number has no bound.
"""

from bisect import bisect_left
from collections import Counter
from typing import Final

import qubix_tui
from qubix_tui.protocol.requests import REQUESTS

CONTENT_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

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
    """

    def __init__(self) -> None:
        self.slow_client_aborts = 0
        self.rate_limited = 0
        self.auth_failures = 0
        self.messages_sent: Counter[str] = Counter()
        self.messages_received: Counter[str] = Counter()
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

    def render(self, *, connections: int, subscriptions: int) -> str:
        """Write everything as OpenMetrics text.

        Args:
            connections: Open connections now.
            subscriptions: Subscriptions that they hold now, each counted.
        """
        lines = [
            *_family("qubix_build", "info", "What runs here."),
            f'qubix_build_info{{version="{qubix_tui.__version__}"}} 1',
            *_family("qubix_connections", "gauge", "Open WebSocket connections."),
            f"qubix_connections {connections}",
            *_family("qubix_subscriptions", "gauge", "Subscriptions held by all connections together."),
            f"qubix_subscriptions {subscriptions}",
            *_by_type("qubix_messages_sent", "Messages delivered to clients.", self.messages_sent),
            *_by_type("qubix_messages_received", "Messages from clients.", self.messages_received),
            *_total("qubix_slow_client_aborts", "Clients cut: they did not read.", self.slow_client_aborts),
            *_total("qubix_rate_limited", "Requests refused by a limit.", self.rate_limited),
            *_total("qubix_auth_failures", "Tokens refused.", self.auth_failures),
            *self._broadcast_lines(),
            "# EOF\n",
        ]
        return "\n".join(lines)

    def _broadcast_lines(self) -> list[str]:
        name = "qubix_broadcast_duration_seconds"
        lines = _family(name, "histogram", "How long one flush of the fan-out took.", unit="seconds")
        total = 0
        for bound, count in zip((*BROADCAST_BOUNDS, "+Inf"), self.broadcast_counts, strict=True):
            total += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {total}')
        return [*lines, f"{name}_count {total}", f"{name}_sum {self.broadcast_seconds}"]


def _family(name: str, kind: str, words: str, *, unit: str | None = None) -> list[str]:
    lines = [f"# TYPE {name} {kind}", f"# HELP {name} {words}"]
    return [*lines, f"# UNIT {name} {unit}"] if unit else lines


def _total(name: str, words: str, value: int) -> list[str]:
    return [*_family(name, "counter", words), f"{name}_total {value}"]


def _by_type(name: str, words: str, counts: Counter[str]) -> list[str]:
    samples = [f'{name}_total{{type="{kind}"}} {count}' for kind, count in sorted(counts.items())]
    return [*_family(name, "counter", words), *samples]
