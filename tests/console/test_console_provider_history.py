"""The console's memory of one provider."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qubix_tui.console.provider_history import (
    CPU,
    MERGE_SECONDS,
    NET_RX,
    Metric,
    ProviderHistory,
)
from qubix_tui.console.time_series import KEPT_SECONDS, Window
from qubix_tui.protocol.records import GpuHistoryPoint, GpuMetrics, HistoryPoint, Metrics
from qubix_tui.protocol.types import to_timestamp

T0 = 1_790_000_000.0
USE = Metric("util", 0)


def cpu(value: float | None) -> Metrics:
    """Make a sample with this CPU use."""
    return Metrics(cpu_percent=value)


def point(moment: float, value: float | None) -> HistoryPoint:
    """Make a step of the hub's history."""
    return HistoryPoint(timestamp=to_timestamp(moment), cpu_percent=value)


def seconds(history: ProviderHistory, first: float, count: int, metric: Metric = CPU) -> list[float | None]:
    """Give a metric's peaks in columns of one second, from ``first`` on."""
    return history.peaks(metric, Window(int(first), count, 1.0))


def test_a_window_ends_with_the_column_of_now() -> None:
    """The last column holds the moment asked for, the first one lies the span before."""
    window = Window.ending(T0 + 0.4, 60, 120)
    assert window.column(T0 + 0.4) == 119
    assert window.column(T0 - 59.5) == 0
    assert window.column(T0 - 60.1) is None
    assert window.column(T0 + 0.5) is None


@given(end=st.floats(T0, T0 + 1000), later=st.floats(0, 20), moment=st.floats(T0 - 30, T0))
def test_columns_stand_still_while_the_window_moves(end: float, later: float, moment: float) -> None:
    """A moment is in the same column of time, whenever the window ends: peaks do not flicker."""
    before, after = Window.ending(end, 600, 200), Window.ending(end + later, 600, 200)
    one, other = before.column(moment), after.column(moment)
    if one is not None and other is not None:
        assert before.first + one == after.first + other


def test_a_value_lasts_until_the_next() -> None:
    """Between two samples a second apart there is no hole, and each column keeps the higher value."""
    history = ProviderHistory()
    for moment, value in ((0, 10), (1, 80), (2, 20)):
        history.record(T0 + moment, cpu(value))
    peaks = history.peaks(CPU, Window(int(T0 * 2), 6, 0.5))
    assert peaks == [10, 10, 80, 80, 20, 20]
    assert seconds(history, T0, 3) == [10, 80, 20]


def test_a_peak_survives_a_wide_column() -> None:
    """One high sample among many low ones is what its column shows."""
    history = ProviderHistory()
    for moment in range(30):
        history.record(T0 + moment, cpu(99 if moment == 13 else 1))
    assert history.peaks(CPU, Window(int(T0 / 10), 3, 10.0)) == [1, 99, 1]


def test_unknown_is_neither_zero_nor_the_value_before() -> None:
    """A sample without a value leaves its time blank; a value of 0 does not."""
    history = ProviderHistory()
    for moment, value in ((0, 5.0), (1, None), (2, 0.0)):
        history.record(T0 + moment, cpu(value))
    assert seconds(history, T0, 3) == [5, None, 0]


def test_a_gap_stays_a_gap() -> None:
    """When nothing comes for a while, the last value lasts two and a half seconds, then nothing is known."""
    history = ProviderHistory()
    for moment in (0, 1, 2, 12):
        history.record(T0 + moment, Metrics(cpu_percent=50, seq=moment))
    assert seconds(history, T0, 13) == [50] * 5 + [None] * 7 + [50]


def test_a_slow_provider_has_no_gaps() -> None:
    """A provider that samples every 5 s is drawn without holes: by their numbers none is missing."""
    history = ProviderHistory()
    for step in range(6):
        history.record(T0 + 5 * step, Metrics(cpu_percent=10 + step, seq=step))
    found = seconds(history, T0, 26)
    assert None not in found
    assert found[::5] == [10, 11, 12, 13, 14, 15]


