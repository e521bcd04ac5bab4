"""CPU use and clock: shares of the time that passed, whatever the kernel's rounding does."""

from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from agent.sensors.cgroup import CpuQuota
from agent.sensors.cpu import CpuFrequency, CpuMeter, QuotaMeter


class Times(NamedTuple):
    """CPU times as psutil gives them."""

    user: float
    idle: float
    iowait: float


@pytest.mark.parametrize(
    ("later", "percent"),
    [
        (Times(12.0, 108.0, 5.0), 20.0),
        (Times(10.0, 110.0, 5.0), 0.0),
        (Times(20.0, 99.0, 6.0), 100.0),
        (Times(10.0, 110.00000001, 4.99999999), 0.0),
        (Times(20.0, 100.5, 4.0), 100.0),
        (Times(10.0, 100.0, 5.0), None),
    ],
)
def test_cpu_meter(later: Times, percent: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Busy is what was neither idle nor waiting; no rounding of the kernel's takes it beyond 0 to 100."""
    tell(monkeypatch, [Times(10.0, 100.0, 5.0)], [later])
    meter = CpuMeter()
    assert meter.read().total is None
    measured = meter.read().total
    assert measured == (None if percent is None else pytest.approx(percent, abs=1e-6))
    assert measured is None or 0 <= measured <= 100


def tell(monkeypatch: pytest.MonkeyPatch, *readings: list[Times]) -> None:
    """Let these be the cores' times, one reading after the other."""
    answers = iter(readings)
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: next(answers))


def test_each_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each core has a share of its own, one that stood still too; the total is that of their time."""
    start = Times(10.0, 100.0, 0.0)
    tell(monkeypatch, [start] * 3, [Times(13.0, 101.0, 0.0), Times(10.0, 104.0, 0.0), start])
    meter = CpuMeter()
    assert meter.read().cores is None
    assert meter.read() == (37.5, [75.0, 0.0, 0.0])


def test_a_core_that_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the number of cores changed nothing can be compared, and the next reading can."""
    start, later = Times(10.0, 100.0, 0.0), Times(11.0, 101.0, 0.0)
    tell(monkeypatch, [start], [later, start], [later, later])
    meter = CpuMeter()
    assert [meter.read().total for _ in range(3)] == [None, None, 50.0]


def quota(cores: float, used: float | None) -> CpuQuota:
    """A group that may use so many cores and has had so many seconds."""
    return CpuQuota(cores, lambda: used)


def test_a_quota_is_what_the_percentage_is_of() -> None:
    """A group that had 0.6 s in 2 s, of the 1.5 cores it may use, is at 20 %."""
    meter = QuotaMeter()
    assert meter.read(quota(1.5, 100.0), 10.0) is None
    assert meter.read(quota(1.5, 100.6), 12.0) == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("later", "now"),
    [
        (quota(1.5, None), 12.0),
        (quota(1.5, 99.0), 12.0),
        (quota(2.0, 101.0), 12.0),
        (quota(1.5, 101.0), 10.0),
    ],
    ids=["nothing told", "a new group", "another quota", "no time"],
)
def test_a_quota_that_can_not_be_compared(later: CpuQuota, now: float) -> None:
    """Two readings that are not of one group, one quota and two moments give no percentage."""
    meter = QuotaMeter()
    meter.read(quota(1.5, 100.0), 10.0)
    assert meter.read(later, now) is None


def policy(root: Path, number: int, kilohertz: str) -> Path:
    """Make a frequency policy as the kernel lists it."""
    path = root / f"policy{number}"
    path.mkdir(parents=True, exist_ok=True)
    (path / "scaling_cur_freq").write_text(f"{kilohertz}\n")
    return path


def test_frequency_is_the_mean_of_the_cores(tmp_path: Path) -> None:
    """MHz, rounded; read every five seconds, not at each sample."""
    policy(tmp_path, 0, "3400123")
    policy(tmp_path, 1, "800000")
    frequency = CpuFrequency(tmp_path)
    assert frequency.read(0.0) == 2100
    policy(tmp_path, 1, "3400123")
    assert frequency.read(4.9) == 2100
    assert frequency.read(5.0) == 3400


@pytest.mark.parametrize("told", ["", "<unknown>", "fast"])
def test_a_frequency_that_is_not_told(told: str, tmp_path: Path) -> None:
    """A driver that refuses, or answers no number, leaves the clock unknown."""
    policy(tmp_path, 0, told)
    assert CpuFrequency(tmp_path).read(0.0) is None


@pytest.mark.parametrize(
    ("cpuinfo", "mhz"),
    [
        ("processor\t: 0\ncpu MHz\t\t: 2596.122\n\nprocessor\t: 1\ncpu MHz\t\t: 2600.5\n", 2598),
        ("processor\t: 0\nBogoMIPS\t: 50.00\n", None),
        ("cpu MHz\t\t: very\n", None),
    ],
)
def test_frequency_of_a_virtual_machine(cpuinfo: str, mhz: int | None, tmp_path: Path) -> None:
    """Without policies it is what the kernel says of each core; unknown where it says nothing."""
    path = tmp_path / "cpuinfo"
    path.write_text(cpuinfo)
    assert CpuFrequency(tmp_path / "none", path).read(0.0) == mhz
    assert CpuFrequency(tmp_path / "none", tmp_path / "none").read(0.0) is None
