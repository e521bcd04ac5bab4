"""Which GPUs are offered: the others are in no record and in no sample."""

from pathlib import Path

import pytest

from agent.sensors.gpu_off import OFF
from agent.sensors.inventory import HostFacts, Owner, provider_spec
from agent.sensors.offer import Offer
from qubix_tui.protocol.records import GpuMetrics
from tests.agent.fake_nvml import BIG, GPU_IS_LOST, SMALL, FakeNvml
from tests.agent.reader import Reader
from tests.agent.running import provider, running
from tests.end_to_end.processes import hub_process, run, wait_for

HOST = HostFacts(cpu_model=None, cpu_cores=8, ram_total_mb=1024, os=None)


@pytest.fixture
def small_only(nvml: FakeNvml) -> Reader:
    """A reader that is offered the second GPU by its UUID."""
    return Reader(offer=Offer([SMALL["uuid"]]))


def test_by_number_by_uuid_or_all() -> None:
    """A number counts as the driver counts; a UUID is the GPU's own; nothing else is offered beside them."""
    first, second = GpuMetrics(index=0, uuid="GPU-a"), GpuMetrics(index=1, uuid="GPU-b")
    assert [Offer([0]).includes(gpu) for gpu in (first, second)] == [True, False]
    assert [Offer(["1"]).includes(gpu) for gpu in (first, second)] == [False, True]
    assert [Offer(["GPU-a"]).includes(gpu) for gpu in (first, second)] == [True, False]
    assert [Offer(["all", 7]).includes(gpu) for gpu in (first, second)] == [True, True]
    assert not Offer([]).includes(first)
    part = GpuMetrics(index=1, uuid="MIG-c", parent_index=0, parent_uuid="GPU-a")
    assert [Offer([choice]).includes(part) for choice in (0, 1, "GPU-a", "MIG-c", "GPU-b")] == [
        *(True, False, True, True, False)
    ]
    assert Offer([0, "GPU-b", 7, "GPU-x"]).missing([first, second]) == ["7", "GPU-x"]
    assert Offer().missing([]) == []


def test_the_others_are_nowhere(small_only: Reader, nvml: FakeNvml) -> None:
    """Neither sampled nor registered, and what becomes of them is not told."""
    reading = small_only.until(lambda reading: bool(reading.gpus))
    assert [gpu.uuid for gpu in reading.gpus] == [SMALL["uuid"]]
    spec = provider_spec(Owner("worker-1"), HOST, reading)
    assert (spec.gpu_count, spec.gpu_model, spec.gpu_mem_total_mb) == (1, "NVIDIA T4G", 15360)
    assert [gpu.uuid for gpu in spec.gpus] == [SMALL["uuid"]]
    nvml.set_gpu(0, lost=str(GPU_IS_LOST))
    calls = nvml.calls()["nvmlDeviceGetUtilizationRates 1"]
    reading = small_only.until(lambda _: nvml.calls()["nvmlDeviceGetUtilizationRates 1"] > calls + 2)
    assert ([gpu.state for gpu in reading.gpus], reading.note) == (["ok"], None)
    small_only.sensor.close()


def test_one_that_is_not_there_is_said(nvml: FakeNvml) -> None:
    """An owner who offers a GPU that this machine does not have reads so beside what it has."""
    reader = Reader(offer=Offer([0, 9]))
    reading = reader.until(lambda reading: bool(reading.gpus))
    assert [gpu.uuid for gpu in reading.gpus] == [BIG["uuid"]]
    assert reading.note == "offered, but not there: GPU 9"
    reader.sensor.close()


def test_what_the_file_says_reaches_the_hub(tmp_path: Path, nvml: FakeNvml) -> None:
    """The GPUs of agent.toml are those of the record and of the samples; the interval is the file's."""
    home = tmp_path / "home"
    with hub_process(home) as (_, url):
        (home / "agent.toml").write_text("[gpus]\noffer = [1]\n[sampling]\ninterval_seconds = 0.1\n")
        with running(home, url, **nvml.environment) as agent:
            provider_id = agent.registered()
            found = wait_for(
                lambda: (
                    ((seen := provider(url, provider_id))["metrics"].get("seq") or 0) >= 20
                    and seen["metrics"]["gpus"]
                    and seen
                ),
                "the second GPU",
            )
    assert [gpu["uuid"] for gpu in found["gpus"]] == [SMALL["uuid"]]
    assert [gpu["uuid"] for gpu in found["metrics"]["gpus"]] == [SMALL["uuid"]]
    assert (found["gpuCount"], found["gpuModel"], found["gpuMemTotalMb"]) == (1, "NVIDIA T4G", 15360)


def test_sensors_that_are_off(tmp_path: Path, nvml: FakeNvml) -> None:
    """No process is started to read GPUs, none is offered, and the reason is told."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "agent.toml").write_text("[sensors]\ngpu = false\ncpu_temperature = false\n")
    shown = run(["qubix-agent", "sample"], home, **nvml.environment)
    assert shown.returncode == 0, shown.stderr
    assert OFF in shown.stdout
    assert nvml.calls() == {}
