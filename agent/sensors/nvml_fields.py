"""What is read of a GPU, by which call of NVML, and how often.

The costs that decide how often were measured on an H200 (driver 580, one reading a second; medians, in
microseconds): utilisation 65, memory 75, temperature 15, power, clocks, throttle bits and performance state
4 to 10 each; memory temperature 45, the list of processes 60 each, energy 3,200 and at times 17,000; PCIe
width 80, ECC and remapped rows 11 each, MIG mode 160; PCIe throughput 20,800 a direction. Asking for several
field values in one call costs the sum of them, and each more than the call of its own where there is one:
so that form is used for the memory temperature alone, which has no other.
"""

import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import pynvml

MIB: Final = 1024 * 1024
MAX_PROCESSES: Final = 16
MAX_INSTANCE_PROCESSES: Final = 4

ALWAYS: Final = 0.0
OFTEN: Final = 5.0
SELDOM: Final = 60.0
ONCE: Final = float("inf")
ON_REQUEST: Final = -1.0

_THROTTLE_WORDS: Final = {
    0x1: "idle",
    0x2: "application clocks",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "thermal (software)",
    0x40: "thermal (hardware)",
    0x80: "power brake",
    0x100: "display clocks",
    0x200: "board limit",
    0x400: "reliability",
}

UNSUPPORTED: Final = frozenset(
    {
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
        pynvml.NVML_ERROR_DEPRECATED,
    }
)
"""The field is null for as long as this driver is loaded."""

_OLDER_DRIVER: Final = frozenset(
    {pynvml.NVML_ERROR_FUNCTION_NOT_FOUND, pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH}
)

# Opaque to us: pynvml has no types.
Handle = Any


class Field(NamedTuple):
    """One call of the library, the members it gives, and how many seconds they stay good."""

    members: tuple[str, ...]
    every: float
    read: Callable[[Handle], tuple[Any, ...]]


def throttle_words(bits: int) -> list[str]:
    """Say the bits of NVML's clock event reasons in words."""
    words = [word for bit, word in _THROTTLE_WORDS.items() if bits & bit]
    unknown = bits & ~sum(_THROTTLE_WORDS)
    return [*words, f"unknown ({unknown:#x})"] if unknown else words


def _single(function: Callable[..., Any], *arguments: int) -> Callable[[Handle], tuple[Any, ...]]:
    return lambda handle: (function(handle, *arguments),)


def _thousandths(function: Callable[[Handle], int]) -> Callable[[Handle], tuple[Any, ...]]:
    return lambda handle: (round(function(handle) / 1000, 2),)


def _utilization(handle: Handle) -> tuple[Any, ...]:
    rates = pynvml.nvmlDeviceGetUtilizationRates(handle)
    return rates.gpu, rates.memory


def _memory(handle: Handle) -> tuple[Any, ...]:
    try:
        # As nvidia-smi counts: without what the driver keeps for itself.
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except pynvml.NVMLError as error:
        if error.value not in _OLDER_DRIVER:
            raise
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    if not memory.total:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
    return round(memory.used / MIB), round(memory.total / MIB)


def _throttle(handle: Handle) -> tuple[Any, ...]:
    try:
        bits = pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
    except pynvml.NVMLError as error:
        if error.value != pynvml.NVML_ERROR_FUNCTION_NOT_FOUND:
            raise
        # Its name before driver 535.
        bits = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
    return (throttle_words(bits),)


def _temperature(handle: Handle) -> tuple[Any, ...]:
    try:
        return (pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),)
    except pynvml.NVMLError as error:
        if error.value not in {pynvml.NVML_ERROR_FUNCTION_NOT_FOUND, pynvml.NVML_ERROR_DEPRECATED}:
            raise
        # Its name from CUDA 14 on.
        return (pynvml.nvmlDeviceGetTemperatureV(handle, pynvml.NVML_TEMPERATURE_GPU),)


def _performance_state(handle: Handle) -> tuple[Any, ...]:
    state = pynvml.nvmlDeviceGetPerformanceState(handle)
    return (None if state == pynvml.NVML_PSTATE_UNKNOWN else state,)


def _memory_temperature(handle: Handle) -> tuple[Any, ...]:
    (answer,) = pynvml.nvmlDeviceGetFieldValues(handle, [pynvml.NVML_FI_DEV_MEMORY_TEMP])
    if answer.nvmlReturn != pynvml.NVML_SUCCESS:
        raise pynvml.NVMLError(answer.nvmlReturn)
    return (answer.value.uiVal,)


def _remapped_rows(handle: Handle) -> tuple[Any, ...]:
    correctable, uncorrectable, pending, failure = pynvml.nvmlDeviceGetRemappedRows(handle)
    return correctable, uncorrectable, bool(pending), bool(failure)


def _pcie_throughput(handle: Handle) -> tuple[Any, ...]:
    """Bytes per second, measured by the driver over 20 ms a direction.

    The byte counters among the field values are no way around that: they have 32 bits, and a link of PCIe 5.0
    at its full speed wraps them fourteen times a second.
    """
    counters = pynvml.NVML_PCIE_UTIL_RX_BYTES, pynvml.NVML_PCIE_UTIL_TX_BYTES
    return tuple(1000 * pynvml.nvmlDeviceGetPcieThroughput(handle, counter) for counter in counters)


def _processes(limit: int) -> Callable[[Handle], tuple[Any, ...]]:
    return lambda handle: (_running(handle)[:limit],)


