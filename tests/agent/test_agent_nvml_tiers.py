"""How often what is read of a GPU, what is counted from counters, and values that can't be."""

import time
from typing import Any

import pynvml
import pytest

from agent.sensors.nvml_fields import ALWAYS, OFTEN, ONCE, SELDOM, EnergyMeter, Field
from agent.sensors.nvml_unit import GenerationOver, Unit
from tests.agent.fake_nvml import FUNCTION_NOT_FOUND, FakeNvml
from tests.agent.reader import Reader, all_ok


class Counting:
    """A field that counts how often it is read, and answers or fails as told."""

    def __init__(self, member: str, every: float) -> None:
        self.reads = 0
        self.error: int | None = None
        self.field = Field((member,), every, self._read)

    def _read(self, handle: Any) -> tuple[int]:
        self.reads += 1
        if self.error is not None:
            raise pynvml.NVMLError(self.error)
        return (self.reads,)


def test_each_tier_is_read_as_often_as_it_says() -> None:
    """In two minutes of samples: each second, each 5 s, each 60 s, once; ages say how old each tier is."""
    counted = [Counting(f"every{every}", every) for every in (ALWAYS, OFTEN, SELDOM, ONCE)]
    unit = Unit([each.field for each in counted], "GPU 0", {})
    oldest = 0.0
    for second in range(121):
        # Early and late, as real samples are.
        now = 1000.0 + second + (0.2 if second % 2 else -0.2)
        unit.refresh(now)
        ages = unit.known(now)["ages"]
        assert ages["sample"] == 0
        assert ages["fiveSeconds"] < 5
        oldest = max(oldest, ages["minute"])
    assert [each.reads for each in counted] == [121, 25, 3, 1]
    assert 58 < oldest < 60.5


@pytest.mark.parametrize("error", [3, 4, 13, 25])
def test_what_is_not_supported_is_not_asked_again(error: int) -> None:
    """NOT_SUPPORTED and its like make a field null for good; any other error only this time, and is said."""
    given_up, passing = Counting("a", ALWAYS), Counting("b", ALWAYS)
    remarks: dict[str, str] = {}
    unit = Unit([given_up.field, passing.field], "GPU 3", remarks)
    given_up.error, passing.error = error, pynvml.NVML_ERROR_UNKNOWN
    for now in range(3):
        unit.refresh(float(now))
    assert (given_up.reads, passing.reads) == (1, 3)
    assert (unit.values["a"], unit.values["b"]) == (None, None)
    assert list(remarks) == ["GPU 3: b"]
    passing.error = None
    unit.refresh(4.0)
    assert unit.values["b"] == 4


def test_errors_of_the_gpu_and_of_the_driver() -> None:
    """A lost GPU ends its reading at once, a lost driver the generation."""
    first, second = Counting("a", ALWAYS), Counting("b", ALWAYS)
    unit = Unit([first.field, second.field], "GPU 0", {})
    first.error = pynvml.NVML_ERROR_GPU_IS_LOST
    unit.refresh(0.0)
    assert unit.lost
    assert second.reads == 0
    first.error = pynvml.NVML_ERROR_DRIVER_NOT_LOADED
    with pytest.raises(GenerationOver) as over:
        Unit([first.field], "GPU 0", {}).refresh(0.0)
    assert over.value.code == "driver_not_loaded"


def test_mean_power_comes_from_the_energy_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Watts are joules over the measured time; null at first, and once when the counter was reset."""
    now, millijoules = 100.0, 5_000_000
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", lambda _: millijoules)
    meter = EnergyMeter()
    assert meter.read(None) == (5000.0, None)
    now, millijoules = 104.0, 6_000_000
    assert meter.read(None) == (6000.0, 250.0)
    now, millijoules = 109.0, 1_000
    assert meter.read(None) == (1.0, None)
    now, millijoules = 111.0, 1_000
    assert meter.read(None) == (1.0, 0.0)
    now, millijoules = 113.0, 201_000
    assert meter.read(None) == (201.0, 100.0)


def test_the_second_tier_in_a_real_child(nvml: FakeNvml, reader: Reader) -> None:
    """Five seconds after the start fan, energy and processes are read again; until then their age grows."""
    first = reader.until(all_ok).gpus[0]
    nvml.set_gpu(0, fan="80", energy=str(123456789 + 60_000_000), util="12 0", limit="500000")
    reading = reader.until(lambda reading: reading.gpus[0].util_percent == 12)
    assert reading.gpus[0].fan_percent == 35
    reading = reader.until(lambda reading: (age(reading, "five_seconds") or 0) >= 2)
    assert (reading.gpus[0].fan_percent, reading.gpus[0].energy_j) == (35, first.energy_j)
    reading = reader.until(lambda reading: reading.gpus[0].fan_percent == 80)
    assert reading.gpus[0].energy_j == 183456.79
    watts = reading.gpus[0].avg_power_w
    assert watts is not None
    assert 60_000 / 60 < watts < 60_000 / 4.4, "60 kJ in five seconds, or longer on a machine that is busy"
    assert age(reading, "five_seconds") == age(reading, "sample")
    assert (age(reading, "minute") or 0) >= 4
    assert reading.gpus[0].power_limit_w == 700, "that one is read once a minute"


def age(reading: Any, tier: str) -> float | None:
    """How old a tier of the first GPU is said to be."""
    seconds: float | None = getattr(reading.gpus[0].ages, tier)
    return seconds


def test_pcie_throughput_on_request(nvml: FakeNvml) -> None:
    """It is measured only where asked for, in bytes per second; a GPU that can't tell has null."""
    reader = Reader(pcie=True)
    try:
        first, second = reader.until(all_ok).gpus
    finally:
        reader.sensor.close()
    assert (first.pcie_rx_bytes_per_sec, first.pcie_tx_bytes_per_sec) == (3_410_632_000, 1_235_272_000)
    assert (second.pcie_rx_bytes_per_sec, second.pcie_tx_bytes_per_sec) == (None, None)


def test_temperature_of_newer_drivers(nvml: FakeNvml, reader: Reader) -> None:
    """Where the old call is gone the temperature is read by the new one."""
    nvml.set_gpu(0, temp=f"!{FUNCTION_NOT_FOUND}", tempV="66")
    assert reader.until(all_ok).gpus[0].temp_c == 66


def test_values_that_can_not_be(nvml: FakeNvml, reader: Reader, caplog: pytest.LogCaptureFixture) -> None:
    """A number that no GPU has is not shown, is said once, and does not cost the other values."""
    nvml.set_gpu(0, temp=str(2**32 - 8), energy=str(2**64 - 1))
    gpu = reader.until(all_ok).gpus[0]
    reader.read()
    assert (gpu.temp_c, gpu.energy_j, gpu.util_percent) == (None, None, 93)
    assert [record.getMessage() for record in caplog.records] == [
        "GPU 0: tempC: was read as 4294967288 and is not shown",
        f"GPU 0: energyJ: was read as {round((2**64 - 1) / 1000, 2)} and is not shown",
    ]
