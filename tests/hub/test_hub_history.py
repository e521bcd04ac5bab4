"""The last ten minutes of each provider."""

import math
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from qubix_tui.hub.history import MAX_GPUS, STEP_SECONDS, STEPS, WINDOW_SECONDS, History
from qubix_tui.protocol.records import GpuHistoryPoint, GpuMetrics, HistoryPoint, Metrics
from qubix_tui.protocol.types import from_timestamp, to_timestamp
from tests.hub.manual_clock import ManualClock

START = 1_800_000_000.0  # the beginning of a step


@pytest.fixture
def clock() -> ManualClock:
    """Hub time, at the beginning of a step."""
    return ManualClock(now=START)


@pytest.fixture
def history(clock: ManualClock) -> History:
    """An empty history."""
    return History(clock)


def sample(cpu: float | None = None, *gpus: GpuMetrics, sampled_at: float | None = None) -> Metrics:
    """A sample with a CPU value, which tells one from another."""
    written = None if sampled_at is None else to_timestamp(sampled_at)
    return Metrics(cpu_percent=cpu, gpus=list(gpus), sampled_at=written)


def values(history: History, seconds: float = WINDOW_SECONDS) -> list[tuple[float, float | None]]:
    """Each point of provider ``a`` as (seconds after START, CPU)."""
    return [
        (STEP_SECONDS * round((_seconds(point) - START) / STEP_SECONDS), point.cpu_percent)
        for point in history.points("a", seconds)
    ]


def _seconds(point: HistoryPoint) -> float:
    return from_timestamp(point.timestamp)


def test_a_point_says_all_that_is_kept_of_a_sample(history: History) -> None:
    """Values come back as they were, to two decimals; the timestamp is the beginning of the step."""
    gpu = GpuMetrics(index=0, util_percent=97.5, mem_used_mb=71_234, temp_c=71.25, power_w=689.12)
    history.record(
        "a",
        START + 4.9,
        Metrics(
            cpu_percent=45.2,
            ram_percent=60.1,
            gpu_percent=97.5,
            gpu_temp=71.25,
            net_rx_bytes_per_sec=1024.5,
            net_tx_bytes_per_sec=0,
            gpus=[gpu],
        ),
    )
    assert history.points("a") == [
        HistoryPoint(
            timestamp=to_timestamp(START),
            cpu_percent=45.2,
            ram_percent=60.1,
            gpu_percent=97.5,
            gpu_temp=71.25,
            net_rx_bytes_per_sec=1024.5,
            net_tx_bytes_per_sec=0,
            gpus=[GpuHistoryPoint(util_percent=97.5, mem_used_mb=71_234, temp_c=71.25, power_w=689.12)],
        )
    ]


def test_what_is_not_known_is_none(history: History) -> None:
    """A sample without values is a step without values, not a step of zeros and not a missing one."""
    history.record("a", START, Metrics())
    assert history.points("a") == [HistoryPoint(timestamp=to_timestamp(START))]


def test_zero_is_a_value(history: History) -> None:
    """0 is known, and stays apart from what is not."""
    history.record("a", START, sample(0.0, GpuMetrics(index=0, util_percent=0)))
    (point,) = history.points("a")
    assert point.cpu_percent == 0
    assert point.gpus == [GpuHistoryPoint(util_percent=0)]


def test_a_step_holds_its_last_sample(history: History, clock: ManualClock) -> None:
    """Steps are aligned to hub time; a step without a sample is left out; the oldest comes first."""
    for second, cpu in ((0, 1), (4.9, 2), (5, 3), (17, 4)):
        history.record("a", START + second, sample(cpu))
    clock.advance(17)
    assert values(history) == [(0, 2), (5, 3), (15, 4)]


def test_reading_does_not_end_a_step(history: History) -> None:
    """A step that was read while it was on goes on with its next sample."""
    history.record("a", START, sample(1))
    assert values(history) == [(0, 1)]
    history.record("a", START + 1, sample(2))
    assert values(history) == [(0, 2)]


