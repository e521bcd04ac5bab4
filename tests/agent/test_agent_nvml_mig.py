"""GPUs that are divided into MIG instances."""

import msgspec
import pynvml
import pytest

from agent.sampler import combine
from agent.sensors import nvml as nvml_module
from agent.sensors.gpu import NO_READING
from agent.sensors.gpu_rows import GpuRows
from agent.sensors.nvml import Device
from agent.sensors.offer import Offer
from qubix_tui.hub.samples import MAX_METRICS_BYTES
from qubix_tui.protocol.codec import encode_record
from qubix_tui.protocol.records import GpuAges, GpuMetrics, GpuProcess
from tests.agent.fake_nvml import BIG, FIRST_INSTANCE, INSTANCES, INVALID_ARGUMENT, MIB, SMALL, FakeNvml
from tests.agent.reader import Reader
from tests.agent.test_agent_sampler import HOST


def instance(place: int, **values: str) -> dict[str, str]:
    """What the stand-in answers for a MIG instance."""
    usual = {
        "uuid": f"MIG-{place}",
        "name": "NVIDIA H200 MIG 1g.18gb",
        "memory": f"{18000 * MIB} {(place + 1) * 1000 * MIB} 0",
        "gi": str(7 + place),
        "compute": "-",
        "graphics": "-",
    }
    return {**usual, **values}


def divide(fake: FakeNvml, gpu: int, *places: int) -> None:
    """Divide a GPU of the stand-in: it has instances at these places, and tells no utilisation."""
    first = FIRST_INSTANCE + INSTANCES * gpu
    fake.instances = {first + place: instance(place, compute=f"400000{place}:{MIB}") for place in places}
    fake.set_gpu(gpu, mig="1 7", util=None)


def test_instances_are_rows_of_their_own(nvml: FakeNvml, reader: Reader) -> None:
    """Each instance follows the GPUs and says whose part it is; it has memory and processes, but no use."""
    divide(nvml, 0, 0, 3)
    reading = reader.until(lambda reading: len(reading.gpus) == 4)
    assert [(gpu.index, gpu.uuid, gpu.parent_index) for gpu in reading.gpus] == [
        (0, BIG["uuid"], None),
        (1, SMALL["uuid"], None),
        (2, "MIG-0", 0),
        (3, "MIG-3", 0),
    ]
    assert reading.gpus[0].util_percent is None
    ages = reading.gpus[3].ages
    assert ages is not None
    assert (ages.five_seconds, ages.minute) == (ages.sample, None), (
        "all was read now, and nothing each minute"
    )
    assert msgspec.structs.replace(reading.gpus[3], ages=None) == GpuMetrics(
        index=3,
        uuid="MIG-3",
        name="NVIDIA H200 MIG 1g.18gb",
        parent_index=0,
        parent_uuid=BIG["uuid"],
        gpu_instance_id=10,
        mem_used_mb=4000,
        mem_total_mb=18000,
        processes=[GpuProcess(pid=4000003, mem_used_mb=1, kind="compute")],
    )
    assert [info.uuid for info in reading.identities] == [BIG["uuid"], SMALL["uuid"]]
    metrics = combine(HOST, reading)
    assert metrics.gpu_mem_total_mb == 143771 + 15360, "a part is not counted beside its whole"
    assert metrics.gpu_percent == 7


@pytest.mark.parametrize(
    ("choice", "uuids"),
    [
        (0, [BIG["uuid"], "MIG-0", "MIG-3"]),
        (BIG["uuid"], [BIG["uuid"], "MIG-0", "MIG-3"]),
        ("MIG-3", ["MIG-3"]),
        (1, [SMALL["uuid"]]),
    ],
)
def test_what_is_offered_of_a_divided_gpu(nvml: FakeNvml, choice: int | str, uuids: list[str]) -> None:
    """A whole that is offered is offered with its instances; an instance may be offered alone."""
    divide(nvml, 0, 0, 3)
    reader = Reader(offer=Offer([choice]))
    try:
        reading = reader.until(lambda reading: bool(reading.gpus))
    finally:
        reader.sensor.close()
    assert [gpu.uuid for gpu in reading.gpus] == uuids
    assert reading.note is None


