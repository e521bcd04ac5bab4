"""What a job is shut into: the command line that shuts it in. `agent.jobs.selftest` tries it out.

What each kind keeps from a job, and what it does not, is in ``docs/workloads.md``.
"""

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import platformdirs

from agent.jobs import container
from agent.jobs.container import SandboxError
from agent.jobs.launch import Launch

HOMES: Final = ("/home", "/root")
"""Where people keep what is theirs."""

SECRETS: Final = ("/etc/qubix",)
"""Where tokens lie, beside QUBIX_HOME."""

PRIVATE: Final = ("/tmp", "/var/tmp", "/run")  # noqa: S108 - the sandbox has its own
"""Empty in a sandbox: other programs' files and sockets."""

_RESOLVER: Final = Path("/etc/resolv.conf")
_DEV: Final = Path("/dev")
_NVIDIA_GPUS: Final = Path("/proc/driver/nvidia/gpus")
_SHARED_DEVICES: Final = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-caps", "dxg")
"""Of all NVIDIA GPUs together (``dxg``: under WSL)."""


def wrap(launch: Launch, directory: Path) -> list[str]:
    """Give the command line that runs a job in its sandbox; without one, the job's own.

    Args:
        launch: The job.
        directory: Its working directory: absolute, there already, and its user's own.

    Raises:
        SandboxError: What the sandbox needs is not installed.
    """
    if launch.sandbox == "bubblewrap":
        return _bubblewrap(launch, directory)
    if launch.sandbox == "container":
        return container.command(launch, directory)
    return list(launch.argv)


def gpu_devices(uuids: Sequence[str], *, dev: Path = _DEV, gpus: Path = _NVIDIA_GPUS) -> list[Path]:
    """Give the device files that a job needs to use these GPUs; none for none.

    Where the driver does not tell which file is which GPU's (parts of a GPU, WSL) those of all GPUs are
    given, and ``CUDA_VISIBLE_DEVICES`` alone says which to use.
    """
    if not uuids:
        return []
    minors = _minors(gpus)
    if all(uuid in minors for uuid in uuids):
        own = [dev / f"nvidia{minors[uuid]}" for uuid in uuids]
    else:
        own = sorted(path for path in dev.glob("nvidia*") if path.name.removeprefix("nvidia").isdecimal())
    return [path for path in [*own, *(dev / name for name in _SHARED_DEVICES)] if path.exists()]


def _bubblewrap(launch: Launch, directory: Path) -> list[str]:
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxError("bubblewrap is not installed: the package bubblewrap brings it")
    argv = [program, "--die-with-parent", "--cap-drop", "ALL"]
    argv += ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    argv += [] if launch.network else ["--unshare-net"]
    argv += ["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"]
    for device in gpu_devices(launch.gpus):
        argv += ["--dev-bind", str(device), str(device)]
    own_home = os.path.expanduser("~")  # noqa: PTH111 - a user without a home is no error
    homes = _outermost([*HOMES, own_home, *PRIVATE])
    argv += _empty(homes)
    for path in launch.read_only:
        argv += ["--ro-bind", path, path]
    # Last, for a path that may be read can hold one of them.
    argv += _empty(_outermost([qubix_home(), *SECRETS]), unless_beneath=() if launch.read_only else homes)
    argv += _hide(launch.hidden)
    if launch.network:
        argv += _resolver()
    argv += ["--bind", str(directory), str(directory), "--chdir", str(directory)]
    return [*argv, "--", *launch.argv]


def _empty(paths: Iterable[str], *, unless_beneath: Sequence[str] = ()) -> list[str]:
    return [
        word
        for path in paths
        if not any(_is_beneath(path, other) for other in unless_beneath)
        for word in ("--tmpfs", path)
    ]


def _hide(files: Iterable[str]) -> list[str]:
    """Put nothing in the place of some files, and of those that they are links to."""
    real = sorted({os.path.realpath(path) for path in files if os.path.isfile(path)})  # noqa: PTH113
    return [word for path in real for word in ("--ro-bind", os.devnull, path)]


def _outermost(paths: Iterable[str]) -> list[str]:
    """The real directories among these that are there, without those that lie in another of them."""
    real = sorted({os.path.realpath(path) for path in paths if os.path.isdir(path)} - {"/"})  # noqa: PTH112
    return [path for path in real if not any(_is_beneath(path, other) for other in real if other != path)]


def _is_beneath(path: str, other: str) -> bool:
    return path == other or path.startswith(f"{other}/")


def qubix_home() -> str:
    """Where QUBIX_HOME is, whether it is there or not."""
    return os.environ.get("QUBIX_HOME") or platformdirs.user_state_dir("qubix", appauthor=False)


def _resolver() -> list[str]:
    """What lets names be looked up: on many machines the list of name servers lies in /run."""
    real = os.path.realpath(_RESOLVER)
    in_private = any(_is_beneath(real, os.path.realpath(path)) for path in PRIVATE)
    return ["--ro-bind-try", real, real] if in_private else []


def _minors(gpus: Path) -> dict[str, int]:
    """The number of each GPU's device file, by UUID, as far as the driver tells."""
    found = {}
    for path in gpus.glob("*/information"):
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        minor = facts.get("Device Minor", "")
        if minor.isdecimal():
            found[facts.get("GPU UUID", "")] = int(minor)
    return found