def test_only_the_last_ten_minutes_are_kept(history: History, clock: ManualClock) -> None:
    """`STEPS` steps are given at most, the current one included; what is older is gone."""
    for step in range(STEPS + 3):
        history.record("a", clock.now, sample(step % 100))
        clock.advance(STEP_SECONDS)
    clock.advance(-STEP_SECONDS)
    assert [cpu for _, cpu in values(history)] == [step % 100 for step in range(3, STEPS + 3)]
    clock.advance(WINDOW_SECONDS - STEP_SECONDS)
    assert [cpu for _, cpu in values(history)] == [(STEPS + 2) % 100]
    clock.advance(STEP_SECONDS)
    assert values(history) == []


@pytest.mark.parametrize(("seconds", "expected"), [(0, 0), (-1, 0), (0.1, 1), (5, 1), (6, 2), (1e9, 3)])
def test_fewer_seconds_give_fewer_steps(
    history: History, clock: ManualClock, seconds: float, expected: int
) -> None:
    """``seconds`` is rounded up to whole steps, and never reaches beyond what is kept."""
    for _ in range(3):
        clock.advance(STEP_SECONDS)
        history.record("a", clock.now, sample(1))
    assert len(values(history, seconds)) == expected


def test_a_gpu_keeps_its_own_column(history: History, clock: ManualClock) -> None:
    """GPUs are told apart by index, whatever the order and number of them in a sample."""
    history.record("a", START, sample(1, GpuMetrics(index=0, util_percent=10)))
    history.record(
        "a",
        START + 5,
        sample(2, GpuMetrics(index=2, util_percent=22, power_w=300), GpuMetrics(index=0, util_percent=20)),
    )
    history.record("a", START + 10, sample(3, GpuMetrics(index=1, util_percent=31)))
    clock.advance(10)
    used = [[gpu.util_percent for gpu in point.gpus] for point in history.points("a")]
    assert used == [[10, None, None], [20, None, 22], [None, 31, None]]
    assert history.points("a")[1].gpus[2].power_w == 300


def test_gpus_of_which_nothing_is_known_any_more_are_left_out(history: History, clock: ManualClock) -> None:
    """The points of one answer agree on how many GPUs there are: up to the last one with a value."""
    history.record("a", START, sample(1, GpuMetrics(index=0, util_percent=1), GpuMetrics(index=3, temp_c=2)))
    clock.advance(5)
    history.record("a", clock.now, sample(2, GpuMetrics(index=0, util_percent=3)))
    assert [len(point.gpus) for point in history.points("a")] == [4, 4]
    assert [len(point.gpus) for point in history.points("a", 5)] == [1]


def test_gpus_beyond_the_bound_are_not_kept(history: History) -> None:
    """A message that names GPUs without end costs no memory without end."""
    gpus = [GpuMetrics(index=index, util_percent=1) for index in (MAX_GPUS - 1, MAX_GPUS, 2**53)]
    history.record("a", START, sample(1, *gpus))
    assert len(history.points("a")[0].gpus) == MAX_GPUS


def test_a_value_that_no_float_can_hold_is_unknown(history: History) -> None:
    """Single precision overflows to infinity, which JSON can't say."""
    history.record("a", START, sample(1, GpuMetrics(index=0, util_percent=5, power_w=1e300)))
    assert history.points("a")[0].gpus == [GpuHistoryPoint(util_percent=5)]


def test_providers_are_apart_and_can_be_forgotten(history: History) -> None:
    """One provider's past is not another's; the unknown and the forgotten have none."""
    history.record("a", START, sample(1))
    history.record("b", START, sample(2))
    assert [point.cpu_percent for point in history.points("b")] == [2]
    history.forget("b")
    history.forget("never seen")
    assert history.points("b") == []
    assert values(history) == [(0, 1)]


