"""The disk of a directory: which one it is, and what goes through it."""

import os
from pathlib import Path

import pytest

from agent.sensors.disk import BLOCK, DiskMeter, counters_of

LINE = "34330 7618 {read} 7654 120872 25127 {written} 15412 0 11552 25332\n"


def block(root: Path, name: str, read: int, written: int) -> Path:
    """Make a disk as the kernel lists it; gives its counters."""
    directory = root / name
    directory.mkdir(parents=True, exist_ok=True)
    counters = directory / "stat"
    counters.write_text(LINE.format(read=read, written=written))
    return counters


def number_of(path: Path) -> str:
    """The device of a file, as the kernel names it."""
    device = path.stat().st_dev
    return f"{os.major(device)}:{os.minor(device)}"


def test_rates(tmp_path: Path) -> None:
    """Sectors of 512 bytes over the measured interval; the first reading has none, nor has a reset one."""
    name = number_of(tmp_path)
    meter = DiskMeter(tmp_path, block=tmp_path / "block")
    block(tmp_path / "block", name, 1000, 500)
    assert meter.rates(lambda: 10.0) == (None, None)
    block(tmp_path / "block", name, 3000, 501)
    assert meter.rates(lambda: 12.5) == (409_600.0, 204.8)
    block(tmp_path / "block", name, 2000, 502)
    assert meter.rates(lambda: 13.5) == (None, 512.0)
    assert meter.rates(lambda: 13.5) == (None, None)


def test_a_disk_that_goes_and_comes(tmp_path: Path) -> None:
    """Without counters, or with nonsense in them, the rates are unknown; back, it begins anew."""
    name = number_of(tmp_path)
    counters = block(tmp_path / "block", name, 1000, 500)
    meter = DiskMeter(tmp_path, block=tmp_path / "block")
    meter.rates(lambda: 1.0)
    for told in (b"", b"a b c d e f g h"):
        counters.write_bytes(told)
        assert meter.rates(lambda: 2.0) == (None, None)
    block(tmp_path / "block", name, 9000, 9000)
    assert meter.rates(lambda: 3.0) == (None, None)
    assert meter.rates(lambda: 4.0) == (0.0, 0.0)


def test_a_directory_that_is_gone(tmp_path: Path) -> None:
    """It has neither rates nor space."""
    meter = DiskMeter(tmp_path / "gone")
    assert (meter.rates(lambda: 1.0), meter.space()) == ((None, None), None)


def test_a_filesystem_without_a_disk(tmp_path: Path) -> None:
    """In memory, over the network, layered: there is no disk whose counters would say anything."""
    assert counters_of(os.makedev(0, 99), tmp_path, tmp_path / "mountinfo") is None
    (tmp_path / "mountinfo").write_text("9 1 0:99 / / rw - overlay overlay rw,lowerdir=/a\n")
    assert counters_of(os.makedev(0, 99), tmp_path, tmp_path / "mountinfo") is None


@pytest.mark.skipif(not BLOCK.is_dir(), reason="no block devices are listed here")
def test_a_filesystem_that_numbers_its_files_itself(tmp_path: Path) -> None:
    """Its disk is the one that was mounted (btrfs)."""
    disks = [path for path in Path("/dev").iterdir() if path.is_block_device()]
    listed = [
        (disk, BLOCK / f"{os.major(number)}:{os.minor(number)}" / "stat")
        for disk in disks
        if (number := disk.stat().st_rdev)
    ]
    known = [(disk, counters) for disk, counters in listed if counters.exists()]
    if not known:
        pytest.skip("this machine has no block device")
    disk, counters = known[0]
    (tmp_path / "mountinfo").write_text(f"9 1 0:99 / /data rw - btrfs {disk} rw\n")
    assert counters_of(os.makedev(0, 99), BLOCK, tmp_path / "mountinfo") == counters


def test_what_is_written_is_seen(tmp_path: Path) -> None:
    """Bytes that a program writes and flushes are in the rates of the real disk beneath it."""
    if counters_of(tmp_path.stat().st_dev) is None:
        pytest.skip("there is no disk behind the tests' directory")
    meter = DiskMeter(tmp_path)
    meter.rates(lambda: 0.0)
    size = 8 * 1024 * 1024
    with (tmp_path / "load").open("wb") as file:
        file.write(os.urandom(size))
        file.flush()
        os.fsync(file.fileno())
    _, written = meter.rates(lambda: 1.0)
    assert written is not None
    assert written >= size
