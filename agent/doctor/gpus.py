"""The GPUs: the driver, each GPU and what it tells, and whether this user may use it."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from agent.doctor import nvml_probe
from agent.doctor.finding import Finding, State
from agent.sensors.base import one_line
from agent.sensors.nvml_process import library_present
from agent.sensors.offer import Offer
from qubix_tui.protocol.records import GpuMetrics

PROBE_SECONDS: Final = 30.0
"""For the driver to initialise every GPU, one after the other."""

_PCI: Final = Path("/sys/bus/pci/devices")
_DEV: Final = Path("/dev")

_DRIVER_NEEDED: Final = "NVIDIA's driver, loaded, with its library NVML of the same version"
_DRIVER_REMEDY: Final = "install NVIDIA's driver (nvidia-smi has to work), or restart after an update of it"


class ProbedGpu(msgspec.Struct, frozen=True):
    """What the probe says of one GPU."""

    index: int
    uuid: str | None = None
    name: str | None = None
    persistence: int | None = None
    problem: str | None = None
    fields: dict[str, str] = {}
    """How each field was answered, by its first member's name on the wire."""


class Probed(msgspec.Struct, frozen=True):
    """What the probe says."""

    problem: str | None = None
    driver: str | None = None
    nvml: str | None = None
    cuda: str | None = None
    gpus: list[ProbedGpu] = []


def look_at_gpus(offer: Offer, *, is_on: bool) -> Iterator[Finding]:
    """Look at the driver and at every GPU that is offered.

    Args:
        offer: Which are.
        is_on: Whether the agent looks at GPUs at all.
    """
    if not is_on:
        yield Finding("driver", State.SKIP, "GPUs are not looked at (sensors.gpu is off in agent.toml)")
        return
    if not library_present():
        yield _without_driver(offer)
        return
    probed = probe()
    if probed.problem is not None:
        yield Finding("driver", State.FAIL, probed.problem, _DRIVER_NEEDED, _DRIVER_REMEDY)
        return
    yield Finding(
        "driver",
        State.OK,
        f"driver {_text(probed.driver)}, NVML {_text(probed.nvml)}, CUDA {_text(probed.cuda)}",
        _DRIVER_NEEDED,
    )
    offered = [gpu for gpu in probed.gpus if offer.includes(_as_metrics(gpu))]
    yield from _missing(offer, probed.gpus)
    for gpu in offered:
        yield _gpu(gpu)
        yield from _persistence(gpu)
    if offered:
        yield _device_files()


def probe() -> Probed:
    """Have a process of its own ask NVML; what becomes of it is part of the answer."""
    root = str(Path(nvml_probe.__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", nvml_probe.__file__, root, *filter(os.path.isdir, sys.path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )
    try:
        output, _ = process.communicate(timeout=PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        # One that hangs in the driver does not even end by that.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=1)
        return Probed(problem=f"NVML has not answered for {PROBE_SECONDS:g} s: it hangs in the driver")
    if process.returncode < 0:
        return Probed(problem=f"NVML crashed (signal {-process.returncode})")
    try:
        return msgspec.json.decode(output, type=Probed)
    except msgspec.MsgspecError:
        return Probed(problem=f"NVML could not be asked (exit code {process.returncode})")


def _without_driver(offer: Offer) -> Finding:
    there = _pci_gpus()
    if there:
        shown = f"{there} NVIDIA GPU{'s' if there > 1 else ''} on the PCI bus, but no NVML"
        return Finding("driver", State.FAIL, shown, _DRIVER_NEEDED, _DRIVER_REMEDY)
    if missing := offer.missing([]):
        return Finding(
            "driver",
            State.FAIL,
            f"no NVIDIA GPU, though {', '.join(missing)} is offered",
            "the GPUs that gpus.offer names",
            "mend gpus.offer in agent.toml, or the GPU",
        )
    return Finding(
        "driver",
        State.WARN,
        "no NVIDIA GPU, and no driver",
        "none, for jobs that need no GPU",
        "nothing, if this machine is to have none",
    )


def _missing(offer: Offer, gpus: list[ProbedGpu]) -> Iterator[Finding]:
    needed, remedy = (
        "the GPUs that gpus.offer names",
        "nvidia-smi -L lists them; mend gpus.offer in agent.toml",
    )
    if missing := offer.missing(map(_as_metrics, gpus)):
        yield Finding("gpus", State.FAIL, f"offered, but not there: {', '.join(missing)}", needed, remedy)
    elif not gpus:
        yield Finding(
            "gpus", State.WARN, "the driver knows no GPU", "none, for jobs that need no GPU", remedy
        )


def _gpu(gpu: ProbedGpu) -> Finding:
    name = f"gpu {gpu.index}"
    if gpu.problem is not None:
        return Finding(
            name,
            State.FAIL,
            f"{_text(gpu.name)}: {gpu.problem}",
            "a GPU that answers",
            "reset it (nvidia-smi --gpu-reset), or restart; look for Xid in the kernel's log",
        )
    silent = {field: answer for field, answer in gpu.fields.items() if answer != nvml_probe.OK}
    shown = f"{_text(gpu.name)}, {len(gpu.fields) - len(silent)} of {len(gpu.fields)} values"
    if silent:
        shown += f"; not {', '.join(_with_reason(*one) for one in silent.items())}"
    if "no permission" in silent.values():
        return Finding(
            name,
            State.WARN,
            shown,
            "leave to read them all",
            "let the agent's user do what root may, or do without",
        )
    return Finding(name, State.OK, shown, "a GPU that answers")


def _with_reason(field: str, answer: str) -> str:
    return field if answer == "not supported" else f"{field} ({answer})"


def _persistence(gpu: ProbedGpu) -> Iterator[Finding]:
    needed = "on, so that a job's start does not wait for the driver"
    if gpu.persistence == 0:
        yield Finding(
            "persistence",
            State.WARN,
            f"gpu {gpu.index}: off; the driver may unload itself when nobody uses the GPU",
            needed,
            "run nvidia-persistenced, or nvidia-smi -pm 1",
        )
    elif gpu.persistence is not None:
        yield Finding("persistence", State.OK, f"gpu {gpu.index}: on", needed)


def _device_files() -> Finding:
    needed = "leave for this user to read and write NVIDIA's device files"
    files = [file for file in (_DEV / "nvidiactl", *sorted(_DEV.glob("nvidia[0-9]*"))) if file.exists()]
    if not files:
        return Finding("permissions", State.OK, "there are no device files to be denied", needed)
    if closed := [file.name for file in files if not os.access(file, os.R_OK | os.W_OK)]:
        return Finding(
            "permissions",
            State.FAIL,
            f"this user may not use {', '.join(closed)} in /dev",
            needed,
            "add the user to the group that those files have (ls -l /dev/nvidia*)",
        )
    return Finding("permissions", State.OK, f"this user may use {len(files)} device files", needed)


def _pci_gpus() -> int:
    found = 0
    for device in _PCI.glob("*"):
        with contextlib.suppress(OSError):
            is_nvidia = (device / "vendor").read_text().strip() == "0x10de"
            found += is_nvidia and (device / "class").read_text().startswith("0x03")
    return found


def _as_metrics(gpu: ProbedGpu) -> GpuMetrics:
    return GpuMetrics(index=gpu.index, uuid=gpu.uuid)


def _text(text: str | None) -> str:
    return one_line(text) or "—"
