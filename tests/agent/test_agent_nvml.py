"""NVIDIA GPUs, read by a real child process through a stand-in for NVML's shared library."""

import ctypes
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator

import psutil
import pynvml
import pytest

from agent.sensors import gpu as gpu_module
from agent.sensors.gpu import CRASHED, LATE, NO_GPU, NOT_INSTALLED, STUCK, GpuReading, GpuSensor
from agent.sensors.nvml_process import NvmlProcess
from qubix_tui.protocol.records import GpuInfo, GpuMetrics
from tests.agent.fake_nvml import (
    BIG,
    DRIVER_NOT_LOADED,
    GPU_IS_LOST,
    MIB,
    NO_PERMISSION,
    SMALL,
    VERSION_MISMATCH,
    FakeNvml,
)

PATIENCE = 15.0


class Reader:
    """Reads again and again until something is seen."""

    def __init__(self) -> None:
        self.sensor = GpuSensor(backoff=(0.05,))
        self.longest = 0.0

    def read(self) -> GpuReading:
        """Read once."""
        started = time.monotonic()
        self.sensor.ask()
        reading = self.sensor.read()
        self.longest = max(self.longest, time.monotonic() - started)
        return reading

    def until(self, holds: Callable[[GpuReading], bool]) -> GpuReading:
        """Read until ``holds`` is true of a reading; fails with the last one when it never is."""
        deadline = time.monotonic() + PATIENCE
        while True:
            reading = self.read()
            if holds(reading):
                return reading
            assert time.monotonic() < deadline, reading
            time.sleep(0.01)


@pytest.fixture
def reader() -> Iterator[Reader]:
    """A reader whose child is ended with the test."""
    reader = Reader()
    yield reader
    reader.sensor.close()


def states(reading: GpuReading) -> list[str]:
    """The states of all GPUs."""
    return [gpu.state for gpu in reading.gpus]


def all_ok(reading: GpuReading) -> bool:
    """Whether both GPUs were read."""
    return states(reading) == ["ok", "ok"]


def test_structures() -> None:
    """The structures of pynvml have the sizes that the stand-in was compiled with."""
    sizes = [
        (pynvml.c_nvmlMemory_v2_t, 0x28),
        (pynvml.c_nvmlProcessInfo_v2_t, 24),
        (pynvml.c_nvmlFieldValue_t, 40),
        (pynvml.c_nvmlEventData_t, 32),
        (pynvml.c_nvmlUtilization_t, 8),
    ]
    assert [ctypes.sizeof(structure) for structure, _ in sizes] == [size for _, size in sizes]


def test_everything_that_a_gpu_tells(nvml: FakeNvml, reader: Reader) -> None:
    """Each value arrives under its name and in the units of the wire."""
    reading = reader.until(all_ok)
    assert reading.note is None
    assert reading.gpus[0] == GpuMetrics(
        index=0,
        uuid=BIG["uuid"],
        name="NVIDIA H200",
        util_percent=93,
        mem_util_percent=41,
        mem_used_mb=70000,
        mem_total_mb=143771,
        temp_c=61,
        mem_temp_c=74,
        temp_slowdown_c=90,
        power_w=512.34,
        power_limit_w=700,
        energy_j=123456.79,
        sm_clock_mhz=1980,
        mem_clock_mhz=3201,
        fan_percent=35,
        throttle=["power cap"],
        ecc_uncorrected=2,
        processes=[],
    )
    assert (reading.driver_version, reading.cuda_version) == ("580.65.06", "13.0")
    assert reading.identities == [
        GpuInfo(uuid=BIG["uuid"], name=BIG["name"], mem_total_mb=143771),
        GpuInfo(uuid=SMALL["uuid"], name=SMALL["name"], mem_total_mb=15360),
    ]


def test_what_a_gpu_does_not_tell(nvml: FakeNvml, reader: Reader) -> None:
    """A GPU without fan, power, ECC or threshold has null there and is otherwise complete."""
    small = reader.until(all_ok).gpus[1]
    assert small.fan_percent is None
    assert small.power_w is None
    assert small.power_limit_w is None
    assert small.energy_j is None
    assert small.mem_temp_c is None
    assert small.ecc_uncorrected is None
    assert small.temp_slowdown_c is None
    assert small.xid is None
    assert (small.util_percent, small.temp_c, small.throttle) == (7, 44, ["idle"])


def test_the_unsupported_is_not_asked_again(nvml: FakeNvml, reader: Reader) -> None:
    """A call that was refused as unsupported or forbidden is made once; the others go on."""
    nvml.set_gpu(0, energy=f"!{NO_PERMISSION}")
    reader.until(all_ok)
    before = nvml.calls()
    nvml.set_gpu(0, util="50 1")
    reader.until(lambda reading: reading.gpus[0].util_percent == 50)
    after = nvml.calls()
    assert after["nvmlDeviceGetUtilizationRates 1"] > before["nvmlDeviceGetUtilizationRates 1"]
    for call in (
        "nvmlDeviceGetPowerUsage 1",
        "nvmlDeviceGetFanSpeed 1",
        "nvmlDeviceGetTotalEnergyConsumption 0",
    ):
        assert after[call] == 1, call


