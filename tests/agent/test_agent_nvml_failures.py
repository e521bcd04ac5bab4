"""NVML that fails: lost, absent, hanging, crashing, stuck. Read by a real child process."""

import itertools
import os
import signal

import psutil
import pytest

from agent.sensors import gpu as gpu_module
from agent.sensors import gpu_rows
from agent.sensors.gpu import CRASHED, LATE, NO_GPU, NOT_INSTALLED, STUCK, GpuReading, GpuSensor
from agent.sensors.gpu_rest import Rest
from agent.sensors.nvml_process import NvmlProcess
from qubix_tui.protocol.records import GpuMetrics
from tests.agent.fake_nvml import (
    BIG,
    DRIVER_NOT_LOADED,
    GPU_IS_LOST,
    SMALL,
    VERSION_MISMATCH,
    FakeNvml,
)
from tests.agent.reader import Reader, all_ok, states


def sample_age(reading: GpuReading) -> float | None:
    """How old the values of the first GPU are said to be."""
    ages = reading.gpus[0].ages
    return None if ages is None else ages.sample


def test_lost_and_found(nvml: FakeNvml, reader: Reader) -> None:
    """A lost GPU keeps its identity and no values; the other goes on; it comes back by its UUID."""
    reader.until(all_ok)
    nvml.set_gpu(0, lost=str(GPU_IS_LOST))
    reading = reader.until(lambda reading: states(reading) == ["lost", "ok"])
    assert reading.gpus[0] == GpuMetrics(
        index=0,
        uuid=BIG["uuid"],
        name=BIG["name"],
        pci_address="0000:41:00.0",
        mem_total_mb=143771,
        state="lost",
    )
    assert reading.note == "GPU 0 is lost, trying again"
    assert [gpu.uuid for gpu in reading.identities] == [BIG["uuid"], SMALL["uuid"]]
    nvml.set_gpu(0, lost=None, util="12 3")
    reading = reader.until(all_ok)
    assert (reading.gpus[0].util_percent, reading.note) == (12, None)
    assert len(reading.identities) == 2


def test_a_gpu_that_is_not_enumerated_any_more(nvml: FakeNvml, reader: Reader) -> None:
    """A GPU that fell off the bus and is gone from the list is lost, not forgotten."""
    reader.until(all_ok)
    gone = nvml.gpus.pop()
    nvml.set_gpu(0, lost=str(GPU_IS_LOST))
    reader.until(lambda reading: reading.gpus[0].state == "lost")
    nvml.set_gpu(0, lost=None)
    reading = reader.until(lambda reading: states(reading) == ["ok", "lost"])
    assert reading.gpus[1].uuid == gone["uuid"]


def test_the_first_gpu_is_gone_after_a_new_start(nvml: FakeNvml, reader: Reader) -> None:
    """What the driver no longer lists stays as lost, and never takes the place of one that it does list."""
    reader.until(all_ok)
    gone = nvml.gpus.pop(0)
    nvml.set_gpu(0, temp="crash")
    reader.until(lambda reading: reading.note == CRASHED)
    nvml.set_gpu(0, temp="44")
    reading = reader.until(lambda reading: states(reading) == ["ok", "lost"])
    assert [(gpu.index, gpu.uuid) for gpu in reading.gpus] == [(0, SMALL["uuid"]), (1, gone["uuid"])]
    assert reading.note == "GPU 1 is lost, trying again"
    assert {gpu.uuid for gpu in reading.identities} == {SMALL["uuid"], gone["uuid"]}
    nvml.gpus.insert(0, gone)
    nvml.write()
    assert [gpu.uuid for gpu in reader.until(all_ok).gpus] == [gone["uuid"], SMALL["uuid"]]


def test_the_driver_is_reloaded(nvml: FakeNvml, reader: Reader) -> None:
    """An unloaded driver makes all GPUs lost and says so; loaded again, in another order, each is itself."""
    reader.until(all_ok)
    nvml.set_system(init=f"!{DRIVER_NOT_LOADED}")
    nvml.set_gpu(0, util=f"!{DRIVER_NOT_LOADED}")
    reading = reader.until(lambda reading: states(reading) == ["lost", "lost"])
    assert reading.note == "the NVIDIA driver is not loaded"
    nvml.gpus.reverse()
    nvml.set_gpu(1, util="1 1")
    nvml.set_system(init=None, driver="590.10")
    reading = reader.until(all_ok)
    assert [gpu.uuid for gpu in reading.gpus] == [SMALL["uuid"], BIG["uuid"]]
    assert reading.driver_version == "590.10"


def test_no_driver_at_first(nvml: FakeNvml, reader: Reader) -> None:
    """Without a driver there is a sentence and no GPU; loaded later, the GPUs come by themselves."""
    nvml.set_system(init=f"!{DRIVER_NOT_LOADED}")
    reading = reader.until(lambda reading: reading.settled)
    assert (reading.gpus, reading.note) == ([], "the NVIDIA driver is not loaded")
    nvml.set_system(init=None)
    assert reader.until(all_ok).note is None


