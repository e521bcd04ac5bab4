"""One sample: put together, numbered, on time, and never held up by what fails."""

import re
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cost import CostMeter
from agent.sampler import Sample, Sampler, SamplerThread, Schedule, combine
from agent.sensors.gpu import NO_READING, GpuReading
from agent.sensors.host import HostReading
from qubix_tui.protocol.codec import decode_request, encode_request
from qubix_tui.protocol.records import GpuMetrics
from qubix_tui.protocol.requests import PublishMetrics

HOST = HostReading(
    cpu_percent=12.5,
    ram_percent=50.0,
    ram_used_mb=1000,
    ram_total_mb=2000,
    cpu_temp=None,
    load1=0.5,
    net_rx_bytes_per_sec=None,
    net_tx_bytes_per_sec=None,
    disk_percent=None,
    uptime_seconds=10.0,
)


def reading(*gpus: GpuMetrics, **changes: Any) -> GpuReading:
    """A settled reading of these GPUs."""
    return NO_READING._replace(gpus=list(gpus), note=None, settled=True, **changes)


def gpu(index: int, **values: Any) -> GpuMetrics:
    """A GPU that was read."""
    usual: dict[str, Any] = {"util_percent": 50, "temp_c": 60, "mem_used_mb": 100, "mem_total_mb": 1000}
    return GpuMetrics(index=index, **{**usual, **values})


def test_headline_of_several_gpus() -> None:
    """Use is the mean, temperature the hottest, memory the sum."""
    metrics = combine(HOST, reading(gpu(0, util_percent=10, temp_c=70), gpu(1, util_percent=25)))
    assert (metrics.gpu_percent, metrics.gpu_temp) == (17.5, 70)
    assert (metrics.gpu_mem_used_mb, metrics.gpu_mem_total_mb) == (200, 2000)


def test_headline_without_a_gpu() -> None:
    """Without a GPU its values are null, never 0."""
    metrics = combine(HOST, NO_READING._replace(note="none here"))
    assert metrics.gpu_percent is None
    assert metrics.gpu_temp is None
    assert metrics.gpu_mem_used_mb is None
    assert metrics.gpu_mem_total_mb is None
    assert (metrics.gpus, metrics.gpu_note) == ([], "none here")
    assert (metrics.cpu_percent, metrics.ram_percent) == (12.5, 50.0)


def test_a_gpu_at_rest_counts() -> None:
    """0 % is a value, and is not left out of the mean."""
    assert combine(HOST, reading(gpu(0, util_percent=0), gpu(1, util_percent=50))).gpu_percent == 25


@pytest.mark.parametrize("state", ["lost", "stale"])
def test_headline_leaves_out_what_is_not_current(state: str) -> None:
    """A GPU that is lost or stale is in the list but not in the headline."""
    metrics = combine(HOST, reading(gpu(0, temp_c=99, util_percent=99, state=state), gpu(1)))
    assert (metrics.gpu_percent, metrics.gpu_temp, metrics.gpu_mem_total_mb) == (50, 60, 1000)
    assert len(metrics.gpus) == 2


def test_unknown_members_of_a_gpu() -> None:
    """What no GPU tells is null in the headline."""
    metrics = combine(HOST, reading(gpu(0, util_percent=None, temp_c=None)))
    assert (metrics.gpu_percent, metrics.gpu_temp) == (None, None)


def test_unified_memory() -> None:
    """GPUs that share the host's memory show it, and it is counted once."""
    first = gpu(0, mem_used_mb=None, mem_total_mb=None)
    metrics = combine(
        HOST, reading(first, msgspec.structs.replace(first, index=1), unified=frozenset({0, 1}))
    )
    assert [(each.mem_used_mb, each.mem_total_mb) for each in metrics.gpus] == [(1000, 2000)] * 2
    assert (metrics.gpu_mem_used_mb, metrics.gpu_mem_total_mb) == (1000, 2000)


class NoGpu:
    """A GPU sensor without GPUs."""

    child_pid = None
    closed = False

    def ask(self) -> None:
        """Nothing to ask."""

    def read(self) -> GpuReading:
        """No GPU."""
        return reading()

    def close(self) -> None:
        """Note it."""
        self.closed = True


