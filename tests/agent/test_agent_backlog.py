"""What is kept for a hub that is away: bounded, small, and one sample for each of the hub's steps."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.backlog import KEPT_SECONDS, STEP_SECONDS, Backlog, headline, steady
from qubix_tui.protocol.codec import decode_record, decode_request, encode_request
from qubix_tui.protocol.records import GpuMetrics, Metrics


class Clock:
    """Seconds, moved by a test."""

    def __init__(self) -> None:
        self.now = 5_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


def test_a_headline_is_what_a_hub_remembers() -> None:
    """Every value of a step of history is in it, nothing else, and what is not known is left out."""
    gpu = GpuMetrics(index=1, uuid="GPU-1", util_percent=0, mem_used_mb=5, temp_c=61, power_w=70.5, xid=3)
    metrics = Metrics(
        cpu_percent=1.5, ram_percent=0, gpu_temp=61, net_rx_bytes_per_sec=0, gpus=[gpu], seq=7, load1=9
    )
    kept = decode_record(headline(metrics), Metrics)
    assert kept == Metrics(
        cpu_percent=1.5,
        ram_percent=0,
        gpu_temp=61,
        net_rx_bytes_per_sec=0,
        gpus=[GpuMetrics(index=1, util_percent=0, mem_used_mb=5, temp_c=61, power_w=70.5)],
        seq=7,
    )
    assert b"null" not in headline(metrics)


def test_a_headline_is_taken_by_the_wire() -> None:
    """It is a sample like any other."""
    data = {"metrics": Metrics(seq=3), "late": True, "ageSeconds": 12.5}
    request = decode_request(encode_request("GPU_METRICS_UPDATE", data)).data
    assert (request.metrics.seq, request.late, request.age_seconds) == (3, True, 12.5)


def test_ten_minutes_are_kept(clock: Clock) -> None:
    """However long a hub is away, and however fast samples come, their number is bounded."""
    backlog = Backlog(clock)
    for _ in range(10 * 3600):
        backlog.keep(Metrics(), is_owed=True)
        clock.now += 0.1
    assert 600 <= len(backlog) <= KEPT_SECONDS / 0.9 + 1
    assert backlog.owes


def test_what_was_sent_is_not_owed(clock: Clock) -> None:
    """Unless the hub says that it lacks it."""
    backlog = Backlog(clock)
    for seq in range(100):
        backlog.keep(Metrics(seq=seq), is_owed=False)
        clock.now += 1
    assert (backlog.owes, len(backlog.take_owed(0.0))) == (False, 0)
    backlog.owe_since(20.5)
    owed = backlog.take_owed(clock.now)
    assert {decode_record(kept.payload, Metrics).seq for kept in owed} <= set(range(80, 100))
    assert len(owed) in {4, 5}
    assert backlog.take_owed(clock.now) == []
    backlog.owe_since(None)
    assert len(backlog.take_owed(clock.now)) == 20
    backlog.owe(owed)
    assert backlog.take_owed(clock.now) == owed


@given(offset=st.floats(-1e9, 1e9), error=st.floats(-1.5, 1.5), period=st.floats(1.0, 3.0))
def test_no_step_of_the_hub_is_left_out(offset: float, error: float, period: float) -> None:
    """Whatever the hub's clock, and a second or so beside it, each of its steps gets its sample."""
    clock = Clock()
    backlog = Backlog(clock)
    while clock.now < 5_120:
        backlog.keep(Metrics(), is_owed=True)
        clock.now += period
    owed = backlog.take_owed(clock.now + offset)
    ages = [backlog.age(kept) for kept in owed]
    assert ages == sorted(ages)
    hub_now = clock.now + offset + (error if period < 1.5 else 0.0)
    steps = [(hub_now - age) // STEP_SECONDS for age in ages]
    # The oldest and the newest step may be there in part only.
    assert all(later - earlier == 1 for later, earlier in pairwise(steps[1:-1]))


def test_the_clock_of_ages_only_goes_forward() -> None:
    """It is the machine's own, which nobody sets."""
    before = steady()
    assert steady() >= before
