"""NVIDIA's management library and its GPUs; what is read of each is in `agent.sensors.nvml_fields`.

It runs in a child process (`agent.sensors.nvml_child`) because a call may hang or crash. So it imports
little: what it gives is made of dictionaries with the member names of the wire.

One `Generation` is one initialisation of the library. A GPU that is lost stays lost within it; everything
that needs a new initialisation ends it with `GenerationOver`, and with it the process: a library that was
replaced on disk is only loaded by a new one.
"""

import ctypes
from collections.abc import Callable
from typing import Any, Final

import pynvml

from agent.sensors import nvidia_pci
from agent.sensors.nvml_fields import (
    GPU_FIELDS,
    INSTANCE_FIELDS,
    OFTEN,
    SELDOM,
    EnergyMeter,
    Field,
    Handle,
    instance_handles,
)
from agent.sensors.nvml_unit import OVER, GenerationOver, Remarks, Unit, next_due

MAX_EVENTS: Final = 16
"""How many XID events are taken in at one sample; the rest waits for the next."""


class Instance(Unit):
    """One MIG instance. That it was taken away is told by its handle, which is none any more.

    Args:
        handle: The library's.
        label: What a person would call it.
        remarks: Where to put what is odd.
    """

    def __init__(self, handle: Handle, label: str, remarks: Remarks) -> None:
        super().__init__(INSTANCE_FIELDS, label, remarks)
        self.handle = handle

    def judge(self, error: pynvml.NVMLError) -> bool:
        """Whether the library will never answer this; notes that it is gone."""
        self.lost |= error.value in {pynvml.NVML_ERROR_INVALID_ARGUMENT, pynvml.NVML_ERROR_NOT_FOUND}
        return super().judge(error)


class Device(Unit):
    """One GPU of a generation.

    Args:
        index: Its number, as the driver counts; a guess until it is opened where ``address`` is given.
        open_handle: Opens it. It is only called while the GPU is awake.
        address: Where it is on the PCI bus, as sysfs writes it; None where the library is to say that.
        root: What stands before ``/sys`` and ``/proc``.
        remarks: Where to put what is odd.
    """

    def __init__(
        self,
        index: int,
        open_handle: Callable[[], Handle],
        *,
        address: str | None,
        root: str,
        remarks: Remarks,
    ) -> None:
        energy = Field(("energyJ", "avgPowerW"), OFTEN, EnergyMeter().read)
        super().__init__((*GPU_FIELDS, energy), f"GPU {index}", remarks)
        self.values.update(index=index, pciAddress=address)
        self.asleep = False
        self._open = open_handle
        self._root = root
        self._instances: dict[str, Instance] = {}
        self._instances_due = 0.0
        self._hears_xids: bool | None = None
        self._look()

    @property
    def index(self) -> int:
        """Its number, as the driver counts."""
        number: int = self.values["index"]
        return number

    @property
    def is_unused(self) -> bool:
        """Whether nobody uses it, and the kernel suspends it, or would if it were let go."""
        return self.asleep or (
            not self.lost
            and not self.values.get("utilPercent")
            and self.values.get("processes") == []
            and self.values["pciAddress"] is not None
            and nvidia_pci.may_sleep(self.values["pciAddress"], self._root)
        )

    def sample(self, now: float, *, on_request: bool = False) -> list[dict[str, Any]]:
        """Give its row and, where it is divided, one of each MIG instance.

        What is lost or asleep is not read, and has its identity alone.

        Args:
            now: Monotonic seconds.
            on_request: Whether to read what is read on request alone.

        Raises:
            GenerationOver: The driver went away.
        """
        self._look()
        if self.asleep:
            return [self._identity("asleep")]
        if not self.lost:
            self.refresh(now, on_request=on_request)
        if not self.lost:
            self._read_instances(now)
        if self.lost:
            return [self._identity("lost")]
        own = {"index": self.index, "parentIndex": self.index, "parentUuid": self.values.get("uuid")}
        return [self.known(now), *({**own, **instance.known(now)} for instance in self._instances.values())]

    def watch_for_xids(self, events: Handle) -> bool:
        """Let XID errors be told to ``events``; gives whether they are. Tried once."""
        if self._hears_xids is None and self.handle is not None and not self.asleep:
            try:
                pynvml.nvmlDeviceRegisterEvents(self.handle, pynvml.nvmlEventTypeXidCriticalError, events)
            except pynvml.NVMLError:
                # Its `xid` stays null, which is what "not known" looks like.
                self._hears_xids = False
            else:
                self._hears_xids = True
        return bool(self._hears_xids)

    def _identity(self, state: str) -> dict[str, Any]:
        names = ("index", "uuid", "name", "memTotalMb", "pciAddress")
        return {**{name: self.values[name] for name in names if name in self.values}, "state": state}

    def _look(self) -> None:
        """See whether it is awake; open it when it is for the first time."""
        address = self.values["pciAddress"]
        self.asleep = address is not None and nvidia_pci.is_asleep(address, self._root)
        if self.asleep or self.lost or self.handle is not None:
            return
        try:
            self.handle = self._open()
            if address is None:
                bus_id = pynvml.nvmlDeviceGetPciInfo(self.handle).busId
                self.values["pciAddress"] = nvidia_pci.from_nvml(bus_id)
            else:
                self.values["index"] = pynvml.nvmlDeviceGetIndex(self.handle)
        except pynvml.NVMLError as error:
            self.judge(error)
            if self.handle is None:
                self.remark("handle", str(error))
                self.lost = True

    def _read_instances(self, now: float) -> None:
        self._find_instances(now)
        for instance in self._instances.values():
            instance.refresh(now)
        if any(instance.lost for instance in self._instances.values()):
            # One was taken away; what there is instead is read with the next sample.
            self._instances = {
                uuid: instance for uuid, instance in self._instances.items() if not instance.lost
            }
            self._instances_due = now

    def _find_instances(self, now: float) -> None:
        if now < self._instances_due:
            return
        self._instances_due = next_due(now, SELDOM)
        try:
            handles = instance_handles(self.handle)
            before, self._instances = self._instances, {}
            for handle in handles:
                uuid = pynvml.nvmlDeviceGetUUID(handle)
                instance = before.get(uuid)
                if instance is None:
                    instance = Instance(handle, f"GPU {self.index}: {uuid}", self.remarks)
                self._instances[uuid] = instance
        except pynvml.NVMLError as error:
            if self.judge(error):
                self._instances_due = float("inf")


