"""NVIDIA's management library, asked as seldom as each value allows. The only module that imports `pynvml`.

It runs in a child process (`agent.sensors.nvml_child`) because a call may hang or crash. So it imports
little: what it gives is made of dictionaries with the member names of the wire.

One `Generation` is one initialisation of the library. A GPU that is lost stays lost within it; everything
that needs a new initialisation ends it with `GenerationOver`, and with it the process: a library that was
replaced on disk is only loaded by a new one.
"""

import ctypes
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import pynvml

MIB: Final = 1024 * 1024
MAX_PROCESSES: Final = 16
MAX_EVENTS: Final = 16
"""How many XID events are taken in at one sample; the rest waits for the next."""

ALWAYS: Final = 0.0
OFTEN: Final = 5.0
SELDOM: Final = 60.0
ONCE: Final = float("inf")

_EARLY: Final = 0.5
"""Samples come a little early or late: a value that is due within this is read now."""

_UNSUPPORTED: Final = frozenset(
    {
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
        pynvml.NVML_ERROR_DEPRECATED,
    }
)
"""The field is null for as long as this driver is loaded."""

_LOST: Final = frozenset(
    {pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED, pynvml.NVML_ERROR_GPU_NOT_FOUND}
)

_OVER: Final = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "library_not_found",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "driver_not_loaded",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "version_mismatch",
    pynvml.NVML_ERROR_UNINITIALIZED: "uninitialized",
}

_PERCENTAGES: Final = frozenset({"utilPercent", "memUtilPercent", "fanPercent"})

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

# Opaque to us: pynvml has no types.
Handle = Any


