"""Host values, against the kernel's own files read independently."""

import shutil
import sys
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sensors.base import PercentGuard, difference, one_line
from agent.sensors.host import HostSensor
from agent.sensors.inventory import read_host
from agent.sensors.memory import machine_memory

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def stat_times() -> list[tuple[int, int]]:
    """All and idle time since the start, in ticks: of all cores together, then of each."""
    lines = [line.split() for line in Path("/proc/stat").read_text().splitlines() if line.startswith("cpu")]
    ticks = [[int(field) for field in line[1:9]] for line in lines]
    return [(sum(each), each[3] + each[4]) for each in ticks]


def meminfo() -> dict[str, int]:
    """Memory in MiB."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) // 1024 for words in lines}


@linux
def test_cpu_percent_is_that_of_the_kernel(tmp_path: Path) -> None:
    """Under a load that the test makes, the percentage is the busy share of all cores' time."""
    sensor = HostSensor(tmp_path)
    before = stat_times()
    first = sensor.read()
    assert (first.cpu_percent, first.cpu_core_percents) == (None, None)
    cores = psutil.cpu_count() or 1
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        pass
    seen = sensor.read()
    busy = [
        100 * (1 - (idle - old_idle) / (total - old_total))
        for (old_total, old_idle), (total, idle) in zip(before, stat_times(), strict=True)
    ]
    assert seen.limit is None
    assert seen.cpu_percent == pytest.approx(busy[0], abs=4)
    # One core was kept busy for all of it, less what other programs took away.
    assert (seen.cpu_percent or 0) > 50 / cores
    assert seen.cpu_core_percents == pytest.approx(busy[1:], abs=5)


@linux
def test_memory_is_that_of_the_kernel(tmp_path: Path) -> None:
    """RAM in use is what is not available, in MiB and as a share of the whole."""
    load = bytearray(64 * 1024 * 1024)
    load[::4096] = b"x" * len(load[::4096])
    seen, kernel = HostSensor(tmp_path).read(), meminfo()
    assert seen.ram_total_mb == pytest.approx(kernel["MemTotal"], abs=1)
    assert seen.ram_used_mb == pytest.approx(kernel["MemTotal"] - kernel["MemAvailable"], abs=200)
    assert seen.ram_percent == pytest.approx(100 * (seen.ram_used_mb or 0) / seen.ram_total_mb, abs=0.1)
    assert seen.swap_total_mb == pytest.approx(kernel["SwapTotal"], abs=1)
    assert seen.swap_used_mb == pytest.approx(kernel["SwapTotal"] - kernel["SwapFree"], abs=50)


@given(st.binary() | st.from_regex(rb"(Mem(Total|Available)|Swap(Total|Free)): *[0-9]* kB\n"))
def test_whatever_meminfo_holds(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """A file of another form is no error: the machine is asked in another way."""
    path = tmp_path_factory.getbasetemp() / "meminfo"
    path.write_bytes(content)
    memory = machine_memory(path)
    assert memory.total == pytest.approx(psutil.virtual_memory().total, rel=0.01)


@linux
def test_load_and_uptime_are_those_of_the_kernel(tmp_path: Path) -> None:
    """Load and uptime are the kernel's."""
    seen = HostSensor(tmp_path).read()
    assert seen.load1 == pytest.approx(float(Path("/proc/loadavg").read_text().split()[0]), abs=0.5)
    assert seen.uptime_seconds == pytest.approx(float(Path("/proc/uptime").read_text().split()[0]), abs=2)


@linux
def test_inventory_is_that_of_the_kernel() -> None:
    """Cores and RAM of the record are the machine's where no control group says less."""
    facts = read_host()
    assert (facts.limit, facts.cpu_cores) == (None, len(stat_times()) - 1)
    assert facts.ram_total_mb == pytest.approx(meminfo()["MemTotal"], abs=1)


@linux
def test_frequency_is_that_of_the_kernel(tmp_path: Path) -> None:
    """The clock lies within what the kernel tells of its cores, and is unknown where it tells nothing."""
    files = list(Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    told = [int(file.read_text()) / 1000 for file in files] or [
        float(line.partition(":")[2])
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("cpu MHz")
    ]
    mhz = HostSensor(tmp_path).read().cpu_mhz
    assert (mhz is None) == (not told)
    # A clock goes up and down between two looks.
    assert mhz is None or 0.3 * min(told) < mhz < 3 * max(told)


def test_disk(tmp_path: Path) -> None:
    """The disk is that of the directory, as `df` counts."""
    seen, known = HostSensor(tmp_path).read(), shutil.disk_usage(tmp_path)
    assert seen.disk_total_mb == pytest.approx(known.total / 2**20, abs=1)
    assert seen.disk_used_mb == pytest.approx(known.used / 2**20, abs=500)
    assert seen.disk_percent == pytest.approx(100 * known.used / (known.used + known.free), abs=1)


def test_a_directory_that_is_gone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its disk is unknown, which is said once, and all else is read."""
    sensor = HostSensor(tmp_path / "gone")
    assert sensor.read().disk_percent is None
    assert sensor.read().ram_total_mb > 0
    assert len(caplog.records) == 1


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


def test_percentages(caplog: pytest.LogCaptureFixture) -> None:
    """They stay within 0 to 100, and what was read is said once per name."""
    guard = PercentGuard()
    assert [guard("a", value) for value in (101.5, 102.0, -1.0, 33.333)] == [100, 100, 0, 33.3]
    assert guard("b", 200.0) == 100
    assert guard("c", 100.00000000000001) == 100
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
