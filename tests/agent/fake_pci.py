"""A PCI bus of a test's own, as sysfs and the driver's files show it, with NVIDIA GPUs on it."""

from pathlib import Path


class FakePci:
    """The devices of a PCI bus.

    Args:
        root: Where ``sys`` and ``proc`` are made.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._devices = root / "sys/bus/pci/devices"
        self._driver = root / "proc/driver/nvidia/gpus"
        self._devices.mkdir(parents=True)

    def add(
        self,
        address: str,
        status: str = "active",
        *,
        control: str = "on",
        vendor: str = "0x10de",
        kind: str = "0x030200",
        driver: str | None = "nvidia",
        runtime: str = "Enabled (fine-grained)",
    ) -> None:
        """Put a device at a PCI address; it is a GPU of NVIDIA's unless said otherwise."""
        device = self._devices / address
        (device / "power").mkdir(parents=True)
        (self._driver / address).mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n")
        (device / "class").write_text(f"{kind}\n")
        if driver is not None:
            (device / "driver").symlink_to(f"../../../bus/pci/drivers/{driver}")
        (self._driver / address / "power").write_text(
            f"Runtime D3 status:          {runtime}\nVideo Memory: ?\n"
        )
        self.set(address, status, control=control)

    def set(self, address: str, status: str, *, control: str | None = None) -> None:
        """Set the state of a device's runtime power management: `active`, `suspended`."""
        power = self._devices / address / "power"
        (power / "runtime_status").write_text(f"{status}\n")
        if control is not None:
            (power / "control").write_text(f"{control}\n")