def test_tiers_and_one_initialisation(nvml: FakeNvml, reader: Reader) -> None:
    """The library is initialised once; what changes slowly is not read with every sample."""
    reader.until(all_ok)
    for _ in range(5):
        assert all_ok(reader.read())
    calls = nvml.calls()
    assert calls["nvmlInitWithFlags"] == 1
    assert calls["nvmlDeviceGetUtilizationRates 0"] >= 6
    for call in (
        "nvmlDeviceGetName 0",
        "nvmlDeviceGetFanSpeed 0",
        "nvmlDeviceGetTotalEccErrors 0",
        "nvmlDeviceGetEnforcedPowerLimit 0",
        "nvmlDeviceGetTemperatureThreshold 0",
    ):
        assert calls[call] == 1, call


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        ("0", []),
        ("0x44", ["power cap", "thermal (hardware)"]),
        ("0x20", ["thermal (software)"]),
        ("0x1000000000", ["unknown (0x1000000000)"]),
        (None, None),
    ],
)
def test_throttle_reasons(nvml: FakeNvml, reader: Reader, bits: str | None, words: list[str] | None) -> None:
    """Reasons are words; none is an empty list, and null where the GPU does not tell."""
    nvml.set_gpu(0, throttle=bits)
    assert reader.until(all_ok).gpus[0].throttle == words


def test_processes(nvml: FakeNvml, reader: Reader) -> None:
    """Processes carry the name that the system has for them, the biggest first, sixteen at most."""
    mine = os.getpid()
    crowd = " ".join(f"{4_000_000 + number}:{number * MIB}" for number in range(18))
    nvml.set_gpu(0, compute=f"{mine}:{900 * MIB} {crowd}", graphics="4100000:-")
    processes = reader.until(all_ok).gpus[0].processes
    assert processes is not None
    assert len(processes) == 16
    assert (processes[0].pid, processes[0].mem_used_mb, processes[0].kind) == (mine, 900, "compute")
    assert processes[0].name == psutil.Process().name()
    assert processes[1].pid == 4_000_017
    assert processes[1].name is None


def test_memory_of_a_process_may_be_unknown(nvml: FakeNvml, reader: Reader) -> None:
    """Where the driver does not tell a process's memory it is null, not 0."""
    nvml.set_gpu(0, graphics="4100000:-")
    processes = reader.until(all_ok).gpus[0].processes
    assert processes is not None
    assert (processes[0].pid, processes[0].mem_used_mb, processes[0].kind) == (4_100_000, None, "graphics")


def test_an_older_driver(nvml: FakeNvml, reader: Reader) -> None:
    """Memory is read by the first form of the call where the second is not known."""
    nvml.set_gpu(0, memory=f"{1000 * MIB} {10 * MIB}")
    first = reader.until(all_ok).gpus[0]
    assert (first.mem_used_mb, first.mem_total_mb) == (10, 1000)


def test_unified_memory(nvml: FakeNvml, reader: Reader) -> None:
    """A GPU without memory of its own is marked as sharing the host's."""
    nvml.set_gpu(1, memory="0 0 0")
    reading = reader.until(all_ok)
    assert reading.unified == {1}
    assert reading.gpus[1].mem_total_mb is None
    assert reading.note == "GPU 1 is sharing the host's memory"


def test_a_percentage_beyond_100(nvml: FakeNvml, reader: Reader, caplog: pytest.LogCaptureFixture) -> None:
    """It is shown as 100, and what was read is said once."""
    nvml.set_gpu(0, util="137 1")
    assert reader.until(all_ok).gpus[0].util_percent == 100
    reader.read()
    assert [record.getMessage() for record in caplog.records] == [
        "GPU 0: utilPercent: was read as 137 and is shown as 100"
    ]


def test_xid(nvml: FakeNvml, reader: Reader) -> None:
    """An XID error stays on the GPU that it happened to."""
    reader.until(all_ok)
    nvml.set_gpu(0, xid="79")
    reading = reader.until(lambda reading: reading.gpus[0].xid is not None)
    assert [gpu.xid for gpu in reading.gpus] == [79, None]


def test_lost_and_found(nvml: FakeNvml, reader: Reader) -> None:
    """A lost GPU keeps its identity and no values; the other goes on; it comes back by its UUID."""
    reader.until(all_ok)
    nvml.set_gpu(0, lost=str(GPU_IS_LOST))
    reading = reader.until(lambda reading: states(reading) == ["lost", "ok"])
    assert reading.gpus[0] == GpuMetrics(
        index=0, uuid=BIG["uuid"], name=BIG["name"], mem_total_mb=143771, state="lost"
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
    monkeypatch.setattr(gpu_module, "STALE_VALUES_SECONDS", 0.3)
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

    def ask(self) -> None:
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

    sensor = GpuSensor(start=start, present=lambda: True, monotonic=lambda: now)
    notes = set()
    for _ in range(400):
        sensor.ask()
        notes.add(sensor.read().note)
        now += 1.0
    assert len(started) == 3
    assert STUCK in notes
    # One second, then two: the backoff, on top of the thirty seconds that a start may take.
    assert [round(after - before) for before, after in itertools.pairwise(started)] == [32, 33]