def test_another_division(nvml: FakeNvml, reader: Reader) -> None:
    """After a new start an instance that is gone is not shown as lost, and a new one is there."""
    divide(nvml, 0, 0, 3)
    reader.until(lambda reading: len(reading.gpus) == 4)
    divide(nvml, 0, 1)
    nvml.set_gpu(1, temp="crash")
    reader.until(lambda reading: reading.gpus[0].state == "stale")
    nvml.set_gpu(1, temp="44")
    reading = reader.until(lambda reading: len(reading.gpus) == 3 and reading.gpus[0].state == "ok")
    assert reading.gpus[2].uuid == "MIG-1"


def test_an_instance_that_is_taken_away(nvml: FakeNvml, reader: Reader) -> None:
    """An instance whose handle is none any more is gone at once; its GPU and the other instances go on."""
    divide(nvml, 0, 0, 3)
    reader.until(lambda reading: len(reading.gpus) == 4)
    child = reader.sensor.child_pid
    del nvml.instances[FIRST_INSTANCE]["uuid"]
    nvml.instances[FIRST_INSTANCE]["lost"] = str(INVALID_ARGUMENT)
    nvml.write()
    reading = reader.until(lambda reading: len(reading.gpus) == 3)
    assert [(gpu.uuid, gpu.state) for gpu in reading.gpus] == [
        (BIG["uuid"], "ok"),
        (SMALL["uuid"], "ok"),
        ("MIG-3", "ok"),
    ]
    assert reader.sensor.child_pid == child


def test_a_new_division_is_seen_within_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """The layout is looked at again after 60 s, in the same generation."""
    layout = ["MIG-a", "MIG-b"]
    monkeypatch.setattr(nvml_module, "instance_handles", lambda _: layout)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUUID", lambda handle: handle)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetIndex", lambda _: 0)
    device = Device(0, lambda: "GPU", address="0000:01:00.0", root="/nonexistent", remarks={})
    device._find_instances(0.0)
    assert list(device._instances) == layout
    kept = device._instances["MIG-b"]
    layout = ["MIG-b", "MIG-c"]
    device._find_instances(30.0)
    assert list(device._instances) == ["MIG-a", "MIG-b"]
    device._find_instances(60.0)
    assert list(device._instances) == ["MIG-b", "MIG-c"]
    assert device._instances["MIG-b"] is kept


def test_a_sample_always_fits() -> None:
    """Eight GPUs divided in seven each, with as many and as long process names as can be, fit a frame."""
    crowd = [GpuProcess(pid=4_000_000 + pid, mem_used_mb=143_771, kind="graphics") for pid in range(16)]
    ages = GpuAges(sample=0.0, five_seconds=4.4, minute=55.5)
    name = "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
    whole = [
        GpuMetrics(index=index, uuid=f"GPU-{index:036}", name=name, processes=crowd, ages=ages)
        for index in range(8)
    ]
    parts = [
        GpuMetrics(
            index=number % 8,
            uuid=f"MIG-{number:036}",
            name=name,
            parent_index=number % 8,
            parent_uuid=f"GPU-{number % 8:036}",
            processes=crowd[:4],
            ages=ages,
        )
        for number in range(56)
    ]
    rows = GpuRows(Offer())
    rows._names._names = dict.fromkeys((process.pid for process in crowd), "�" * 32)
    rows.take([*whole, *parts], 0.0)
    shown = rows.shown(0.0, fresh=True, asleep=())
    assert [gpu.index for gpu in shown] == list(range(len(shown)))
    assert (len(shown) - 8) + rows.hidden == 56
    assert len(shown) > 20
    assert len(encode_record(combine(HOST, NO_READING._replace(gpus=shown)))) < MAX_METRICS_BYTES
