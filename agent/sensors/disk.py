"""The disk that a directory lies on: how full it is, and how much is read and written."""

import logging
import os
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from agent.sensors.base import Monotonic, difference
from agent.sensors.mounts import MOUNTINFO, read_mounts

BLOCK: Final = Path("/sys/dev/block")

_SECTOR: Final = 512
"""Bytes; in these files whatever the disk's own sectors are (block/stat of the kernel's documents)."""
_READ, _WRITTEN = 2, 6

_logger = logging.getLogger("qubix_agent")


class DiskSpace(NamedTuple):
    """Bytes of a filesystem, and how full it is for who is not root, in percent."""

    used: int
    total: int
    percent: float


class DiskMeter:
    """Reads the disk of a directory.

    Args:
        directory: Any on the disk.
        block: Where the kernel lists its block devices.
        mountinfo: Where it lists what is mounted.
    """

    def __init__(self, directory: Path, *, block: Path = BLOCK, mountinfo: Path = MOUNTINFO) -> None:
        self._directory = directory
        self._block = block
        self._mountinfo = mountinfo
        self._complained = False
        self._number: int | None = None
        self._counters: Path | None = None
        self._last: tuple[float, int, int] | None = None

    def space(self) -> DiskSpace | None:
        """Give the space of the filesystem; None where the directory can't be looked at."""
        try:
            usage = psutil.disk_usage(str(self._directory))
        except OSError as error:
            if not self._complained:
                self._complained = True
                _logger.warning("diskPercent is unknown: %s: %s", self._directory, error.strerror)
            return None
        self._complained = False
        return DiskSpace(usage.used, usage.total, usage.percent)

    def rates(self, monotonic: Monotonic) -> tuple[float | None, float | None]:
        """Give bytes read and written per second since the last call; None where that can't be told.

        Args:
            monotonic: The clock; asked right after the counters, so that the interval is theirs.
        """
        try:
            number = self._directory.stat().st_dev
            if number != self._number:
                self._number, self._last = number, None
                self._counters = counters_of(number, self._block, self._mountinfo)
            fields = [] if self._counters is None else self._counters.read_bytes().split()
            now, read, written = monotonic(), int(fields[_READ]), int(fields[_WRITTEN])
        except (OSError, ValueError, IndexError):
            self._number = self._last = None
            return None, None
        last, self._last = self._last, (now, read, written)
        if last is None or now <= last[0]:
            return None, None
        seconds = now - last[0]
        return _rate(difference(last[1], read), seconds), _rate(difference(last[2], written), seconds)


def _rate(sectors: int | None, seconds: float) -> float | None:
    return None if sectors is None else round(_SECTOR * sectors / seconds, 1)


def counters_of(number: int, block: Path = BLOCK, mountinfo: Path = MOUNTINFO) -> Path | None:
    """Find the counters of a filesystem's disk, or of its partition.

    Args:
        number: The ``st_dev`` of its files.
        block: Where the kernel lists its block devices.
        mountinfo: Where it lists what is mounted.

    Returns:
        None where there is no single disk behind it: in memory, over the network, layered.
    """
    name = f"{os.major(number)}:{os.minor(number)}"
    counters = block / name / "stat"
    if counters.exists():
        return counters
    # Some (btrfs) give their files numbers that are no disk's; what was mounted is one all the same.
    sources = [mount.source for mount in read_mounts(mountinfo) if mount.device == name]
    for source in sources:
        try:
            disk = Path(source).stat().st_rdev
        except (OSError, ValueError):
            continue
        counters = block / f"{os.major(disk)}:{os.minor(disk)}" / "stat"
        if counters.exists():
            return counters
    return None