def _running(handle: Handle) -> list[dict[str, Any]]:
    """Who holds the GPU, the biggest first; what both lists name counts as compute."""
    by_pid: dict[int, dict[str, Any]] = {}
    refused = 0
    for kind, listing in (
        ("graphics", pynvml.nvmlDeviceGetGraphicsRunningProcesses),
        ("compute", pynvml.nvmlDeviceGetComputeRunningProcesses),
    ):
        try:
            found = listing(handle)
        except pynvml.NVMLError as error:
            if error.value not in UNSUPPORTED or refused:
                raise
            refused += 1
            continue
        for process in found:
            used = process.usedGpuMemory
            by_pid[process.pid] = {
                "pid": process.pid,
                "memUsedMb": None if used is None else round(used / MIB),
                "kind": kind,
            }
    return sorted(by_pid.values(), key=lambda process: (-(process["memUsedMb"] or 0), process["pid"]))


class EnergyMeter:
    """Reads a GPU's energy counter and, from its steps, the mean power over the time between two readings."""

    def __init__(self) -> None:
        self._before: tuple[float, int] | None = None

    def read(self, handle: Handle) -> tuple[Any, ...]:
        """Give joules since the driver was loaded, and watts since the reading before.

        The watts are None for the first reading, and after the counter went back: it was reset.
        """
        millijoules = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        now = time.monotonic()
        before, self._before = self._before, (now, millijoules)
        watts = None
        if before is not None and millijoules >= before[1] and now > before[0]:
            watts = round((millijoules - before[1]) / 1000 / (now - before[0]), 2)
        return round(millijoules / 1000, 2), watts


MEMORY: Final = Field(("memUsedMb", "memTotalMb"), ALWAYS, _memory)

_IDENTITY: Final = (
    Field(("uuid",), ONCE, _single(pynvml.nvmlDeviceGetUUID)),
    Field(("name",), ONCE, _single(pynvml.nvmlDeviceGetName)),
)


def _threshold(member: str, kind: int) -> Field:
    return Field((member,), ONCE, _single(pynvml.nvmlDeviceGetTemperatureThreshold, kind))


def _errors(member: str, kind: int) -> Field:
    return Field(
        (member,), SELDOM, _single(pynvml.nvmlDeviceGetTotalEccErrors, kind, pynvml.NVML_VOLATILE_ECC)
    )


GPU_FIELDS: Final = (
    *_IDENTITY,
    Field(("utilPercent", "memUtilPercent"), ALWAYS, _utilization),
    MEMORY,
    Field(("tempC",), ALWAYS, _temperature),
    Field(("powerW",), ALWAYS, _thousandths(pynvml.nvmlDeviceGetPowerUsage)),
    Field(("smClockMhz",), ALWAYS, _single(pynvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_SM)),
    Field(("memClockMhz",), ALWAYS, _single(pynvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_MEM)),
    Field(("throttle",), ALWAYS, _throttle),
    Field(("performanceState",), ALWAYS, _performance_state),
    Field(("fanPercent",), OFTEN, _single(pynvml.nvmlDeviceGetFanSpeed)),
    Field(("memTempC",), OFTEN, _memory_temperature),
    Field(("processes",), OFTEN, _processes(MAX_PROCESSES)),
    Field(("powerLimitW",), SELDOM, _thousandths(pynvml.nvmlDeviceGetEnforcedPowerLimit)),
    _errors("eccCorrected", pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
    _errors("eccUncorrected", pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
    Field(
        ("rowRemapsCorrectable", "rowRemapsUncorrectable", "rowRemapPending", "rowRemapFailure"),
        SELDOM,
        _remapped_rows,
    ),
    Field(("pcieLinkGen",), SELDOM, _single(pynvml.nvmlDeviceGetCurrPcieLinkGeneration)),
    Field(("pcieLinkWidth",), SELDOM, _single(pynvml.nvmlDeviceGetCurrPcieLinkWidth)),
    Field(("pcieLinkGenMax",), ONCE, _single(pynvml.nvmlDeviceGetMaxPcieLinkGeneration)),
    Field(("pcieLinkWidthMax",), ONCE, _single(pynvml.nvmlDeviceGetMaxPcieLinkWidth)),
    _threshold("tempSlowdownC", pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN),
    _threshold("tempShutdownC", pynvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN),
    _threshold("memTempMaxC", pynvml.NVML_TEMPERATURE_THRESHOLD_MEM_MAX),
    Field(("pcieRxBytesPerSec", "pcieTxBytesPerSec"), ON_REQUEST, _pcie_throughput),
)
"""Of a whole GPU, besides its energy. The driver averages over 1/6 to 1 s itself: reading more often than
once a second gains nothing."""

INSTANCE_FIELDS: Final = (
    *_IDENTITY,
    MEMORY,
    Field(("gpuInstanceId",), ONCE, _single(pynvml.nvmlDeviceGetGpuInstanceId)),
    Field(("processes",), OFTEN, _processes(MAX_INSTANCE_PROCESSES)),
)
"""Of a MIG instance. It has no utilisation; temperature, power and clocks are those of its GPU."""


def instance_handles(handle: Handle) -> list[Handle]:
    """Give the MIG instances that a GPU is divided into; none where it is not.

    Raises:
        pynvml.NVMLError: That GPU can't be divided, or does not say.
    """
    current, _ = pynvml.nvmlDeviceGetMigMode(handle)
    if current != pynvml.NVML_DEVICE_MIG_ENABLE:
        return []
    found = []
    for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            found.append(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index))
        except pynvml.NVMLError as error:
            # Places need not be filled from the first.
            if error.value != pynvml.NVML_ERROR_NOT_FOUND:
                raise
    return found
