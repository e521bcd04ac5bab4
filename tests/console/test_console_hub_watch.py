"""The hub's own numbers, and the rates made of them."""

from typing import Any

from qubix_tui.console import hub_watch
from qubix_tui.console.hub_watch import RATE_SECONDS, HubWatch, Traffic
from qubix_tui.console.time_series import Window
from qubix_tui.protocol.answers import FlushBucket, HubStatistics, TypeCount
from qubix_tui.protocol.types import to_timestamp
from tests.console.records import NOW


def stats(second: float, **more: Any) -> HubStatistics:
    """A hub that has been up for so many seconds, with counters that grew evenly."""
    known: dict[str, Any] = {
        "timestamp": to_timestamp(NOW + second),
        "version": "0.1.0",
        "epoch": "e1",
        "uptime_seconds": second,
        "connections": 15,
        "max_connections": 20_000,
        "providers": 128,
        "sent": [
            TypeCount(type="pong", count=int(second)),
            TypeCount(type="GPU_METRICS_UPDATE", count=int(1000 * second)),
        ],
        "received": [TypeCount(type="ping", count=int(second))],
        "sent_bytes": int(500 * second),
        "received_bytes": int(50 * second),
        "flushes": [
            FlushBucket(seconds=0.001, count=int(98 * second)),
            FlushBucket(seconds=0.01, count=int(2 * second)),
            FlushBucket(seconds=None, count=0),
        ],
        "flush_seconds": 0.05 * second,
        "slow_clients": 0,
        "rate_limited": 0,
        "auth_failures": 0,
    }
    return HubStatistics(**{**known, **more})


def watched(*seconds: float) -> HubWatch:
    """What is known after answers at these seconds of the hub's life."""
    watch = HubWatch()
    for second in seconds:
        watch.take(stats(second))
    return watch


def test_one_answer_gives_totals_and_no_rate() -> None:
    """A rate is not known before there are two; it is None, not 0."""
    watch = watched(100)
    assert watch.sent() == [Traffic("GPU_METRICS_UPDATE", None, 100_000), Traffic("pong", None, 100)]
    assert watch.flushes() is None
    assert watch.grown() == {}


def test_rates_are_means_of_the_last_seconds() -> None:
    """The busiest type comes first; old answers are let go."""
    watch = watched(*range(100, 130))
    assert watch.sent()[0] == Traffic("GPU_METRICS_UPDATE", 1000.0, 129_000)
    assert watch.received() == [Traffic("ping", 1.0, 129)]
    assert len(watch._recent) <= RATE_SECONDS + 2


def test_the_fan_out_has_a_mean_and_a_tail() -> None:
    """Of 100 flushes 98 were below one bound: 99 were below the next; the mean is the time by the number."""
    flushes = watched(100, 101).flushes()
    assert flushes is not None
    assert (flushes.rate, flushes.tail) == (100.0, 0.01)
    assert flushes.mean is not None
    assert abs(flushes.mean - 0.0005) < 1e-9


def test_a_quiet_fan_out_has_no_duration() -> None:
    """Nothing was flushed: there is no time to tell, and the curve has a gap."""
    watch = watched(100)
    watch.take(stats(101, flushes=stats(100).flushes))
    flushes = watch.flushes()
    assert flushes == (0.0, None, None)
    assert watch.series.highest(hub_watch.FLUSH) is None


def test_curves_have_each_interval() -> None:
    """Rates between two answers, and the connections of each."""
    watch = watched(0.5, 1.5, 2.5, 3.5)
    window = Window.ending(NOW + 4, 4, 4)
    assert watch.series.peaks(hub_watch.SENT_BYTES, window)[-2:] == [500.0, 500.0]
    assert watch.series.highest(hub_watch.CONNECTIONS) == 15


def test_a_hub_that_started_anew_has_no_negative_rates() -> None:
    """Its counters began at 0: rates begin again, with what it has counted since."""
    watch = watched(*range(100, 110))
    fresh = stats(1, timestamp=to_timestamp(NOW + 200))
    watch.take(fresh)
    assert all(traffic.rate is None for traffic in watch.sent())
    watch.take(stats(2, timestamp=to_timestamp(NOW + 201)))
    assert watch.sent()[0].rate == 1000.0
    assert (watch.series.highest(hub_watch.SENT) or 0) > 0


def test_a_clock_that_was_set_back_begins_a_new_picture() -> None:
    """What was seen before has no place on the line of time any longer."""
    watch = watched(*range(100, 110))
    watch.take(stats(110, timestamp=to_timestamp(NOW - 3600)))
    assert len(watch.series) == 1


def test_troubles_that_grow_are_told() -> None:
    """By how much each counter grew lately."""
    watch = watched(100, 101)
    watch.take(stats(102, slow_clients=2, rate_limited=5, auth_failures=1))
    assert watch.grown() == {"slow_clients": 2, "rate_limited": 5, "auth_failures": 1}