def test_late_samples_fill_the_hole_they_belong_to(history: History, clock: ManualClock) -> None:
    """What an agent kept while the hub was away comes back where it was sampled, and replaces nothing."""
    history.record("a", START, sample(1, sampled_at=START))
    clock.advance(30)
    history.record("a", clock.now, sample(9, sampled_at=START + 30))
    for second, cpu in ((1, 101), (7, 2), (12, 3), (30, 109)):
        history.record("a", clock.now, sample(cpu, sampled_at=START + second), late=True)
    assert values(history) == [(0, 1), (5, 2), (10, 3), (30, 9)]


def test_late_samples_are_placed_by_hub_time(history: History, clock: ManualClock) -> None:
    """A provider's clock that is an hour fast is corrected by its last live sample."""
    history.record("a", START, sample(1, sampled_at=START + 3_600))
    clock.advance(20)
    history.record("a", clock.now, sample(2, sampled_at=START + 3_610), late=True)
    assert values(history) == [(0, 1), (10, 2)]


@pytest.mark.parametrize("clock_of_provider", [None, START - 86_400, START + 86_400])
def test_late_samples_are_placed_by_their_age(
    clock_of_provider: float | None, history: History, clock: ManualClock
) -> None:
    """With an age no clock of the provider's matters: neither a wrong one nor one that was set meanwhile."""
    history.record("a", START, sample(1, sampled_at=START + 3_600))
    clock.advance(20)
    late = sample(2, sampled_at=clock_of_provider)
    history.record("a", clock.now, late, late=True, age=8.5)
    assert values(history) == [(0, 1), (10, 2)]


@pytest.mark.parametrize("age", [WINDOW_SECONDS + 5.0, 1e300])
def test_a_late_sample_that_is_too_old_is_dropped(age: float, history: History) -> None:
    """What no window holds is not kept."""
    history.record("a", START, sample(1), late=True, age=age)
    assert history.points("a") == []


def test_late_samples_come_before_any_live_one(history: History, clock: ManualClock) -> None:
    """After a restart of the hub the provider's clock is taken as it is."""
    history.record("a", START + 2, sample(1, sampled_at=START - 60), late=True)
    assert values(history) == [(-60, 1)]


@pytest.mark.parametrize(
    "sampled_at",
    [None, to_timestamp(START - WINDOW_SECONDS), to_timestamp(START + 5), "2026-02-31T00:00:00Z"],
)
def test_late_samples_without_a_place_are_dropped(history: History, sampled_at: str | None) -> None:
    """No time, too long ago, in the future, or on no day of the calendar: dropped, and nobody is added."""
    history.record("a", START, Metrics(cpu_percent=1, sampled_at=sampled_at), late=True)
    assert history.points("a") == []
    assert len(history._rings) == 0


def test_what_another_hub_remembers_fills_empty_steps(clock: ManualClock) -> None:
    """What is known here stays; what is too old, or has no date, is dropped."""
    there, here = History(clock), History(clock)
    gpus = [GpuMetrics(index=1, util_percent=50, mem_used_mb=7, temp_c=40, power_w=100)]
    for second in range(0, 700, 5):
        there.record("a", clock.now, Metrics(cpu_percent=1, net_rx_bytes_per_sec=second, gpus=gpus))
        clock.advance(5)
    here.record("a", clock.now - 10, sample(9))
    here.record("a", clock.now, sample(9))
    told = there.points("a")
    undated = HistoryPoint(timestamp="2026-02-31T12:00:00.000Z", cpu_percent=3)
    here.fill("a", [undated, *told])
    filled = here.points("a")
    assert [point.cpu_percent for point in filled] == [1] * (len(told) - 2) + [9, 1, 9]
    assert filled[: len(told) - 2] == told[: len(told) - 2]
    here.fill("b", told)
    assert here.points("b") == told
    clock.advance(WINDOW_SECONDS)
    here.fill("c", told)
    assert here.points("c") == []


