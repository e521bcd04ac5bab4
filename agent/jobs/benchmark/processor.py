"""SHA-256 and memory bandwidth, over all cores at once.

Both leave the interpreter's lock while they work (`hashlib` on large buffers, `ctypes` in every foreign
call), so threads use every core.
"""

import ctypes
import hashlib
import mmap
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agent.jobs.benchmark.figures import GIGA, CantMeasure, Figure, WrongResult
from agent.jobs.benchmark.progress import Stage

MIB: Final = 1024 * 1024

HASHED_BYTES: Final = 8 * MIB
"""In one call: long enough that even 256 threads seldom meet at the interpreter's lock."""

LEAST_WORKING_SET: Final = 512 * MIB

_PULSE_SECONDS: Final = 0.05
_CACHES: Final = Path("/sys/devices/system/cpu")

Step = Callable[[], int]
"""Does a piece of work; gives the bytes that count for it."""


def cores() -> int:
    """How many threads can run at once: the cores that this process may use."""
    return len(os.sched_getaffinity(0))


def sha256(stage: Stage) -> Figure:
    """Measure how many bytes a second all cores hash together.

    Raises:
        WrongResult: A thread came to another digest than the first.
    """
    threads = cores()
    sample = bytes(range(256)) * (HASHED_BYTES // 256)
    expected = hashlib.sha256(sample).digest()

    def prepare() -> Step:
        def step() -> int:
            if hashlib.sha256(sample).digest() != expected:
                raise WrongResult("SHA-256 of the same bytes gave another digest than before")
            return HASHED_BYTES

        return step

    rate = throughput(stage, threads, prepare)
    return Figure("sha256", rate / GIGA, "GB/s", f"bytes hashed, {_threads(threads)}")


def memory_copy(stage: Stage) -> Figure:
    """Measure how many bytes a second all cores read and write together, copying from memory to memory.

    Raises:
        CantMeasure: There is no memory for buffers larger than the caches.
    """
    threads = cores()
    working_set = min(max(LEAST_WORKING_SET, 4 * cache_bytes()), memory_available() // 4)
    size = working_set // (2 * threads) // mmap.PAGESIZE * mmap.PAGESIZE
    if size < MIB:
        raise CantMeasure("there is too little free memory for buffers that are larger than the caches")

    def prepare() -> Step:
        source, target = _touched(size, 0x5A), _touched(size, 0xA5)
        here, there = (ctypes.addressof(ctypes.c_char.from_buffer(one)) for one in (source, target))

        def step() -> int:
            ctypes.memmove(there, here, size)
            return 2 * size

        # The buffers live as long as what copies between them.
        step.buffers = (source, target)  # type: ignore[attr-defined]
        return step

    rate = throughput(stage, threads, prepare)
    megabytes = 2 * size * threads // MIB
    what = f"bytes read plus bytes written by memmove, {_threads(threads)}, {megabytes} MiB in all"
    return Figure("memory_copy", rate / GIGA, "GB/s", what)


def throughput(stage: Stage, threads: int, prepare: Callable[[], Step]) -> float:
    """Take steps in several threads until the stage is over.

    Args:
        stage: Its time begins once every thread is prepared.
        threads: How many.
        prepare: Called once in each thread; gives its step.

    Returns:
        Bytes per second, of all threads together.

    Raises:
        Exception: The first that a thread raised.
    """
    ready = threading.Barrier(threads + 1)
    over = threading.Event()
    done: list[tuple[int, float]] = []
    failures: list[Exception] = []

    def work() -> None:
        counted = 0
        try:
            step = prepare()
            ready.wait()
            while not over.is_set():
                counted += step()
        except threading.BrokenBarrierError:
            return
        except Exception as error:  # noqa: BLE001 - raised again by the thread that asked
            failures.append(error)
            ready.abort()
            over.set()
        done.append((counted, time.perf_counter()))

    workers = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        ready.wait()
        begun = time.perf_counter()
        stage.restart()
        while not stage.is_over and not over.is_set():
            stage.tick()
            over.wait(_PULSE_SECONDS)
    except threading.BrokenBarrierError:
        begun = time.perf_counter()
    finally:
        over.set()
        for worker in workers:
            worker.join()
    if failures:
        raise failures[0]
    return sum(counted for counted, _ in done) / (max(end for _, end in done) - begun)


def cache_bytes() -> int:
    """Size of all last-level caches together; 0 where the kernel does not tell."""
    found: dict[tuple[int, str], int] = {}
    for index in _CACHES.glob("cpu[0-9]*/cache/index*"):
        try:
            level = int((index / "level").read_text())
            shared = (index / "shared_cpu_list").read_text().strip()
            kibibytes = int((index / "size").read_text().strip().removesuffix("K"))
        except (OSError, ValueError):
            continue
        found[level, shared] = kibibytes * 1024
    last = max((level for level, _ in found), default=0)
    return sum(size for (level, _), size in found.items() if level == last)


def memory_available() -> int:
    """Bytes that a program can take without anything being swapped out, by the kernel's estimate.

    Raises:
        CantMeasure: The kernel does not tell.
    """
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        raise CantMeasure("the kernel does not tell how much memory is free") from None


def _touched(size: int, value: int) -> mmap.mmap:
    """Give memory whose every page is there, near the core of the thread that asks."""
    try:
        memory = mmap.mmap(-1, size)
    except OSError as error:
        raise CantMeasure(f"there is no memory for buffers: {error.strerror}") from None
    ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(memory)), value, size)
    return memory


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"
