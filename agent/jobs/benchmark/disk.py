"""How fast the working directory's disk takes and gives bytes."""

import ctypes
import errno
import fcntl
import mmap
import os
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

from agent.jobs.benchmark.figures import GIGA, CantMeasure, Figure, WrongResult
from agent.jobs.benchmark.progress import Progress, Stage

BLOCK_BYTES: Final = 4 * 1024 * 1024
SPARE_BYTES: Final = 256 * 1024 * 1024
"""Left free on the disk: others live there too."""

_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})


class Disk(NamedTuple):
    """What there is to say of the disk."""

    figures: list[Figure]
    notes: list[str]


def measure(directory: Path, megabytes: int, progress: Progress, seconds: float) -> Disk:
    """Write a file of random bytes, flush it to the disk, and read it back past the page cache.

    The file has no name, so that nothing is left of it, however this ends.

    Args:
        directory: Where the file is to be.
        megabytes: The most to write, in MiB; less where the time is over before.
        progress: Where to tell how far it is.
        seconds: How long writing, and then reading, may take together; the last flush may take longer.

    Raises:
        CantMeasure: The file can't be made, or the disk is too full for it.
        WrongResult: What was read is not what was written.
    """
    blocks = max(1, megabytes * 1024 * 1024 // BLOCK_BYTES)
    filesystem = kind_of(directory)
    try:
        free = os.statvfs(directory)
        if free.f_bavail * free.f_frsize < blocks * BLOCK_BYTES + SPARE_BYTES:
            raise CantMeasure(f"the working directory's disk has no {megabytes} MiB to spare")
        with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
            # Random, so that nothing on the way can make it smaller.
            block = os.urandom(BLOCK_BYTES)
            with progress.stage("disk: writing", seconds / 2) as stage:
                written, write_rate = _write(file.fileno(), block, blocks, stage)
            how = _leave_cache(file.fileno(), written * BLOCK_BYTES)
            with progress.stage("disk: reading", seconds / 2) as stage:
                read, read_rate = _read(file.fileno(), block, written, stage)
    except OSError as error:
        raise CantMeasure(f"the working directory can't be written and read: {error.strerror}") from None
    where = f"{filesystem}, blocks of {BLOCK_BYTES >> 20} MiB"
    notes = []
    if filesystem in _IN_MEMORY:
        how = "from memory"
        notes.append(f"the working directory is in memory ({filesystem}): the disk figures are of no disk")
    elif how is None:
        notes.append("the file system reads through the page cache alone: part of disk_read is of memory")
    how = how or "through the page cache"
    return Disk(
        [
            Figure("disk_write", write_rate / GIGA, "GB/s", f"{_mib(written)} written and flushed, {where}"),
            Figure("disk_read", read_rate / GIGA, "GB/s", f"{_mib(read)} read {how}, {where}"),
        ],
        notes,
    )


def kind_of(directory: Path) -> str:
    """The file system that a directory is on, by the kernel's name for it (``ext4``)."""
    device = directory.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    kind = "unknown"
    try:
        for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
            mount, _, filesystem = line.partition(" - ")
            if mount.split()[2] == wanted:
                kind = filesystem.split()[0]
    except (OSError, IndexError):
        return "unknown"
    return kind


def _write(descriptor: int, block: bytes, blocks: int, stage: Stage) -> tuple[int, float]:
    """Write blocks until all are written or the stage is over; gives the blocks and bytes per second."""
    stage.restart()
    begun = time.perf_counter()
    written = 0
    while written < blocks and not (written and stage.is_over):
        rest = memoryview(block)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        written += 1
        stage.tick()
    os.fsync(descriptor)
    return written, written * BLOCK_BYTES / (time.perf_counter() - begun)


def _read(descriptor: int, block: bytes, blocks: int, stage: Stage) -> tuple[int, float]:
    """Read blocks until all are read or the stage is over; gives the blocks and bytes per second.

    Only the reading is timed; what was read is then compared with what was written.
    """
    stage.restart()
    took = 0.0
    read = 0
    # Memory of its own pages: past the cache, the kernel writes straight into it.
    with mmap.mmap(-1, BLOCK_BYTES) as buffer:
        while read < blocks and not (read and stage.is_over):
            begun = time.perf_counter()
            count = os.preadv(descriptor, [buffer], read * BLOCK_BYTES)
            took += time.perf_counter() - begun
            if count != BLOCK_BYTES or buffer[:] != block:
                raise WrongResult("the disk gave back other bytes than were written to it")
            read += 1
            stage.tick()
    return read, read * BLOCK_BYTES / took


def _leave_cache(descriptor: int, size: int) -> str | None:
    """Let reads of a flushed file come from the disk; gives how, None where that can't be had."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_DIRECT)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return None if _pages_cached(descriptor, size) else "after it was dropped from the page cache"
    return "past the page cache (O_DIRECT)"


def _pages_cached(descriptor: int, size: int) -> int:
    """How many pages of a file the page cache holds."""
    pages = size // mmap.PAGESIZE
    held = (ctypes.c_ubyte * pages)()
    with mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY) as view:
        start = ctypes.c_char.from_buffer(view)
        failed = ctypes.CDLL(None).mincore(ctypes.byref(start), ctypes.c_size_t(size), held)
        del start
    return pages if failed else sum(one & 1 for one in held)


def _mib(blocks: int) -> str:
    return f"{blocks * BLOCK_BYTES >> 20} MiB"
