"""What the console knows of the hub itself: its newest numbers, and rates. No Textual in it."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from qubix_tui.console.time_series import TimeSeries
from qubix_tui.protocol.answers import FlushBucket, HubStatistics, TypeCount
from qubix_tui.protocol.types import from_timestamp

ASK_SECONDS: Final = 1.0
"""How often the hub is asked."""

RATE_SECONDS: Final = 5.0
"""What a rate in a table is the mean of: a digest each second would have it jump between two numbers."""

HOLD_SECONDS: Final = 2.5 * ASK_SECONDS
"""How long a value is taken to last when no answer follows."""

TAIL: Final = 0.99

SENT: Final = "sent"
RECEIVED: Final = "received"
SENT_BYTES: Final = "sent bytes"
RECEIVED_BYTES: Final = "received bytes"
CONNECTIONS: Final = "connections"
FLUSH: Final = "flush"
"""Names of the curves: messages a second, bytes a second, pieces, and seconds (the 99th percentile)."""


class Traffic(NamedTuple):
    """Messages of one type."""

    type: str
    rate: float | None
    """A second; None before there were two answers."""
    total: int


class Flushes(NamedTuple):
    """How long the fan-out took, in the last `RATE_SECONDS`; None where it had nothing to do."""

    rate: float
    """A second."""
    mean: float | None
    """Seconds."""
    tail: float | None
    """The bound, in seconds, that 99 of 100 stay below."""


class HubWatch:
    """A hub's numbers over time."""

    def __init__(self) -> None:
        self.newest: HubStatistics | None = None
        self.newest_at: float | None = None
        """The hub's clock at the newest numbers, seconds since the epoch."""
        self.series: TimeSeries[str] = TimeSeries()
        self._recent: deque[tuple[float, HubStatistics]] = deque()

    def take(self, stats: HubStatistics) -> None:
        """Take in an answer to ``hub:stats``."""
        moment = from_timestamp(stats.timestamp)
        last = self.newest
        if last is not None and stats.uptime_seconds <= last.uptime_seconds:
            self._recent.clear()  # another hub, or the same one started anew: its counters began again
            last = None
        if self.newest_at is not None and moment <= self.newest_at:
            # The hub's clock was set back, or is another one's: what was seen before has no place before it.
            self.series = TimeSeries()
        values: dict[str, float] = {CONNECTIONS: stats.connections}
        if last is not None:
            values |= _values_between(last, stats)
        self.series.append(moment, values, hold=HOLD_SECONDS)
        self.newest, self.newest_at = stats, moment
        self._recent.append((stats.uptime_seconds, stats))
        while len(self._recent) > 2 and self._recent[1][0] <= stats.uptime_seconds - RATE_SECONDS:
            self._recent.popleft()

    def sent(self) -> list[Traffic]:
        """Give what was delivered, the busiest type first."""
        return self._traffic(lambda stats: stats.sent)

    def received(self) -> list[Traffic]:
        """Give what came in, the busiest type first."""
        return self._traffic(lambda stats: stats.received)

    def flushes(self) -> Flushes | None:
        """Give how the fan-out does; None before there were two answers."""
        span = self._span()
        if span is None:
            return None
        (_, old), (_, new), seconds = span
        counts = _difference(old.flushes, new.flushes)
        total = sum(counts)
        if not total:
            return Flushes(0.0, None, None)
        mean = max(0.0, new.flush_seconds - old.flush_seconds) / total
        return Flushes(total / seconds, mean, _percentile(new.flushes, counts))

    def grown(self) -> Mapping[str, int]:
        """Give by how much each counter of trouble grew in the last `RATE_SECONDS`."""
        span = self._span()
        if span is None:
            return {}
        (_, old), (_, new), _ = span
        return {
            "slow_clients": new.slow_clients - old.slow_clients,
            "rate_limited": new.rate_limited - old.rate_limited,
            "auth_failures": new.auth_failures - old.auth_failures,
        }

    def _span(self) -> tuple[tuple[float, HubStatistics], tuple[float, HubStatistics], float] | None:
        if len(self._recent) < 2:
            return None
        old, new = self._recent[0], self._recent[-1]
        return old, new, new[0] - old[0]

    def _traffic(self, of: Callable[[HubStatistics], Sequence[TypeCount]]) -> list[Traffic]:
        newest, span = self.newest, self._span()
        if newest is None:
            return []
        before = {} if span is None else {entry.type: entry.count for entry in of(span[0][1])}
        shown = [
            Traffic(
                entry.type,
                None if span is None else (entry.count - before.get(entry.type, 0)) / span[2],
                entry.count,
            )
            for entry in of(newest)
        ]
        return sorted(shown, key=lambda traffic: (-(traffic.rate or 0.0), -traffic.total, traffic.type))


def _values_between(old: HubStatistics, new: HubStatistics) -> dict[str, float]:
    seconds = new.uptime_seconds - old.uptime_seconds
    counts = _difference(old.flushes, new.flushes)
    tail = _percentile(new.flushes, counts)
    values = {
        SENT: (_total(new.sent) - _total(old.sent)) / seconds,
        RECEIVED: (_total(new.received) - _total(old.received)) / seconds,
        SENT_BYTES: (new.sent_bytes - old.sent_bytes) / seconds,
        RECEIVED_BYTES: (new.received_bytes - old.received_bytes) / seconds,
    }
    return values if tail is None else {**values, FLUSH: tail}


def _total(counts: Iterable[TypeCount]) -> int:
    return sum(entry.count for entry in counts)


def _difference(old: Sequence[FlushBucket], new: Sequence[FlushBucket]) -> list[int]:
    if len(old) != len(new):
        return [bucket.count for bucket in new]
    return [after.count - before.count for before, after in zip(old, new, strict=True)]


def _percentile(buckets: Sequence[FlushBucket], counts: Sequence[int]) -> float | None:
    """Give the bound below which 99 of 100 flushes stayed; of those beyond all bounds, the last bound."""
    wanted = TAIL * sum(counts)
    reached, bound = 0, None
    for bucket, count in zip(buckets, counts, strict=True):
        reached += count
        bound = bucket.seconds if bucket.seconds is not None else bound
        if count and reached >= wanted:
            return bound
    return None
