"""As much of NVIDIA's driver API as the benchmark needs, by `ctypes`: no toolkit, nothing to install.

Source: NVIDIA, "CUDA Driver API" (names, types and error codes).
"""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any, Final
from uuid import UUID

from agent.jobs.benchmark.figures import CantMeasure

LIBRARY: Final = "libcuda.so.1"
NO_DEVICE: Final = 100

_MULTIPROCESSORS: Final = 16
_LOG_BYTES: Final = 4096
_ERROR_LOG, _ERROR_LOG_SIZE = 5, 6

_SIGNATURES: Final[dict[str, tuple[Any, ...]]] = {
    "cuInit": (c_uint,),
    "cuDriverGetVersion": (POINTER(c_int),),
    "cuDeviceGetCount": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDeviceGetUuid": (c_char_p, c_int),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuDevicePrimaryCtxRelease": (c_int,),
    "cuCtxSetCurrent": (c_void_p,),
    "cuCtxSynchronize": (),
    "cuMemGetInfo_v2": (POINTER(c_size_t), POINTER(c_size_t)),
    "cuMemAlloc_v2": (POINTER(c_uint64), c_size_t),
    "cuMemFree_v2": (c_uint64,),
    "cuMemsetD32_v2": (c_uint64, c_uint, c_size_t),
    "cuMemcpyDtoH_v2": (c_void_p, c_uint64, c_size_t),
    "cuModuleLoadDataEx": (POINTER(c_void_p), c_char_p, c_uint, POINTER(c_int), POINTER(c_void_p)),
    "cuModuleGetFunction": (POINTER(c_void_p), c_void_p, c_char_p),
    "cuModuleUnload": (c_void_p,),
    "cuLaunchKernel": (c_void_p, *[c_uint] * 7, c_void_p, POINTER(c_void_p), POINTER(c_void_p)),
    "cuEventCreate": (POINTER(c_void_p), c_uint),
    "cuEventRecord": (c_void_p, c_void_p),
    "cuEventSynchronize": (c_void_p,),
    "cuEventElapsedTime": (POINTER(c_float), c_void_p, c_void_p),
    "cuEventDestroy_v2": (c_void_p,),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
}


