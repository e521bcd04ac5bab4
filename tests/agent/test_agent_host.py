"""Host values, against the kernel's own files read independently."""

import sys
import time
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from agent.sensors.base import PercentGuard, difference, one_line
from agent.sensors.host import CpuMeter, HostSensor, NetworkMeter, outward_interfaces

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def stat_times() -> tuple[int, int]:
    """All and idle time of all cores since the start, in ticks."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    ticks = [int(field) for field in fields[:8]]
    return sum(ticks), ticks[3] + ticks[4]


def meminfo() -> dict[str, int]:
    """Memory in MiB."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) // 1024 for words in lines}


@linux
def test_cpu_percent_is_that_of_the_kernel(tmp_path: Path) -> None:
    """Under a load that the test makes, the percentage is the busy share of all cores' time."""
    sensor = HostSensor(tmp_path)
    before = stat_times()
    assert sensor.read().cpu_percent is None
    cores = psutil.cpu_count() or 1
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        pass
    measured = sensor.read().cpu_percent
    after = stat_times()
    elapsed, idle = after[0] - before[0], after[1] - before[1]
    assert measured is not None
    assert measured == pytest.approx(100 * (elapsed - idle) / elapsed, abs=4)
    # One core was kept busy for all of it, less what other programs took away.
    assert measured > 50 / cores


@linux
def test_memory_is_that_of_the_kernel(tmp_path: Path) -> None:
    """RAM in use is what is not available, in MiB and as a share of the whole."""
    load = bytearray(64 * 1024 * 1024)
    load[::4096] = b"x" * len(load[::4096])
    seen, kernel = HostSensor(tmp_path).read(), meminfo()
    assert seen.ram_total_mb == pytest.approx(kernel["MemTotal"], abs=1)
    assert seen.ram_used_mb == pytest.approx(kernel["MemTotal"] - kernel["MemAvailable"], abs=200)
    assert seen.ram_percent == pytest.approx(100 * seen.ram_used_mb / seen.ram_total_mb, abs=0.1)


@linux
def test_load_and_uptime_are_those_of_the_kernel(tmp_path: Path) -> None:
    """Load and uptime are the kernel's."""
    seen = HostSensor(tmp_path).read()
    assert seen.load1 == pytest.approx(float(Path("/proc/loadavg").read_text().split()[0]), abs=0.5)
    assert seen.uptime_seconds == pytest.approx(float(Path("/proc/uptime").read_text().split()[0]), abs=2)


def test_disk(tmp_path: Path) -> None:
    """The disk is that of the directory, as `df` counts."""
    assert HostSensor(tmp_path).read().disk_percent == pytest.approx(
        psutil.disk_usage(str(tmp_path)).percent, abs=1
    )


def test_a_directory_that_is_gone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its disk is unknown, which is said once, and all else is read."""
    sensor = HostSensor(tmp_path / "gone")
    assert sensor.read().disk_percent is None
    assert sensor.read().ram_total_mb > 0
    assert len(caplog.records) == 1


def test_rates_are_over_the_measured_interval() -> None:
    """Bytes per second come from the time between two readings; the first has none."""
    meter = NetworkMeter()
    assert meter.rates({"eth0": (1000, 500)}, 10.0) == (None, None)
    assert meter.rates({"eth0": (4000, 1000)}, 12.5) == (1200.0, 200.0)


def test_no_time_passed() -> None:
    """Two readings at one moment give no rate."""
    meter = NetworkMeter()
    meter.rates({"eth0": (1000, 500)}, 10.0)
    assert meter.rates({"eth0": (4000, 1000)}, 10.0) == (None, None)


def test_a_counter_that_was_reset() -> None:
    """A reset gives no rate for that reading, and the next one is right again."""
    meter = NetworkMeter()
    meter.rates({"eth0": (10_000, 10_000)}, 0.0)
    assert meter.rates({"eth0": (50, 11_000)}, 1.0) == (None, 1000.0)
    assert meter.rates({"eth0": (150, 12_000)}, 2.0) == (100.0, 1000.0)


def test_an_interface_that_comes() -> None:
    """What a new interface counted before it was first seen is no traffic of this interval."""
    meter = NetworkMeter()
    meter.rates({"eth0": (0, 0)}, 0.0)
    assert meter.rates({"eth0": (10, 10), "eth1": (10**9, 10**9)}, 1.0) == (10.0, 10.0)


@pytest.mark.parametrize(
    ("before", "after", "went"),
    [
        (5, 9, 4),
        (7, 7, 0),
        (2**32 - 10, 5, 15),
        (2**31, 5, None),
        (2**40, 5, None),
        (2**32 - 10, 2**31, None),
    ],
)
def test_difference(before: int, after: int, went: int | None) -> None:
    """A 32-bit counter wraps from its top to its bottom; any other step back is a reset."""
    assert difference(before, after) == went


class Interface(NamedTuple):
    """An interface in a made-up /sys/class/net."""

    name: str
    hardware: bool
    master: str | None = None


@pytest.mark.parametrize(
    ("interfaces", "counted"),
    [
        ([Interface("lo", False), Interface("eth0", True), Interface("docker0", False)], {"eth0"}),
        ([Interface("lo", False), Interface("eth0", False)], {"eth0"}),
        ([Interface("eth0", True), Interface("enP1", True, "eth0")], {"eth0"}),
        (
            [Interface("bond0", False), Interface("a", True, "bond0"), Interface("b", True, "bond0")],
            {"a", "b"},
        ),
        ([Interface("lo", False)], set()),
    ],
)
def test_nothing_is_counted_twice(interfaces: list[Interface], counted: set[str], tmp_path: Path) -> None:
    """Interfaces with hardware are counted, bonds by their members; in a container all but the loopback."""
    for interface in interfaces:
        (tmp_path / interface.name).mkdir()
        if interface.hardware:
            (tmp_path / interface.name / "device").mkdir()
    for interface in interfaces:
        if interface.master is not None:
            (tmp_path / interface.name / "master").symlink_to(tmp_path / interface.master)
    assert outward_interfaces(frozenset(i.name for i in interfaces), tmp_path) == counted


def test_virtual_interfaces_by_name(tmp_path: Path) -> None:
    """Where the system does not tell, names do."""
    names = frozenset({"lo0", "en0", "utun3", "bridge0", "awdl0"})
    assert outward_interfaces(names, tmp_path / "absent") == {"en0"}


def test_percentages(caplog: pytest.LogCaptureFixture) -> None:
    """They stay within 0 to 100, and what was read is said once per name."""
    guard = PercentGuard()
    assert [guard("a", value) for value in (101.5, 102.0, -1.0, 33.333)] == [100, 100, 0, 33.3]
    assert guard("b", 200.0) == 100
    assert len(caplog.records) == 2
    assert "101.5" in caplog.records[0].getMessage()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("AMD EPYC", "AMD EPYC"),
        ("a\nb\x1b[2J", "a�b�[2J"),
        ("x" * 200, "x" * 128),
        ("\u202eevil", "�evil"),
        (" ", None),
        (None, None),
    ],
)
def test_one_line(text: str | None, line: str | None) -> None:
    """Text from outside becomes one line that the wire takes."""
    assert one_line(text) == line


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
    answers = iter([Times(10.0, 100.0, 5.0), later])
    monkeypatch.setattr(psutil, "cpu_times", lambda: next(answers))
    meter = CpuMeter()
    assert meter.read() is None
    measured = meter.read()
    assert measured == (None if percent is None else pytest.approx(percent, abs=1e-6))
    assert measured is None or 0 <= measured <= 100