class Generation:
    """The library, initialised once, and its GPUs.

    Args:
        root: What stands before ``/sys`` and ``/proc``.

    Raises:
        GenerationOver: It can't be initialised.
    """

    def __init__(self, root: str = "") -> None:
        self.remarks: Remarks = {}
        """What is odd, by what it is of. Whoever reads them clears them."""
        self._root = root
        try:
            # This opens all GPUs: one that sleeps while another is awake can't be spared it.
            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            raise GenerationOver(OVER.get(error.value, str(error))) from None
        self.driver_version = _fact(pynvml.nvmlSystemGetDriverVersion)
        cuda = _fact(pynvml.nvmlSystemGetCudaDriverVersion_v2)
        self.cuda_version = f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None
        places = nvidia_pci.addresses(root)
        # Which number one that still sleeps has is only known by its place, and only where all are NVML's.
        by_place = len(places) == count and any(nvidia_pci.is_asleep(place, root) for place in places)
        self.devices = (
            [self._by_address(index, address) for index, address in enumerate(places)]
            if by_place
            else [self._by_index(index) for index in range(count)]
        )
        self._events = _fact(pynvml.nvmlEventSetCreate)

    def sample(self, now: float, *, on_request: bool = False) -> list[dict[str, Any]]:
        """Read every GPU; see `Device.sample`.

        Raises:
            GenerationOver: The driver went away.
        """
        self._take_xids()
        return [row for device in self.devices for row in device.sample(now, on_request=on_request)]

    def _by_index(self, index: int) -> Device:
        def opening() -> Handle:
            return pynvml.nvmlDeviceGetHandleByIndex(index)

        return Device(index, opening, address=None, root=self._root, remarks=self.remarks)

    def _by_address(self, index: int, address: str) -> Device:
        def opening() -> Handle:
            return pynvml.nvmlDeviceGetHandleByPciBusId(address.encode())

        return Device(index, opening, address=address, root=self._root, remarks=self.remarks)

    def _take_xids(self) -> None:
        if self._events is None:
            return
        told = [device.watch_for_xids(self._events) for device in self.devices]
        if not any(told):
            return
        for _ in range(MAX_EVENTS):
            try:
                event = pynvml.nvmlEventSetWait_v2(self._events, 0)
            except pynvml.NVMLError as error:
                if error.value != pynvml.NVML_ERROR_TIMEOUT:
                    self._events = None
                    self.remarks["XID errors"] = f"no longer heard of: {error}"
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