def test_versions_differ(nvml: FakeNvml, reader: Reader) -> None:
    """A library that does not fit the driver is said in words that tell what to do."""
    nvml.set_system(init=f"!{VERSION_MISMATCH}")
    reading = reader.until(lambda reading: reading.settled)
    assert reading.note is not None
    assert "reload the driver or restart" in reading.note


def test_a_driver_without_gpus(nvml: FakeNvml, reader: Reader) -> None:
    """A driver that has no GPU is said in words."""
    nvml.gpus.clear()
    nvml.write()
    reading = reader.until(lambda reading: reading.settled)
    assert (reading.gpus, reading.note) == ([], NO_GPU)


def test_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where NVML is not installed no process is started, and a sentence says so."""
    reader = Reader()
    monkeypatch.setattr(reader.sensor, "_present", lambda: False)
    reading = reader.read()
    assert (reading.gpus, reading.note, reading.settled) == ([], NOT_INSTALLED, True)
    assert reader.sensor.child_pid is None


def test_a_call_that_hangs(nvml: FakeNvml, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """GPUs become stale with their last values, nothing waits for them, and a new child brings them back."""
    monkeypatch.setattr(gpu_module, "ANSWER_DEADLINE", 0.8)
    reader.until(all_ok)
    hanging = reader.sensor.child_pid
    assert hanging is not None
    nvml.set_gpu(1, util="hang")
    reading = reader.until(lambda reading: states(reading) == ["stale", "stale"])
    assert [gpu.util_percent for gpu in reading.gpus] == [93, 7]
    reader.until(lambda reading: (sample_age(reading) or 0) >= 0.5)
    reading = reader.until(lambda reading: reading.note == LATE)
    assert states(reading) == ["stale", "stale"]
    nvml.set_gpu(1, util="8 8")
    assert reader.until(all_ok).gpus[1].util_percent == 8
    assert reader.sensor.child_pid != hanging
    assert not psutil.pid_exists(hanging)
    assert reader.longest < 1.0


def test_a_call_that_crashes(nvml: FakeNvml, reader: Reader) -> None:
    """A crash of the library ends its own process alone; the GPUs are stale until the next one reads them."""
    reader.until(all_ok)
    nvml.set_gpu(0, temp="crash")
    reading = reader.until(lambda reading: reading.note == CRASHED)
    assert states(reading) == ["stale", "stale"]
    nvml.set_gpu(0, temp="70")
    assert reader.until(all_ok).gpus[0].temp_c == 70


def test_stale_values_do_not_last(nvml: FakeNvml, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be read again for long enough is no longer shown."""
    monkeypatch.setattr(gpu_rows, "STALE_VALUES_SECONDS", 0.3)
    reader.until(all_ok)
    nvml.set_system(init="hang")
    nvml.set_gpu(0, temp="crash")
    reading = reader.until(lambda reading: reading.gpus[0].util_percent is None)
    assert states(reading) == ["stale", "stale"]
    assert reading.gpus[0].uuid == BIG["uuid"]


def test_the_child_ends_with_its_pipe(nvml: FakeNvml, reader: Reader) -> None:
    """A child in a call that hangs ends all the same when the agent's end of its stdin closes."""
    reader.until(all_ok)
    nvml.set_gpu(0, util="hang")
    reader.until(lambda reading: states(reading) == ["stale", "stale"])
    child = reader.sensor._child
    assert isinstance(child, NvmlProcess)
    assert child._process.stdin is not None
    child._process.stdin.close()
    assert child.wait(5.0)


def test_a_killed_child_is_replaced(nvml: FakeNvml, reader: Reader) -> None:
    """A child that somebody kills is replaced."""
    reader.until(all_ok)
    first = reader.sensor.child_pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    reader.until(lambda reading: reading.note == CRASHED)
    reader.until(all_ok)
    assert reader.sensor.child_pid != first


class Stuck:
    """A child that neither answers nor ends, as one that hangs in the driver."""

    pid = 1

    def ask(self, *, pcie: bool = False) -> None:
        """Take the question."""

    def take(self, patience: float) -> None:
        """Never answer."""

    def end(self) -> None:
        """Not end."""

    def is_gone(self) -> bool:
        """Never."""
        return False

    def wait(self, timeout: float) -> bool:
        """In vain."""
        return False


def test_processes_that_do_not_end_are_not_heaped_up() -> None:
    """After three children that hang in the driver no more are started, and the note says what to do."""
    now = 0.0
    started = []

    def start() -> Stuck:
        started.append(now)
        return Stuck()

    sensor = GpuSensor(start=start, present=lambda: True, rest=Rest("/nonexistent"), monotonic=lambda: now)
    notes = set()
    for _ in range(400):
        sensor.ask()
        notes.add(sensor.read().note)
        now += 1.0
    assert len(started) == 3
    assert STUCK in notes
    # One second, then two: the backoff, on top of the thirty seconds that a start may take.
    assert [round(after - before) for before, after in itertools.pairwise(started)] == [32, 33]
