"""What a provider registers with."""

import platform
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sensors.base import one_line
from agent.sensors.gpu import NO_READING, GpuReading
from agent.sensors.inventory import (
    HostFacts,
    Owner,
    cpu_model,
    most_common_model,
    operating_system,
    provider_spec,
    read_host,
)
from qubix_tui import __version__
from qubix_tui.protocol.codec import decode_record, encode_record
from qubix_tui.protocol.records import GpuInfo, ProviderSpec

HOST = HostFacts(cpu_model="AMD EPYC 9654", cpu_cores=192, ram_total_mb=773_000, os="Debian 12, Linux 6.1")
OWNER = Owner("worker-1", name="rig-7", location="Oslo", price_per_hour=0.45)


def reading(*gpus: GpuInfo, unified: frozenset[int] = frozenset()) -> GpuReading:
    """An answer with these GPUs."""
    return NO_READING._replace(
        identities=list(gpus), driver_version="580.65.06", cuda_version="13.0", unified=unified, settled=True
    )


def test_everything_known() -> None:
    """Owner, machine and GPUs make one record; the model is the one that most GPUs are."""
    gpus = (
        GpuInfo(uuid="GPU-0", name="NVIDIA T4G", mem_total_mb=15_360),
        GpuInfo(uuid="GPU-1", name="NVIDIA H200", mem_total_mb=143_771),
        GpuInfo(uuid="GPU-2", name="NVIDIA H200", mem_total_mb=143_771),
    )
    assert provider_spec(OWNER, HOST, reading(*gpus)) == ProviderSpec(
        worker_id="worker-1",
        name="rig-7",
        location="Oslo",
        price_per_hour=0.45,
        gpu_model="NVIDIA H200",
        gpu_count=3,
        gpu_mem_total_mb=302_902,
        gpus=list(gpus),
        cpu_model="AMD EPYC 9654",
        cpu_cores=192,
        ram_total_mb=773_000,
        os="Debian 12, Linux 6.1",
        driver_version="580.65.06",
        cuda_version="13.0",
        agent_version=__version__,
    )


def test_before_the_first_answer_nothing_is_counted() -> None:
    """GPUs that nobody has looked for yet are unknown, not none."""
    assert provider_spec(OWNER, HOST, NO_READING).gpu_count is None


def test_a_machine_without_a_gpu() -> None:
    """None were found: the count is 0, and there is no memory to speak of."""
    spec = provider_spec(OWNER, HOST, reading())
    assert (spec.gpu_count, spec.gpu_model, spec.gpu_mem_total_mb, spec.gpus) == (0, None, None, [])


def test_memory_that_is_the_hosts() -> None:
    """A GPU without memory of its own has that of the machine; one that does not tell has unknown memory."""
    gpu = GpuInfo(uuid="GPU-0", name="NVIDIA GB10")
    assert provider_spec(OWNER, HOST, reading(gpu, unified=frozenset({0}))).gpu_mem_total_mb == 773_000
    assert provider_spec(OWNER, HOST, reading(gpu)).gpu_mem_total_mb is None


def test_the_most_common_model() -> None:
    """Of equally many the first counts; GPUs without a name do not."""
    first, second, nameless = GpuInfo(name="A"), GpuInfo(name="B"), GpuInfo()
    assert most_common_model([first, second]) == "A"
    assert most_common_model([nameless, nameless, second]) == "B"
    assert most_common_model([nameless]) is None


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("processor\t: 0\nmodel\t\t: 1\nmodel name\t: AMD EPYC   9654\n", "AMD EPYC 9654"),
        ("processor\t: 0\nBogoMIPS\t: 50.00\n\nHardware\t: BCM2711\n", "BCM2711"),
        ("processor\t: 0\nmodel name\t:\n\nModel\t\t: Raspberry Pi 5\n", "Raspberry Pi 5"),
        ("processor\t: 0\nCPU implementer\t: 0x41\n", platform.machine()),
    ],
)
def test_cpu_model(cpuinfo: str, expected: str, tmp_path: Path) -> None:
    """The maker's name for the CPU, wherever the architecture puts it; else the architecture."""
    path = tmp_path / "cpuinfo"
    path.write_text(cpuinfo)
    assert cpu_model(path) == expected


def test_cpu_model_without_the_kernels_file(tmp_path: Path) -> None:
    """Where there is no such file the architecture is better than nothing."""
    assert cpu_model(tmp_path / "missing") in {platform.processor(), platform.machine()}


def test_operating_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Distribution and kernel; the kernel alone where no distribution tells its name."""
    kernel = f"{platform.system()} {platform.release()} {platform.machine()}"
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"PRETTY_NAME": "Debian 12"})
    assert operating_system() == f"Debian 12, {kernel}"

    def missing() -> dict[str, str]:
        raise OSError

    monkeypatch.setattr(platform, "freedesktop_os_release", missing)
    assert operating_system() == kernel


def test_this_machine() -> None:
    """The machine that runs this test is described completely."""
    facts = read_host()
    assert facts.cpu_model
    assert facts.cpu_cores is not None
    assert facts.cpu_cores >= 1
    assert facts.ram_total_mb > 0
    assert facts.os is not None
    assert platform.release() in facts.os


@given(st.text())
def test_whatever_things_are_called_the_record_is_taken(text: str) -> None:
    """Whatever a machine or a GPU is called, its record passes the checks of the wire."""
    name = one_line(text)
    assert name != ""
    spec = provider_spec(OWNER._replace(name=name), HOST, reading(GpuInfo(name=name)))
    assert decode_record(encode_record(spec), ProviderSpec) == spec
