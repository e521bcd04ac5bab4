"""The hub's clock, estimated."""

import pytest

from qubix_tui.client.clock import HubClock


def test_unknown_before_the_first_timestamp() -> None:
    """Nothing is known before the hub said anything, and nothing after a reset."""
    clock = HubClock()
    assert clock.time(5.0) is None
    clock.observe(1000.0, 1.0, 1.0)
    clock.reset()
    assert clock.time(5.0) is None


def test_half_the_round_trip_is_counted() -> None:
    """A stamp is taken to be from the middle of its round trip."""
    clock = HubClock()
    clock.observe(1000.0, 10.0, 10.2)
    assert clock.time(10.2) == pytest.approx(1000.1)
    assert clock.time(20.2) == pytest.approx(1010.1)


def test_the_shortest_round_trip_counts() -> None:
    """A slow reply does not spoil what a fast one told."""
    clock = HubClock()
    clock.observe(1000.0, 10.0, 10.002)
    clock.observe(1030.9, 40.0, 41.0)  # the reply was slow on its way back
    assert clock.time(41.0) == pytest.approx(1030.999)


def test_a_step_of_the_hubs_clock_is_followed() -> None:
    """An estimate that can't be true beside the older ones replaces them all, even a less exact one."""
    clock = HubClock()
    for tick in range(5):
        clock.observe(1000.0 + tick, 10.0 + tick, 10.001 + tick)
    clock.observe(5000.0, 20.0, 20.1)
    assert clock.time(20.1) == pytest.approx(5000.05)


def test_old_estimates_are_forgotten() -> None:
    """Clocks drift: the best estimate of long ago gives way to fresh ones."""
    clock = HubClock()
    clock.observe(1000.0, 0.0, 0.0)
    for minute in range(1, 9):
        clock.observe(1000.0 + minute * 60.001, minute * 60.0, minute * 60.0 + 0.08)
    assert clock.time(480.08) == pytest.approx(1480.008 + 0.04, abs=0.05)
    assert clock.time(480.08) != pytest.approx(1480.08, abs=1e-6)
