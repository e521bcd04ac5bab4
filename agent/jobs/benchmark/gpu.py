"""Memory bandwidth and FP32 rate of one NVIDIA GPU, each checked against what the CPU computes."""

import ctypes
from collections.abc import Callable
from statistics import median
from typing import Final

from agent.jobs.benchmark import kernels
from agent.jobs.benchmark.cuda import Context, Device
from agent.jobs.benchmark.figures import GIGA, TERA, CantMeasure, Figure, WrongResult
from agent.jobs.benchmark.progress import Stage

COPY_BYTES: Final = 1024 * 1024 * 1024
"""Of each of the two buffers: many times the largest cache of any GPU."""

LEAST_COPY_BYTES: Final = 64 * 1024 * 1024

BLOCKS_PER_MULTIPROCESSOR: Final = 8
ROUNDS: Final = 512
"""Of ``multiply_add``: a few milliseconds on any GPU."""

BATCH_SECONDS: Final = 0.05
"""What is timed at once: long beside what it costs to start a kernel."""

_SEED: Final = 0x9E3779B9
_POISON: Final = 0xDEADBEEF
_CHECKED_BYTES: Final = 64 * 1024
_CHECKED_PLACES: Final = 16
_MOST_LAUNCHES: Final = 1000


def memory_copy(device: Device, context: Context, stage: Stage) -> Figure:
    """Measure how many bytes a second the GPU reads and writes together, copying within its memory.

    Raises:
        CantMeasure: Too little of its memory is free, or a call of the driver failed.
        WrongResult: What was copied is not what was there.
    """
    size = min(COPY_BYTES, context.free_bytes() * 2 // 5) // kernels.COPY_TILE_BYTES * kernels.COPY_TILE_BYTES
    if size < LEAST_COPY_BYTES:
        raise CantMeasure("too little of the GPU's memory is free: other programs hold it")
    fill, copy = context.load(kernels.source(), ["fill", "copy"])
    with context.memory(size) as source, context.memory(size) as target:
        context.set_words(target, _POISON, size // 4)
        ends = ctypes.c_uint64(source), ctypes.c_uint64(target)
        seed = ctypes.c_uint32(_SEED)
        context.launch(fill, size // 4 // kernels.THREADS, kernels.THREADS, ends[0], seed)

        def step() -> None:
            context.launch(copy, size // kernels.COPY_TILE_BYTES, kernels.THREADS, *ends)

        seconds = _time_of(step, context, stage)
        _check_copy(context, target, size)
    what = f"bytes read plus bytes written, buffers of {size >> 20} MiB"
    return Figure("gpu_memory_copy", 2 * size / seconds / GIGA, "GB/s", what, device.uuid)


def fp32(device: Device, context: Context, stage: Stage) -> Figure:
    """Measure how many FP32 operations a second the GPU's ordinary cores do (not its tensor cores).

    Raises:
        CantMeasure: A call of the driver failed.
        WrongResult: A sum is not what the CPU comes to.
    """
    (kernel,) = context.load(kernels.source(), ["multiply_add"])
    blocks = device.multiprocessors * BLOCKS_PER_MULTIPROCESSOR
    words = blocks * kernels.THREADS * kernels.CHAINS
    with context.memory(4 * words) as target:
        context.set_words(target, _POISON, words)
        parameters = (
            ctypes.c_uint64(target),
            ctypes.c_float(kernels.FACTOR),
            ctypes.c_float(kernels.TERM),
            ctypes.c_uint32(ROUNDS),
        )

        def step() -> None:
            context.launch(kernel, blocks, kernels.THREADS, *parameters)

        seconds = _time_of(step, context, stage)
        expected = sums(ROUNDS * kernels.UNROLLED)
        if context.read(target, 4 * words) != expected * (4 * words // len(expected)):
            raise WrongResult(f"{device.name} ({device.uuid}) computes other FP32 sums than the CPU")
    operations = 2 * words * ROUNDS * kernels.UNROLLED
    what = "multiplications plus additions of fused multiply-add, without tensor cores"
    return Figure("gpu_fp32", operations / seconds / TERA, "TFLOP/s", what, device.uuid)


def sums(steps: int) -> bytes:
    """What two neighbouring threads of ``multiply_add`` leave, computed here.

    With these constants product and sum are exact in float64 (41 bits at most), so that a step is rounded
    once, as a fused one is.
    """
    factor, term, rounded = kernels.FACTOR, kernels.TERM, ctypes.c_float
    found = []
    for begin in range(1, 2 * kernels.CHAINS + 1):
        value = float(begin)
        for _ in range(steps):
            value = rounded(value * factor + term).value
        found.append(value)
    return bytes((ctypes.c_float * len(found))(*found))


def pattern(first: int, count: int) -> bytes:
    """The words that ``fill`` puts at so many places from ``first`` on, computed here."""
    words = ((index * 2654435761 & 0xFFFFFFFF) ^ _SEED for index in range(first, first + count))
    return bytes((ctypes.c_uint32 * count)(*words))


def _time_of(step: Callable[[], None], context: Context, stage: Stage) -> float:
    """Seconds that one step takes on the GPU: the median over batches, until the stage is over."""
    with context.stopwatch() as stopwatch:
        # The first launch loads the program, and wakes the GPU's clocks.
        for launches in (1, 3):
            stopwatch.start()
            for _ in range(launches):
                step()
            once = stopwatch.stop() / launches
        batch = max(1, min(_MOST_LAUNCHES, round(BATCH_SECONDS / once)))
        times: list[float] = []
        stage.restart()
        while not (times and stage.is_over):
            stopwatch.start()
            for _ in range(batch):
                step()
            times.append(stopwatch.stop() / batch)
            stage.tick()
    return median(times)


def _check_copy(context: Context, target: int, size: int) -> None:
    """Compare pieces of what was copied, the first and the last among them, with what the CPU computes."""
    for place in range(_CHECKED_PLACES):
        offset = (size - _CHECKED_BYTES) * place // (_CHECKED_PLACES - 1) // 4 * 4
        if context.read(target + offset, _CHECKED_BYTES) != pattern(offset // 4, _CHECKED_BYTES // 4):
            raise WrongResult("the GPU's memory gave back other bytes than were copied")