def test_samples_are_numbered_and_fit_the_wire(tmp_path: Path) -> None:
    """Each sample has the next number, the time of reading and the agent's own cost, and the hub takes it."""
    sampler = Sampler(tmp_path, gpu=NoGpu(), wall=lambda: 1_800_000_000.5)  # type: ignore[arg-type]
    first, second = sampler.sample().metrics, sampler.sample().metrics
    assert (first.seq, second.seq) == (1, 2)
    assert second.sampled_at == "2027-01-15T08:00:00.500Z"
    assert first.agent is not None
    assert first.agent.cpu_percent is None
    assert second.agent is not None
    assert second.agent.cpu_percent is not None
    assert (second.agent.rss_mb or 0) > 5
    payload = encode_request("GPU_METRICS_UPDATE", PublishMetrics(metrics=second))
    assert decode_request(payload).data.metrics == second


def test_numbers_are_short(tmp_path: Path) -> None:
    """No value has more than two decimals."""
    sampler = Sampler(tmp_path, gpu=NoGpu())  # type: ignore[arg-type]
    sampler.sample()
    text = encode_request("GPU_METRICS_UPDATE", PublishMetrics(metrics=sampler.sample().metrics)).decode()
    assert not re.search(r"\":-?\d+\.\d{3,}", text), text


def test_cost_of_a_new_child() -> None:
    """A child that was replaced begins at zero: its time adds to the agent's, never takes from it."""
    meter = CostMeter()
    meter.read(1000.0, 1.0, child_pid=None, child_cpu_seconds=50.0)
    cost = meter.read(1010.0, 1.0, child_pid=None, child_cpu_seconds=0.0)
    assert cost.cpu_percent is not None
    assert 0 <= cost.cpu_percent < 50


@given(
    start=st.floats(0, 1e6),
    ticks=st.floats(0, 1e5),
    took=st.floats(0, 50),
)
def test_schedule_neither_drifts_nor_bursts(start: float, ticks: float, took: float) -> None:
    """The next tick is a whole number of periods after the start, ahead, and at most one period away."""
    schedule = Schedule(start)
    now = start + ticks + took
    following = schedule.next_after(now)
    assert now < following <= now + 1.0 + 1e-6
    assert (following - start) == pytest.approx(round(following - start), abs=1e-6)


def test_schedule_skips_what_was_missed() -> None:
    """After a reading that took three and a half seconds the next tick is the fourth: one, not four."""
    schedule = Schedule(100.0)
    assert schedule.next_after(100.01) == 101.0
    assert schedule.next_after(103.5) == 104.0
    assert schedule.next_after(104.0) == 105.0


class Failing:
    """A sampler that fails at first."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.closed = threading.Event()

    def sample(self) -> Sample:
        """Fail, or give a sample."""
        if self.failures:
            self.failures -= 1
            raise RuntimeError("no such file")
        return Sample(combine(HOST, NO_READING), NO_READING)

    def close(self) -> None:
        """Note it."""
        self.closed.set()


def test_a_sample_that_fails_is_not_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """A failure is logged once, and the next sample is taken; stopping ends the sensors."""
    sampler, arrived = Failing(2), threading.Event()
    ticks = iter(range(0, 10_000, 10))
    # Time flies between two looks at the clock, so that the thread never waits long.
    thread = SamplerThread(sampler, lambda _: arrived.set(), monotonic=lambda: next(ticks) - 0.001)  # type: ignore[arg-type]
    thread.start()
    try:
        assert arrived.wait(10)
    finally:
        thread.stop_soon()
        thread.join(10)
    assert sampler.closed.is_set()
    assert [record.getMessage() for record in caplog.records] == [
        "a sample could not be taken; it is tried again"
    ]


def test_one_sample_a_second(tmp_path: Path) -> None:
    """In real time samples come a second apart."""
    arrived: list[float] = []
    third = threading.Event()

    def deliver(sample: Sample) -> None:
        arrived.append(time.monotonic())
        if sample.metrics.seq == 3:
            third.set()

    thread = SamplerThread(Sampler(tmp_path, gpu=NoGpu()), deliver)  # type: ignore[arg-type]
    thread.start()
    try:
        assert third.wait(15)
    finally:
        thread.stop_soon()
        thread.join(5)
    assert arrived[2] - arrived[0] == pytest.approx(2.0, abs=0.5)
