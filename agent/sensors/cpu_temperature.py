"""The temperature of the CPU package, read from the one file that has it.

Asking for all temperatures of a machine reads every sensor of it, disks and batteries included, some of which
take milliseconds or wake what was asleep. The right file is found once and read from then on.
"""

import contextlib
from pathlib import Path
from typing import Final

HWMON: Final = Path("/sys/class/hwmon")

_CHIPS: Final = frozenset({"coretemp", "k10temp", "zenpower", "cpu_thermal"})
"""Intel; AMD, by the kernel's and by another driver; ARM boards."""

_PACKAGE_LABELS: Final = ("package id", "tdie", "tctl")
"""The package as a whole, best first: Tctl is Tdie plus an offset that makes fans run early."""

_LOOK_AGAIN_SECONDS: Final = 60.0


class CpuTemperature:
    """Reads the CPU's temperature; of several packages the hottest.

    Args:
        root: Where the kernel lists its sensors.
    """

    def __init__(self, root: Path = HWMON) -> None:
        self._root = root
        self._files: list[Path] | None = None
        self._looked_at = 0.0

    def read(self, now: float) -> float | None:
        """Give °C, None where the machine has no such sensor.

        Args:
            now: Monotonic seconds.
        """
        if self._files is None or (not self._files and now - self._looked_at >= _LOOK_AGAIN_SECONDS):
            self._files, self._looked_at = package_files(self._root), now
        if not self._files:
            return None
        try:
            hottest = max(int(file.read_bytes()) for file in self._files)
        except (OSError, ValueError):
            # A driver was loaded again, under another number perhaps.
            self._files, self._looked_at = [], now
            return None
        return round(hottest / 1000, 1)


def package_files(root: Path) -> list[Path]:
    """Find the files that tell the temperature of each CPU package."""
    found: list[Path] = []
    for name in sorted(root.glob("hwmon*/name")):
        with contextlib.suppress(OSError):
            if name.read_text().strip() in _CHIPS:
                found += _package_inputs(name.parent)
    return found


def _package_inputs(chip: Path) -> list[Path]:
    inputs = sorted(chip.glob("temp*_input"))
    labels = {file: _label(file) for file in inputs}
    for wanted in _PACKAGE_LABELS:
        packages = [file for file in inputs if labels[file].startswith(wanted)]
        if packages:
            return packages
    return inputs


def _label(file: Path) -> str:
    try:
        return file.with_name(file.name.replace("_input", "_label")).read_text().strip().lower()
    except OSError:
        return ""