def test_a_sample_comes_once() -> None:
    """The sample of a snapshot that is known already, or an older one, changes nothing."""
    history = ProviderHistory()
    assert history.record(T0, cpu(10))
    assert history.record(T0 + 1, cpu(20))
    assert not history.record(T0 + 1, cpu(99))
    assert not history.record(T0 + 0.5, cpu(99))
    assert seconds(history, T0, 2) == [10, 20]


def test_a_clock_that_was_set_back_is_followed() -> None:
    """A sample from long before the newest one tells of a set clock: what is later is forgotten."""
    history = ProviderHistory()
    for moment in range(100):
        history.record(T0 + moment, cpu(10))
    assert history.record(T0 + 50, cpu(70))
    assert history.newest == T0 + 50
    assert seconds(history, T0 + 49, 3) == [10, 70, 70]


def test_samples_of_one_instant_share_a_row_with_their_peak() -> None:
    """Samples that come fast share a row, in which each metric keeps its highest value."""
    history = ProviderHistory()
    history.record(T0, Metrics(cpu_percent=30))
    history.record(T0 + 0.1, Metrics(cpu_percent=90))
    history.record(T0 + 0.2, Metrics(cpu_percent=20, net_rx_bytes_per_sec=7))
    assert len(history) == 1
    assert seconds(history, T0, 1) == [90]
    assert seconds(history, T0, 1, NET_RX) == [7]


def test_memory_is_bounded() -> None:
    """After hours at 50 samples a second there are ten minutes of rows."""
    history = ProviderHistory()
    for step in range(60_000):
        history.record(T0 + step / 20, cpu(1))
    assert len(history) <= KEPT_SECONDS / MERGE_SECONDS + 61
    assert seconds(history, T0 + 3000 - 600, 1) == [1]


def test_the_hubs_history_fills_the_past() -> None:
    """A step stands for its five seconds; a step that the hub has not is a gap."""
    history = ProviderHistory()
    history.fill([point(T0 + 15, 30), point(T0, 10), point(T0 + 5, 20)])
    assert seconds(history, T0, 20) == [10] * 5 + [20] * 5 + [None] * 5 + [30] * 5


def test_live_samples_go_on_where_history_ends() -> None:
    """The step that is under way lasts until the first live sample of it."""
    history = ProviderHistory()
    history.fill([point(T0, 10), point(T0 + 5, 20)])
    history.record(T0 + 7, cpu(60))
    history.record(T0 + 8, cpu(70))
    assert seconds(history, T0 + 4, 6) == [10, 20, 20, 60, 70, 70]


def test_a_live_sample_at_the_beginning_of_a_step_replaces_it() -> None:
    """The moment at which a step begins is not known twice."""
    history = ProviderHistory()
    history.fill([point(T0, 10)])
    assert history.record(T0, cpu(60))
    assert len(history) == 1
    assert seconds(history, T0, 1) == [60]


def test_history_fills_only_what_was_missed() -> None:
    """After a reconnect the hub's steps fill the gap; what was seen live keeps its detail."""
    history = ProviderHistory()
    for moment in range(10):
        history.record(T0 + moment, cpu(10 + moment))
    for moment in range(30, 33):
        history.record(T0 + moment, cpu(90))
    history.fill([point(T0 + 5 * step, 50) for step in range(7)])
    found = seconds(history, T0, 33)
    assert found[:10] == [10, 11, 12, 13, 14, 15, 16, 17, 18, 19]
    assert found[10:30] == [50] * 20
    assert found[30:] == [90] * 3


def test_history_fills_the_rest_of_a_step() -> None:
    """Where live samples stop in the middle of a step, the hub's value of that step takes over."""
    history = ProviderHistory()
    history.record(T0, cpu(10))
    history.record(T0 + 1, cpu(20))
    history.fill([point(T0, 40), point(T0 + 5, 50)])
    assert history.peaks(CPU, Window(int(T0 * 2), 20, 0.5)) == [10] * 2 + [20] * 5 + [40] * 3 + [50] * 10


