"""What NVIDIA GPUs tell, read by a real child process through a stand-in for NVML's shared library."""

import ctypes
import os

import msgspec
import psutil
import pynvml
import pytest

from qubix_tui.protocol.records import GpuInfo, GpuMetrics
from tests.agent.fake_nvml import (
    BIG,
    MIB,
    NO_PERMISSION,
    SMALL,
    FakeNvml,
)
from tests.agent.reader import Reader, all_ok


def test_structures() -> None:
    """The structures of pynvml have the sizes that the stand-in was compiled with."""
    sizes = [
        (pynvml.c_nvmlMemory_v2_t, 0x28),
        (pynvml.c_nvmlProcessInfo_v2_t, 24),
        (pynvml.c_nvmlFieldValue_t, 40),
        (pynvml.c_nvmlEventData_t, 32),
        (pynvml.c_nvmlUtilization_t, 8),
        (pynvml.nvmlPciInfo_t, 68),
        (pynvml.c_nvmlTemperature_v1_t, 12),
    ]
    assert [ctypes.sizeof(structure) for structure, _ in sizes] == [size for _, size in sizes]


def test_everything_that_a_gpu_tells(nvml: FakeNvml, reader: Reader) -> None:
    """Each value arrives under its name and in the units of the wire."""
    reading = reader.until(all_ok)
    assert reading.note is None
    ages = reading.gpus[0].ages
    assert ages is not None
    assert all(age is not None and age < 5 for age in (ages.sample, ages.five_seconds, ages.minute))
    assert msgspec.structs.replace(reading.gpus[0], ages=None) == GpuMetrics(
        index=0,
        uuid=BIG["uuid"],
        name="NVIDIA H200",
        pci_address="0000:41:00.0",
        util_percent=93,
        mem_util_percent=41,
        mem_used_mb=70000,
        mem_total_mb=143771,
        temp_c=61,
        mem_temp_c=74,
        temp_slowdown_c=90,
        temp_shutdown_c=95,
        mem_temp_max_c=97,
        power_w=512.34,
        power_limit_w=700,
        energy_j=123456.79,
        sm_clock_mhz=1980,
        mem_clock_mhz=3201,
        performance_state=0,
        pcie_link_gen=5,
        pcie_link_gen_max=5,
        pcie_link_width=8,
        pcie_link_width_max=16,
        fan_percent=35,
        throttle=["power cap"],
        ecc_corrected=5,
        ecc_uncorrected=2,
        row_remaps_correctable=3,
        row_remaps_uncorrectable=1,
        row_remap_pending=True,
        row_remap_failure=False,
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
        "nvmlDeviceGetEnforcedPowerLimit 0",
        "nvmlDeviceGetTotalEnergyConsumption 0",
        "nvmlDeviceGetRemappedRows 0",
        "nvmlDeviceGetMaxPcieLinkWidth 0",
    ):
        assert calls[call] == 1, call
    assert calls["nvmlDeviceGetTotalEccErrors 0"] == 2, "corrected and uncorrected"
    assert calls["nvmlDeviceGetPcieThroughput 0"] == 0


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