class CudaError(CantMeasure):
    """A call of the driver failed; the message names the call and the driver's error."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Driver:
    """The driver's library, initialised.

    Raises:
        CantMeasure: There is no driver, or it has no GPU for this process; the message says which.
    """

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(LIBRARY)
            for name, types in _SIGNATURES.items():
                getattr(self._library, name).argtypes = types
        except OSError:
            raise CantMeasure(f"there is no NVIDIA driver here ({LIBRARY})") from None
        except AttributeError as error:
            raise CantMeasure(f"the NVIDIA driver is too old: {error}") from None
        try:
            self.call("cuInit", 0)
        except CudaError as error:
            if error.code == NO_DEVICE:
                raise CantMeasure("no GPU was given to this job") from None
            raise

    def call(self, name: str, *arguments: Any) -> None:  # noqa: ANN401 - what the function takes
        """Call a function of the driver.

        Raises:
            CudaError: It did not succeed.
        """
        code: int = getattr(self._library, name)(*arguments)
        if code:
            error = c_char_p()
            known = self._library.cuGetErrorName(code, byref(error)) == 0 and error.value
            raise CudaError(f"{name} failed: {error.value.decode() if known and error.value else code}", code)

    def version(self) -> str:
        """The newest CUDA that the driver knows, as ``13.0``."""
        number = self.integer("cuDriverGetVersion")
        return f"{number // 1000}.{number % 1000 // 10}"

    def integer(self, name: str, *arguments: int) -> int:
        """Call a function that gives an integer."""
        value = c_int()
        self.call(name, byref(value), *arguments)
        return value.value

    def devices(self) -> "list[Device]":
        """The GPUs that this process may use (``CUDA_VISIBLE_DEVICES``)."""
        return [
            Device(self, self.integer("cuDeviceGet", index))
            for index in range(self.integer("cuDeviceGetCount"))
        ]


class Device:
    """One GPU.

    Args:
        driver: The driver.
        handle: What the driver calls it.
    """

    def __init__(self, driver: Driver, handle: int) -> None:
        self._driver = driver
        self._handle = handle
        name, uuid = ctypes.create_string_buffer(256), ctypes.create_string_buffer(16)
        driver.call("cuDeviceGetName", name, len(name), handle)
        driver.call("cuDeviceGetUuid", uuid, handle)
        self.name = name.value.decode(errors="replace")
        self.uuid = f"GPU-{UUID(bytes=uuid.raw)}"
        self.multiprocessors = driver.integer("cuDeviceGetAttribute", _MULTIPROCESSORS, handle)

    @contextmanager
    def context(self) -> "Iterator[Context]":
        """Give what is needed to compute on it, for as long as the block runs."""
        handle = c_void_p()
        self._driver.call("cuDevicePrimaryCtxRetain", byref(handle), self._handle)
        try:
            self._driver.call("cuCtxSetCurrent", handle)
            yield Context(self._driver)
        finally:
            # It takes memory, modules and events of the context with it.
            self._driver.call("cuDevicePrimaryCtxRelease", self._handle)


class Context:
    """Memory, programs and clocks of one GPU; all are gone with the context.

    Args:
        driver: The driver; the GPU's context is the thread's current one.
    """

    def __init__(self, driver: Driver) -> None:
        self._call = driver.call

    def free_bytes(self) -> int:
        """How much of the GPU's memory is free."""
        free, total = c_size_t(), c_size_t()
        self._call("cuMemGetInfo_v2", byref(free), byref(total))
        return free.value

    @contextmanager
    def memory(self, size: int) -> Iterator[int]:
        """Give the address of so many bytes on the GPU, for as long as the block runs."""
        address = c_uint64()
        self._call("cuMemAlloc_v2", byref(address), size)
        try:
            yield address.value
        finally:
            self._call("cuMemFree_v2", address)

    def set_words(self, address: int, word: int, count: int) -> None:
        """Fill memory with one 32-bit word."""
        self._call("cuMemsetD32_v2", address, word, count)

    def read(self, address: int, size: int) -> bytes:
        """Bring bytes from the GPU, once it has done what it was asked before."""
        target = ctypes.create_string_buffer(size)
        self._call("cuMemcpyDtoH_v2", target, address, size)
        return target.raw

    def load(self, ptx: str, names: Sequence[str]) -> list[c_void_p]:
        """Compile PTX for this GPU; gives the kernels of the given names.

        Raises:
            CudaError: The driver can't; the message holds the first line of what it says.
        """
        log = ctypes.create_string_buffer(_LOG_BYTES)
        options = (c_int * 2)(_ERROR_LOG, _ERROR_LOG_SIZE)
        values = (c_void_p * 2)(ctypes.addressof(log), _LOG_BYTES)
        module = c_void_p()
        try:
            self._call("cuModuleLoadDataEx", byref(module), ptx.encode(), 2, options, values)
        except CudaError as error:
            said = log.value.decode(errors="replace").partition("\n")[0]
            raise CudaError(f"{error}: {said}" if said else str(error), error.code) from None
        kernels = []
        for name in names:
            kernels.append(c_void_p())
            self._call("cuModuleGetFunction", byref(kernels[-1]), module, name.encode())
        return kernels

    def launch(self, kernel: c_void_p, blocks: int, threads: int, *parameters: Any) -> None:  # noqa: ANN401
        """Start a kernel.

        Args:
            kernel: One that `load` gave.
            blocks: How many.
            threads: In each of them.
            parameters: As `ctypes` values of the types that the kernel declares.
        """
        places = (c_void_p * len(parameters))(*(ctypes.addressof(one) for one in parameters))
        self._call("cuLaunchKernel", kernel, blocks, 1, 1, threads, 1, 1, 0, None, places, None)

    @contextmanager
    def stopwatch(self) -> "Iterator[Stopwatch]":
        """Give a clock that is on the GPU itself."""
        first, last = c_void_p(), c_void_p()
        self._call("cuEventCreate", byref(first), 0)
        self._call("cuEventCreate", byref(last), 0)
        try:
            yield Stopwatch(self._call, first, last)
        finally:
            self._call("cuEventDestroy_v2", first)
            self._call("cuEventDestroy_v2", last)


class Stopwatch:
    """Times what the GPU does between `start` and `stop`."""

    def __init__(self, call: Any, first: c_void_p, last: c_void_p) -> None:  # noqa: ANN401 - Driver.call
        self._call = call
        self._first = first
        self._last = last

    def start(self) -> None:
        """Begin once the GPU has done what it was asked before."""
        self._call("cuEventRecord", self._first, None)

    def stop(self) -> float:
        """Wait until the GPU has done what it was asked since; gives seconds."""
        milliseconds = c_float()
        self._call("cuEventRecord", self._last, None)
        self._call("cuEventSynchronize", self._last)
        self._call("cuEventElapsedTime", byref(milliseconds), self._first, self._last)
        return milliseconds.value / 1000