def test_filling_twice_changes_nothing() -> None:
    """A second snapshot with the same steps adds no rows."""
    history = ProviderHistory()
    points = [point(T0 + 5 * step, step) for step in range(20)]
    history.fill(points)
    history.fill(points)
    assert len(history) == 20


def test_history_older_than_what_is_kept_goes() -> None:
    """Filling does not grow without end either."""
    history = ProviderHistory()
    history.fill([point(T0 + 5 * step, 1) for step in range(1000)])
    assert len(history) <= KEPT_SECONDS / 5 + 61


def test_each_gpu_has_curves_of_its_own() -> None:
    """Values are kept by GPU index; one that appears later is unknown before."""
    history = ProviderHistory()
    history.fill(
        [HistoryPoint(timestamp=to_timestamp(T0), gpus=[GpuHistoryPoint(util_percent=5, mem_used_mb=100)])]
    )
    second = GpuMetrics(index=1, util_percent=80, temp_c=70, power_w=300)
    history.record(T0 + 5, Metrics(gpus=[GpuMetrics(index=0, util_percent=6), second]))
    assert seconds(history, T0 + 4, 2, USE) == [5, 6]
    assert seconds(history, T0 + 4, 2, Metric("memory", 0)) == [100, None]
    assert seconds(history, T0 + 4, 2, Metric("util", 1)) == [None, 80]
    assert seconds(history, T0 + 4, 2, Metric("temperature", 1)) == [None, 70]
    assert seconds(history, T0 + 4, 2, Metric("power", 2)) == [None, None]


@pytest.mark.parametrize("state", ["lost", "asleep", "stale"])
def test_values_that_are_not_of_now_are_not_drawn(state: str) -> None:
    """What a GPU says while it is lost, asleep or stale is of the past: the curve has a gap there."""
    history = ProviderHistory()
    history.record(T0, Metrics(gpus=[GpuMetrics(index=0, util_percent=50)]))
    odd = GpuMetrics(index=0, util_percent=50, state=state)  # type: ignore[arg-type]
    history.record(T0 + 1, Metrics(gpus=[odd]))
    assert seconds(history, T0, 2, USE) == [50, None]


def test_the_highest_value_is_known() -> None:
    """An axis without a natural end asks for the highest value that is kept."""
    history = ProviderHistory()
    assert history.highest(CPU) is None
    for moment, value in ((0, 5.0), (1, 40.0), (2, None)):
        history.record(T0 + moment, cpu(value))
    assert history.highest(CPU) == 40


def test_why_a_gpu_was_held_back() -> None:
    """Each reason's share is of the samples of the last minute that could tell."""
    history = ProviderHistory()
    for moment in range(100):
        reasons = ["power cap"] if moment >= 70 else ["thermal"] if moment < 10 else []
        history.record(T0 + moment, Metrics(gpus=[GpuMetrics(index=0, throttle=reasons)]))
    assert history.held_back(0, T0 + 99) == {"power cap": 0.5}
    assert history.held_back(1, T0 + 99) == {}
    assert history.held_back(0, T0 + 200) == {}


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.01, 30), st.none() | st.floats(0, 100)), min_size=1, max_size=60),
    st.lists(st.tuples(st.integers(0, 110), st.floats(0, 100)), max_size=30),
    st.integers(2, 400),
)
def test_whatever_comes_no_peak_is_lost(
    samples: list[tuple[float, float | None]], steps: list[tuple[int, float]], columns: int
) -> None:
    """In a window over all there is, the highest column is the highest live value, or one of the hub's."""
    history = ProviderHistory()
    history.fill([point(T0 - 600 + 5 * step, value) for step, value in steps])
    moment, known = T0, []
    for interval, value in samples:
        moment = min(moment + interval, T0 + 500)
        if history.record(moment, cpu(value)) and value is not None and moment > T0 + 500 - KEPT_SECONDS:
            known.append(value)
    end = max(moment, T0)
    peaks = [
        peak for peak in history.peaks(CPU, Window.ending(end, end - T0 + 700, columns)) if peak is not None
    ]
    assert set(peaks) <= {*known, *(value for _, value in steps)}
    if known:
        assert max(peaks) >= max(known)
