"""NVIDIA's GPUs as the kernel lists them, and which of them are asleep; nothing here wakes one.

Of a GPU that may be asleep only sysfs is read. NVML is no help there: initialising it opens the device file
of every GPU, for which the driver resumes one that sleeps, and with its flag not to attach GPUs it has none
to give (driver 580). Nor is ``/proc/driver/nvidia/gpus/*/information``: to answer, the driver takes a
reference that resumes the GPU (`nv_procfs_read_gpu_info` in NVIDIA's open kernel modules).
"""

import os
from typing import Final

_NVIDIA: Final = "0x10de"
_DISPLAY_CONTROLLER: Final = "0x03"
_ASLEEP: Final = frozenset({"suspended", "suspending"})


def addresses(root: str = "") -> list[str]:
    """Give the PCI addresses of the GPUs that NVIDIA's driver serves, in order: ``0000:01:00.0``."""
    devices = f"{root}/sys/bus/pci/devices"
    try:
        found = sorted(os.listdir(devices))  # noqa: PTH208 - the child loads no pathlib
    except OSError:
        return []
    return [address for address in found if _is_gpu(f"{devices}/{address}")]


def is_asleep(address: str, root: str = "") -> bool:
    """Whether that device is in runtime suspend: any access by the driver would resume it."""
    return _read(f"{root}/sys/bus/pci/devices/{address}/power/runtime_status") in _ASLEEP


def may_sleep(address: str, root: str = "") -> bool:
    """Whether kernel and driver would suspend that device, which is awake, if nobody used it."""
    if _read(f"{root}/sys/bus/pci/devices/{address}/power/control") != "auto":
        return False
    status, _, _ = _read(f"{root}/proc/driver/nvidia/gpus/{address}/power").partition("\n")
    return status.partition(":")[2].strip().startswith("Enabled")


def from_nvml(bus_id: str) -> str:
    """Write an address of NVML's (``00000000:01:00.0``, its domain of eight digits) as sysfs does."""
    domain, _, rest = bus_id.lower().partition(":")
    return f"{int(domain, 16):04x}:{rest}"


def _is_gpu(device: str) -> bool:
    if _read(f"{device}/vendor") != _NVIDIA or not _read(f"{device}/class").startswith(_DISPLAY_CONTROLLER):
        return False
    try:
        # One that is given to a virtual machine, or that another driver has, is none of NVML's.
        return os.path.basename(os.readlink(f"{device}/driver")) == "nvidia"  # noqa: PTH115, PTH119
    except OSError:
        return False


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:  # noqa: PTH123
            return file.read().strip()
    except OSError:
        return ""