def test_the_newest_of_some_points_are_those_that_a_reader_would_get(
    history: History, clock: ManualClock
) -> None:
    """Whoever remembers them."""
    for second in range(0, 100, 5):
        history.record("a", clock.now, sample(second))
        clock.advance(5)
    whole = history.points("a")
    for seconds in (0, 1, 5, 42, 600, 1e300):
        assert history.recent(whole, seconds) == history.points("a", seconds)


def test_a_long_silence_does_not_bring_old_values_back(history: History, clock: ManualClock) -> None:
    """A late sample in the place of one that is a whole window older stays, however often it is read."""
    history.record("a", START, sample(1, sampled_at=START))
    clock.advance(WINDOW_SECONDS)
    history.record("a", clock.now, sample(2, sampled_at=clock.now), late=True)
    assert values(history) == values(history) == [(WINDOW_SECONDS, 2)]


def test_a_hub_clock_that_was_set_back_does_no_harm(history: History, clock: ManualClock) -> None:
    """Steps of a future that is no more are not shown; recording goes on."""
    history.record("a", START + 300, sample(1))
    history.record("a", START, sample(2))
    history.record("a", START + 5, sample(3))
    clock.advance(5)
    assert values(history) == [(0, 2), (5, 3)]


def test_with_too_many_providers_the_one_silent_longest_goes(clock: ManualClock) -> None:
    """The number of rings is bounded, and those in use stay."""
    history = History(clock, max_providers=2)
    history.record("a", START, sample(1))
    history.record("b", START + 1, sample(1))
    history.record("a", START + 2, sample(1))
    history.record("c", START + 3, sample(1))
    assert [bool(history.points(name)) for name in "abc"] == [True, False, True]


_PERCENT = st.none() | st.floats(0, 100, width=32)
_GPU = st.builds(
    GpuMetrics,
    index=st.integers(0, 3),
    util_percent=_PERCENT,
    mem_used_mb=st.none() | st.integers(0, 200_000),
)


@given(
    samples=st.lists(
        st.tuples(
            st.integers(0, 2_000),
            st.builds(
                Metrics, cpu_percent=_PERCENT, gpus=st.lists(_GPU, max_size=3, unique_by=lambda g: g.index)
            ),
        ),
        max_size=40,
    ),
    reads=st.sets(st.integers(0, 39)),
)
def test_history_agrees_with_a_plain_list(samples: list[tuple[int, Metrics]], reads: set[int]) -> None:
    """Whatever comes in whatever gaps, the points are the last sample of each of the last `STEPS` steps."""
    clock = ManualClock(now=START)
    history = History(clock)
    expected: dict[int, Metrics] = {}
    for number, (second, metrics) in enumerate(sorted(samples, key=lambda pair: pair[0])):
        clock.now = START + second
        history.record("a", clock.now, metrics)
        expected[second // STEP_SECONDS] = metrics
        if number in reads:
            history.points("a")
    newest = int(clock.now - START) // STEP_SECONDS
    kept = {step: metrics for step, metrics in expected.items() if step > newest - STEPS}
    points = history.points("a")
    assert [point.timestamp for point in points] == [
        to_timestamp(START + step * STEP_SECONDS) for step in sorted(kept)
    ]
    for point, (_, metrics) in zip(points, sorted(kept.items()), strict=True):
        assert _same(point.cpu_percent, metrics.cpu_percent)
        by_index: dict[int, Any] = {gpu.index: gpu for gpu in metrics.gpus}
        for index, gpu in enumerate(point.gpus):
            sent = by_index.pop(index, None)
            assert _same(gpu.util_percent, sent and sent.util_percent)
            assert gpu.mem_used_mb == (sent.mem_used_mb if sent else None)
        assert all(gpu.util_percent is None and gpu.mem_used_mb is None for gpu in by_index.values())


def _same(given: float | None, sent: float | None) -> bool:
    if given is None or sent is None:
        return given is sent
    return math.isclose(given, sent, abs_tol=0.005001)
