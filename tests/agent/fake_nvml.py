"""The stand-in for NVML's shared library, seen from a test: built once, told what to answer."""

import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

SOURCE: Final = Path(__file__).with_name("fake_nvml.c")
LIBRARY: Final = "libnvidia-ml.so.1"

MIB: Final = 1024 * 1024
INVALID_ARGUMENT: Final = 2
GPU_IS_LOST: Final = 15
DRIVER_NOT_LOADED: Final = 9
VERSION_MISMATCH: Final = 18
NO_PERMISSION: Final = 4
FUNCTION_NOT_FOUND: Final = 13

FIRST_INSTANCE: Final = 100
INSTANCES: Final = 10
"""The stand-in's numbers of MIG instances: those of GPU 0 from 100 on, of GPU 1 from 110 on."""

BIG: Final = {
    "name": "NVIDIA H200",
    "uuid": "GPU-11111111-2222-3333-4444-555555555555",
    "util": "93 41",
    "memory": f"{143771 * MIB} {70000 * MIB} {617 * MIB}",
    "temp": "61",
    "pci": "00000000:41:00.0",
    "memTemp": "74",
    "slowdown": "90",
    "shutdown": "95",
    "memTempMax": "97",
    "pstate": "0",
    "linkGen": "5",
    "linkGenMax": "5",
    "linkWidth": "8",
    "linkWidthMax": "16",
    "pcieTx": "1235272",
    "pcieRx": "3410632",
    "rows": "3 1 1 0",
    "mig": "0 0",
    "power": "512340",
    "limit": "700000",
    "energy": "123456789",
    "smClock": "1980",
    "memClock": "3201",
    "throttle": "0x4",
    "fan": "35",
    "ecc": "2",
    "eccCorrected": "5",
    "xid": "0",
    "compute": "-",
    "graphics": "-",
}
"""A data centre's GPU that tells everything."""

SMALL: Final = {
    "name": "NVIDIA T4G",
    "uuid": "GPU-99999999-8888-7777-6666-000000000000",
    "pci": "00000000:C1:00.0",
    "util": "7 0",
    "memory": f"{15360 * MIB} {1024 * MIB} {256 * MIB}",
    "temp": "44",
    "smClock": "585",
    "memClock": "5001",
    "throttle": "0x1",
    "compute": "-",
}
"""One that has no fan, and tells neither power nor ECC nor a slowdown threshold."""


def build(directory: Path) -> Path:
    """Compile the stand-in; gives the directory to put into ``LD_LIBRARY_PATH``."""
    compiler = shutil.which("cc")
    if compiler is None:
        if os.environ.get("CI"):
            pytest.fail("there is no C compiler (cc) to build the stand-in for NVML with")
        pytest.skip("there is no C compiler (cc) to build the stand-in for NVML with")
    flags = ["-shared", "-fPIC", "-std=c11", "-D_DEFAULT_SOURCE", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *flags, "-o", str(directory / LIBRARY), str(SOURCE)], check=True)
    return directory


class FakeNvml:
    """What the stand-in answers.

    Args:
        library: Directory of the built library.
        control: The file that it reads.
    """

    def __init__(self, library: Path, control: Path) -> None:
        self.library = library
        self.control = control
        self.system = {"driver": "580.65.06", "cuda": "13000"}
        self.gpus = [dict(BIG), dict(SMALL)]
        self.instances: dict[int, dict[str, str]] = {}
        """MIG instances by their number."""
        self.write()

    @property
    def environment(self) -> dict[str, Any]:
        """What a process needs to find it."""
        return {"LD_LIBRARY_PATH": str(self.library), "FAKE_NVML": str(self.control)}

    def write(self) -> None:
        """Let what is set count from the next call on."""
        lines = [f"count {len(self.gpus)}", *(f"{key} {value}" for key, value in self.system.items())]
        for index, gpu in (*enumerate(self.gpus), *self.instances.items()):
            lines += [f"{index}.{key} {value}" for key, value in gpu.items()]
        temporary = self.control.with_suffix(".new")
        temporary.write_text("\n".join(lines) + "\n")
        temporary.replace(self.control)

    def set_system(self, **values: str | None) -> None:
        """Set (or with None, take away) what is asked of the library as a whole."""
        _update(self.system, values)
        self.write()

    def set_gpu(self, index: int, **values: str | None) -> None:
        """Set (or with None, take away) what is asked of one GPU."""
        _update(self.gpus[index], values)
        self.write()

    def calls(self) -> Counter[str]:
        """How often each function was called: ``name`` or ``name index``."""
        try:
            return Counter(Path(f"{self.control}.calls").read_text().splitlines())
        except FileNotFoundError:
            return Counter()


def _update(settings: dict[str, str], values: dict[str, str | None]) -> None:
    for key, value in values.items():
        if value is None:
            settings.pop(key, None)
        else:
            settings[key] = value
