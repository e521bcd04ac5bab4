"""One run of the benchmark: every measurement in turn, and what came of it."""

import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from agent.jobs.benchmark import disk, gpu, processor
from agent.jobs.benchmark.cuda import Device, Driver
from agent.jobs.benchmark.figures import CantMeasure, Figure, WrongResult
from agent.jobs.benchmark.progress import Progress

VERSION: Final = 1
"""Of the figures: grows when one of them begins to count something else."""

_DRIVER_VERSION: Final = Path("/sys/module/nvidia/version")


class Run:
    """Takes the measurements and keeps what they gave.

    Args:
        progress: Where to tell how far it is.
        say: Called with one line about each figure and note, for the log.
    """

    def __init__(self, progress: Progress, say: Callable[[str], None]) -> None:
        self._progress = progress
        self._say = say
        self._begun = time.monotonic()
        self._figures: list[Figure] = []
        self._notes: list[str] = []
        self._devices: list[Device] = []
        self._cuda_version: str | None = None
        self.wrong = False
        """Whether the machine computed something wrong."""

    def measure(self, directory: Path, seconds: float, disk_mb: int) -> None:
        """Take all measurements.

        Args:
            directory: The one whose disk is measured.
            seconds: How long all of it may take; half of it is the GPUs', where there are any.
            disk_mb: How much to write and read, at most, in MiB.
        """
        self._look_for_gpus()
        share = seconds / 2 if self._devices else seconds
        self._host(directory, share, disk_mb)
        for device in self._devices:
            self._gpu(device, seconds / 2 / len(self._devices))

    def result(self) -> dict[str, Any]:
        """Give all that was found, as JSON objects are made of."""
        return {
            "benchmark": VERSION,
            "measuredAt": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "tookSeconds": round(time.monotonic() - self._begun, 1),
            "versions": {
                "kernel": f"{platform.system()} {platform.release()}",
                "python": platform.python_version(),
                "driver": _driver_version() if self._devices else None,
                "cuda": self._cuda_version,
            },
            "gpus": [{"uuid": device.uuid, "name": device.name} for device in self._devices],
            "figures": [figure.as_json() for figure in self._figures],
            "notes": self._notes,
        }

    def _host(self, directory: Path, seconds: float, disk_mb: int) -> None:
        with self._expecting(("sha256", "GB/s")), self._progress.stage("SHA-256", 0.3 * seconds) as stage:
            self._add(processor.sha256(stage))
        with self._expecting(("memory_copy", "GB/s")), self._progress.stage("memory", 0.3 * seconds) as stage:
            self._add(processor.memory_copy(stage))
        with self._expecting(("disk_write", "GB/s"), ("disk_read", "GB/s")):
            found = disk.measure(directory, disk_mb, self._progress, 0.4 * seconds)
            self._add(*found.figures)
            self._note(*found.notes)

    def _look_for_gpus(self) -> None:
        try:
            driver = Driver()
            self._devices = driver.devices()
            self._cuda_version = driver.version()
        except CantMeasure as reason:
            self._note(f"no GPU figures: {reason}")

    def _gpu(self, device: Device, seconds: float) -> None:
        names = ("gpu_memory_copy", "GB/s"), ("gpu_fp32", "TFLOP/s")
        with self._expecting(*names, device=device), device.context() as context:
            for (name, unit), measure in zip(names, (gpu.memory_copy, gpu.fp32), strict=True):
                message = f"{device.name}: {'memory' if measure is gpu.memory_copy else 'FP32'}"
                with (
                    self._expecting((name, unit), device=device),
                    self._progress.stage(message, seconds / 2) as stage,
                ):
                    self._add(measure(device, context, stage))

    @contextmanager
    def _expecting(self, *names: tuple[str, str], device: Device | None = None) -> Iterator[None]:
        """Take down the figures of these names and units as unknown, and why, if they can't be had."""
        uuid = None if device is None else device.uuid
        try:
            yield
        except (CantMeasure, WrongResult) as reason:
            self.wrong = self.wrong or isinstance(reason, WrongResult)
            self._add(*(Figure(name, None, unit, "not measured", uuid) for name, unit in names))
            self._note(f"{' and '.join(name for name, _ in names)}: {reason}")

    def _add(self, *figures: Figure) -> None:
        for figure in figures:
            self._figures.append(figure)
            self._say(str(figure))

    def _note(self, *notes: str) -> None:
        for note in notes:
            self._notes.append(note)
            self._say(note)


def _driver_version() -> str | None:
    try:
        return _DRIVER_VERSION.read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None