class GenerationOver(Exception):
    """Nothing more can be had without initialising again.

    Args:
        code: One word that says why (see `agent.sensors.gpu`).
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


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


def _utilization(handle: Handle) -> tuple[Any, ...]:
    rates = pynvml.nvmlDeviceGetUtilizationRates(handle)
    return rates.gpu, rates.memory


def _memory(handle: Handle) -> tuple[Any, ...]:
    try:
        # As nvidia-smi counts: without what the driver keeps for itself.
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except pynvml.NVMLError as error:
        if error.value not in {
            pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
            pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
        }:
            raise
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    if not memory.total:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
    return round(memory.used / MIB), round(memory.total / MIB)


def _power(handle: Handle) -> tuple[Any, ...]:
    return (round(pynvml.nvmlDeviceGetPowerUsage(handle) / 1000, 2),)


def _power_limit(handle: Handle) -> tuple[Any, ...]:
    return (round(pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000, 2),)


def _energy(handle: Handle) -> tuple[Any, ...]:
    return (round(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000, 2),)


def _sm_clock(handle: Handle) -> tuple[Any, ...]:
    return (pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),)


def _memory_clock(handle: Handle) -> tuple[Any, ...]:
    return (pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM),)


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
    return (pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),)


def _slowdown_threshold(handle: Handle) -> tuple[Any, ...]:
    return (pynvml.nvmlDeviceGetTemperatureThreshold(handle, pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN),)


def _memory_temperature(handle: Handle) -> tuple[Any, ...]:
    (answer,) = pynvml.nvmlDeviceGetFieldValues(handle, [pynvml.NVML_FI_DEV_MEMORY_TEMP])
    if answer.nvmlReturn != pynvml.NVML_SUCCESS:
        raise pynvml.NVMLError(answer.nvmlReturn)
    return (answer.value.uiVal,)


def _fan(handle: Handle) -> tuple[Any, ...]:
    return (pynvml.nvmlDeviceGetFanSpeed(handle),)


def _ecc(handle: Handle) -> tuple[Any, ...]:
    """Uncorrected errors since the driver was loaded."""
    return (
        pynvml.nvmlDeviceGetTotalEccErrors(
            handle, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
        ),
    )


def _processes(handle: Handle) -> tuple[Any, ...]:
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
            if error.value not in _UNSUPPORTED or refused:
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
    biggest = sorted(by_pid.values(), key=lambda process: (-(process["memUsedMb"] or 0), process["pid"]))
    return (biggest[:MAX_PROCESSES],)


_MEMORY: Final = Field(("memUsedMb", "memTotalMb"), ALWAYS, _memory)

FIELDS: Final = (
    Field(("utilPercent", "memUtilPercent"), ALWAYS, _utilization),
    _MEMORY,
    Field(("tempC",), ALWAYS, _temperature),
    Field(("powerW",), ALWAYS, _power),
    Field(("energyJ",), ALWAYS, _energy),
    Field(("smClockMhz",), ALWAYS, _sm_clock),
    Field(("memClockMhz",), ALWAYS, _memory_clock),
    Field(("throttle",), ALWAYS, _throttle),
    Field(("fanPercent",), OFTEN, _fan),
    Field(("memTempC",), OFTEN, _memory_temperature),
    Field(("processes",), OFTEN, _processes),
    Field(("powerLimitW",), SELDOM, _power_limit),
    Field(("eccUncorrected",), SELDOM, _ecc),
    Field(("tempSlowdownC",), ONCE, _slowdown_threshold),
)
"""What is read of each GPU. The driver averages over 1/6 to 1 s itself: reading more often than once a second
gains nothing. PCIe throughput is not among them: each direction holds the driver for 20 ms."""


class Device:
    """One GPU of a generation.

    Args:
        index: Its number, as the driver counts.
        remarks: Where to put sentences about what is odd.
    """

    def __init__(self, index: int, remarks: list[str]) -> None:
        self.index = index
        self.lost = False
        self.unified = False
        self.handle: Handle | None = None
        self.values: dict[str, Any] = {"index": index}
        self._remarks = remarks
        self._remarked: set[str] = set()
        self._due = dict.fromkeys(FIELDS, 0.0)
        try:
            self.handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        except pynvml.NVMLError as error:
            self._judge(error)
            self._remark("handle", str(error))
            self.lost = True
            return
        self._read_field(Field(("uuid",), ONCE, lambda handle: (pynvml.nvmlDeviceGetUUID(handle),)))
        self._read_field(Field(("name",), ONCE, lambda handle: (pynvml.nvmlDeviceGetName(handle),)))

    def sample(self, now: float) -> dict[str, Any]:
        """Read what is due and give everything that is known, or its identity alone once it is lost.

        Args:
            now: Monotonic seconds.

        Raises:
            GenerationOver: The driver went away.
        """
        for field, due in self._due.items():
            if self.lost:
                break
            if now >= due:
                self._due[field] = now + field.every - _EARLY if field.every else now
                self._read_field(field)
        if self.lost:
            identity = ("index", "uuid", "name", "memTotalMb")
            known = {name: self.values[name] for name in identity if name in self.values}
            return {**known, "state": "lost"}
        return {**self.values, "state": "ok"}

    def _read_field(self, field: Field) -> None:
        name = field.members[0]
        try:
            answers = field.read(self.handle)
        except pynvml.NVMLError as error:
            unsupported = self._judge(error)
            if self.lost:
                return
            if unsupported:
                self._due[field] = ONCE
                self.unified |= field is _MEMORY and error.value == pynvml.NVML_ERROR_NOT_SUPPORTED
            else:
                self._remark(name, str(error))
            answers = (None,) * len(field.members)
        except UnicodeDecodeError:
            answers = (None,) * len(field.members)
            self._remark(name, "not text")
        for member, value in zip(field.members, answers, strict=True):
            self.values[member] = self._within(member, value) if member in _PERCENTAGES else value

    def _judge(self, error: pynvml.NVMLError) -> bool:
        """Whether the library will never answer this; notes a lost GPU, and ends what is over."""
        code: int = error.value
        if code in _OVER:
            raise GenerationOver(_OVER[code]) from None
        if code in _LOST:
            self.lost = True
        return code in _UNSUPPORTED

    def _within(self, member: str, value: int | None) -> int | None:
        if value is None or value <= 100:
            return value
        self._remark(member, f"was read as {value} and is shown as 100")
        return 100

    def _remark(self, member: str, what: str) -> None:
        if member not in self._remarked:
            self._remarked.add(member)
            self._remarks.append(f"GPU {self.index}: {member}: {what}")


class Generation:
    """The library, initialised once, and its GPUs.

    Raises:
        GenerationOver: It can't be initialised.
    """

    def __init__(self) -> None:
        self.remarks: list[str] = []
        """Sentences about what is odd, each said once. Whoever reads them clears them."""
        try:
            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            raise GenerationOver(_OVER.get(error.value, str(error))) from None
        self.driver_version = _fact(pynvml.nvmlSystemGetDriverVersion)
        cuda = _fact(pynvml.nvmlSystemGetCudaDriverVersion_v2)
        self.cuda_version = f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None
        self.devices = [Device(index, self.remarks) for index in range(count)]
        self._events = self._watch_for_xids()

    def sample(self, now: float) -> list[dict[str, Any]]:
        """Read every GPU; see `Device.sample`.

        Raises:
            GenerationOver: The driver went away.
        """
        self._take_xids()
        return [device.sample(now) for device in self.devices]

    def _watch_for_xids(self) -> Handle | None:
        try:
            events = pynvml.nvmlEventSetCreate()
        except pynvml.NVMLError:
            return None
        watched = 0
        for device in self.devices:
            if device.handle is None:
                continue
            try:
                pynvml.nvmlDeviceRegisterEvents(device.handle, pynvml.nvmlEventTypeXidCriticalError, events)
            except pynvml.NVMLError:
                # Its `xid` stays null, which is what "not known" looks like.
                continue
            watched += 1
        return events if watched else None

    def _take_xids(self) -> None:
        if self._events is None:
            return
        for _ in range(MAX_EVENTS):
            try:
                event = pynvml.nvmlEventSetWait_v2(self._events, 0)
            except pynvml.NVMLError as error:
                if error.value != pynvml.NVML_ERROR_TIMEOUT:
                    self._events = None
                    self.remarks.append(f"XID errors are no longer heard of: {error}")
                return
            for device in self.devices:
                if device.handle is not None and _address(device.handle) == _address(event.device):
                    device.values["xid"] = event.eventData


def _fact(read: Callable[[], Any]) -> Any:  # noqa: ANN401 - pynvml has no types
    try:
        return read()
    except (pynvml.NVMLError, UnicodeDecodeError):
        return None


def _address(handle: Handle) -> int | None:
    return ctypes.cast(handle, ctypes.c_void_p).value
