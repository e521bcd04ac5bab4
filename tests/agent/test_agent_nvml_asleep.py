"""GPUs that sleep: not woken, not read, and let go of so that they can."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.sensors import gpu_rest, nvidia_pci
from agent.sensors.gpu_rest import MAX_UNUSED_SECONDS, TRIAL_SECONDS, UNUSED_SECONDS, Rest
from qubix_tui.protocol.records import GpuInfo, GpuMetrics
from tests.agent.fake_nvml import BIG, SMALL, FakeNvml
from tests.agent.fake_pci import FakePci
from tests.agent.reader import Reader, all_ok, states

FIRST, SECOND = "0000:41:00.0", "0000:c1:00.0"


@pytest.fixture
def pci(tmp_path: Path) -> FakePci:
    """A PCI bus with both GPUs of the stand-in, awake, and devices that are none of NVML's."""
    fake = FakePci(tmp_path / "root")
    fake.add(SECOND)
    fake.add(FIRST)
    fake.add("0000:41:00.1", "suspended", kind="0x040300")
    fake.add("0000:42:00.0", "suspended", vendor="0x8086")
    fake.add("0000:43:00.0", "suspended", driver="vfio-pci")
    fake.add("0000:44:00.0", "suspended", driver=None)
    return fake


@pytest.fixture
def reader(pci: FakePci) -> Iterator[Reader]:
    """A reader that looks at that bus."""
    reader = Reader(str(pci.root))
    yield reader
    reader.sensor.close()


def touching(calls: Counter[str], index: int) -> list[str]:
    """The calls that were made for one GPU."""
    return [call for call in calls if call.endswith(f" {index}") and not call.startswith("nvmlInit")]


def test_which_gpus_there_are(pci: FakePci) -> None:
    """GPUs of NVIDIA's driver are found, in the order of their addresses, and nothing else is."""
    root = str(pci.root)
    assert nvidia_pci.addresses(root) == [FIRST, SECOND]
    assert nvidia_pci.addresses("/nonexistent") == []
    assert not nvidia_pci.is_asleep("0000:99:00.0", root)


@pytest.mark.parametrize(
    ("bus_id", "address"),
    [
        ("00000000:C1:00.0", SECOND),
        ("00010001:0A:00.0", "10001:0a:00.0"),
        ("00000002:0A:00.0", "0002:0a:00.0"),
    ],
)
def test_addresses_of_nvml(bus_id: str, address: str) -> None:
    """An address of NVML's is written as the kernel does: four digits of domain or more, small letters."""
    assert nvidia_pci.from_nvml(bus_id) == address


def test_asleep_from_the_start(nvml: FakeNvml, pci: FakePci, reader: Reader) -> None:
    """Where all GPUs sleep NVML is not even loaded; they are counted, and read once one wakes."""
    pci.set(FIRST, "suspended")
    pci.set(SECOND, "suspended")
    for _ in range(3):
        reading = reader.read()
        assert reading.gpus == [
            GpuMetrics(index=0, pci_address=FIRST, state="asleep"),
            GpuMetrics(index=1, pci_address=SECOND, state="asleep"),
        ]
    assert (reading.settled, reading.note, reading.identities) == (True, None, [GpuInfo(), GpuInfo()])
    assert reader.sensor.child_pid is None
    assert not nvml.calls()

    pci.set(FIRST, "active")
    reading = reader.until(lambda reading: states(reading) == ["ok", "asleep"])
    assert [gpu.uuid for gpu in reading.gpus] == [BIG["uuid"], None]
    assert not touching(nvml.calls(), 1), "the library is initialised, and the sleeping one left alone"

    pci.set(SECOND, "active")
    reading = reader.until(all_ok)
    assert [gpu.uuid for gpu in reading.gpus] == [BIG["uuid"], SMALL["uuid"]]
    assert len(reading.identities) == 2


def test_one_falls_asleep(nvml: FakeNvml, pci: FakePci, reader: Reader) -> None:
    """A GPU that falls asleep is not read any more, and keeps its identity; the other goes on."""
    reader.until(all_ok)
    pci.set(SECOND, "suspended")
    reading = reader.until(lambda reading: states(reading) == ["ok", "asleep"])
    assert reading.gpus[1] == GpuMetrics(
        index=1,
        uuid=SMALL["uuid"],
        name=SMALL["name"],
        pci_address=SECOND,
        mem_total_mb=15360,
        state="asleep",
    )
    before = nvml.calls()
    for _ in range(3):
        reader.until(lambda reading: states(reading) == ["ok", "asleep"])
    after = nvml.calls()
    assert {call: after[call] for call in touching(after, 1)} == {
        call: before[call] for call in touching(before, 1)
    }
    assert after["nvmlDeviceGetUtilizationRates 0"] > before["nvmlDeviceGetUtilizationRates 0"]


