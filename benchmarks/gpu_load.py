"""Keeps every NVIDIA GPU busy until stdin ends: writes its memory and sends it data over PCIe.

It uses the CUDA driver alone, which is there wherever a GPU can compute.

It takes at most a gigabyte of each GPU's memory. What is missing it says in one sentence, and exits with 1.
"""

import ctypes
import select
import sys
from typing import Any, Final, NamedTuple

LIBRARY: Final = "libcuda.so.1"

_GIB: Final = 1024**3
_COPY_BYTES: Final = 64 * 1024**2
_WRITES: Final = 20
"""Writes of all the memory between two looks at stdin."""


class NoLoad(Exception):
    """There is nothing to load, or nothing to do it with; the message is for people."""


class Target(NamedTuple):
    """One GPU, and the memory on both sides that the load works with."""

    context: ctypes.c_void_p
    memory: ctypes.c_uint64
    words: int
    host: ctypes.c_void_p


class Cuda:
    """The few calls of the CUDA driver that are needed.

    Raises:
        NoLoad: The driver is not there or has no GPU.
    """

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError:
            raise NoLoad(f"the CUDA driver ({LIBRARY}) is not installed") from None
        self._call("cuInit", 0)

    def targets(self) -> list[Target]:
        """Take memory of every GPU."""
        count = ctypes.c_int()
        self._call("cuDeviceGetCount", ctypes.byref(count))
        return [self._target(number) for number in range(count.value)]

    def work(self, target: Target) -> None:
        """Give one GPU about ten milliseconds of work, and wait for its end."""
        self._call("cuCtxSetCurrent", target.context)
        for value in range(_WRITES):
            self._call("cuMemsetD32_v2", target.memory, ctypes.c_uint(value), ctypes.c_size_t(target.words))
        self._call("cuMemcpyHtoD_v2", target.memory, target.host, ctypes.c_size_t(_COPY_BYTES))
        self._call("cuCtxSynchronize")

    def _target(self, number: int) -> Target:
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self._call("cuDeviceGet", ctypes.byref(device), number)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._call("cuCtxSetCurrent", context)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        size = max(_COPY_BYTES, min(_GIB, free.value // 4))
        memory, host = ctypes.c_uint64(), ctypes.c_void_p()
        self._call("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(size))
        self._call("cuMemHostAlloc", ctypes.byref(host), ctypes.c_size_t(_COPY_BYTES), 0)
        return Target(context, memory, size // 4, host)

    def _call(self, function: str, *arguments: Any) -> None:  # noqa: ANN401 - whatever ctypes takes
        code = getattr(self._library, function)(*arguments)
        if code:
            raise NoLoad(f"the CUDA driver refuses {function} (error {code})")


def main() -> int:
    """Say `ready` once all GPUs work; end when stdin does."""
    try:
        cuda = Cuda()
        targets = cuda.targets()
        for target in targets:
            cuda.work(target)
        print("ready", flush=True)
        while not select.select([0], [], [], 0)[0]:
            for target in targets:
                cuda.work(target)
    except NoLoad as reason:
        print(reason, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