def test_unused_gpus_are_let_go(
    nvml: FakeNvml, pci: FakePci, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GPUs that nobody uses and that may sleep are let go of; while they sleep, there is no child."""
    monkeypatch.setattr(gpu_rest, "UNUSED_SECONDS", 0.0)
    reader.sensor._rest = Rest(str(pci.root))
    for index, place in enumerate((FIRST, SECOND)):
        pci.set(place, "active", control="auto")
        nvml.set_gpu(index, util="0 0")
    reader.until(lambda _: reader.sensor.child_pid is None and bool(nvml.calls()))
    assert states(reader.read()) == ["stale", "stale"], "they were not seen to sleep yet"
    pci.set(FIRST, "suspended")
    assert states(reader.read()) == ["asleep", "stale"]
    pci.set(SECOND, "suspending")
    reading = reader.read()
    assert states(reading) == ["asleep", "asleep"]
    assert [gpu.uuid for gpu in reading.gpus] == [BIG["uuid"], SMALL["uuid"]]
    assert reader.sensor.child_pid is None


@pytest.mark.parametrize("used", ["busy", "held", "kept awake", "without runtime D3"])
def test_used_gpus_are_not_let_go(
    nvml: FakeNvml, pci: FakePci, reader: Reader, monkeypatch: pytest.MonkeyPatch, used: str
) -> None:
    """One that computes, that a process holds, or that the kernel would not suspend, is read on."""
    monkeypatch.setattr(gpu_rest, "UNUSED_SECONDS", 0.0)
    reader.sensor._rest = Rest(str(pci.root))
    for index, place in enumerate((FIRST, SECOND)):
        pci.set(place, "active", control="auto")
        nvml.set_gpu(index, util="0 0")
    if used == "busy":
        nvml.set_gpu(0, util="1 0")
    elif used == "held":
        nvml.set_gpu(0, compute="4000000:-")
    elif used == "kept awake":
        pci.set(FIRST, "active", control="on")
    else:
        told = pci.root / "proc/driver/nvidia/gpus" / FIRST / "power"
        told.write_text(told.read_text().replace("Enabled (fine-grained)", "Disabled by default"))
    reader.until(all_ok)
    child = reader.sensor.child_pid
    for _ in range(3):
        reader.until(all_ok)
    assert reader.sensor.child_pid == child


def test_a_trial_that_fails_is_repeated_later(pci: FakePci) -> None:
    """GPUs that do not fall asleep when let go of are read again, and let go of half as often each time."""
    rest = Rest(str(pci.root))
    now, waits = 0.0, []
    for _ in range(8):
        began = now
        while not rest.is_due(now, unused=True):
            now += 1
        waits.append(now - began)
        rest.begin(now, [FIRST])
        assert rest.sleepers(now) == []
        now += TRIAL_SECONDS
        assert rest.sleepers(now) is None
    assert waits[:3] == [UNUSED_SECONDS, 2 * UNUSED_SECONDS, 4 * UNUSED_SECONDS]
    assert waits[-1] == MAX_UNUSED_SECONDS

    while not rest.is_due(now, unused=True):
        now += 1
    rest.begin(now, [FIRST])
    pci.set(FIRST, "suspended")
    assert rest.sleepers(now) == [FIRST]
    now += 100 * TRIAL_SECONDS
    assert rest.sleepers(now) == [FIRST], "one that sleeps is left alone for as long as it does"
    pci.set(FIRST, "active")
    assert rest.sleepers(now) is None
    assert not rest.is_due(now, unused=True)
    assert rest.is_due(now + UNUSED_SECONDS, unused=True), "it did sleep: the next trial comes soon again"


def test_use_in_between_counts(pci: FakePci) -> None:
    """Only an unbroken time without use lets GPUs go."""
    rest = Rest(str(pci.root))
    assert not rest.is_due(0.0, unused=True)
    assert not rest.is_due(UNUSED_SECONDS - 1, unused=False)
    assert not rest.is_due(UNUSED_SECONDS, unused=True)
    assert rest.is_due(2 * UNUSED_SECONDS, unused=True)
