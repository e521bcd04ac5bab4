"""What a job is shut into: the command line that shuts it in. `agent.jobs.selftest` tries it out.

What each kind keeps from a job, and what it does not, is in ``docs/workloads.md``.
"""

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import platformdirs

from agent.jobs.launch import Launch

HOMES: Final = ("/home", "/root")
"""Where people keep what is theirs."""

SECRETS: Final = ("/etc/qubix",)
"""Where tokens lie, beside QUBIX_HOME."""

PRIVATE: Final = ("/tmp", "/var/tmp", "/run")  # noqa: S108 - the sandbox has its own
"""Empty in a sandbox: other programs' files and sockets."""

IMAGE_PATTERN: Final = re.compile(r"[a-z0-9][a-z0-9./:_-]*@sha256:[0-9a-f]{64}")
"""An image that can't change under its name: it has its digest."""

_RESOLVER: Final = Path("/etc/resolv.conf")
_DEV: Final = Path("/dev")
_NVIDIA_GPUS: Final = Path("/proc/driver/nvidia/gpus")
_SHARED_DEVICES: Final = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-caps", "dxg")
"""Of all NVIDIA GPUs together (``dxg``: under WSL)."""


class SandboxError(Exception):
    """A job can't be shut in; the message says why and what to do."""


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
        return _container(launch, directory)
    return list(launch.argv)


def engine() -> str:
    """The program that runs containers here, ``podman`` before ``docker``: its path.

    Raises:
        SandboxError: There is none.
    """
    found = shutil.which("podman") or shutil.which("docker")
    if found is None:
        raise SandboxError("neither podman nor docker is installed")
    return found


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


def _container(launch: Launch, directory: Path) -> list[str]:
    program = engine()
    if launch.image is None or not IMAGE_PATTERN.fullmatch(launch.image):
        raise SandboxError("a container needs an image with its digest: name@sha256:…")
    owner = directory.stat()
    argv = [program, "run", "--rm", "--init", "--pull", "never", "--name", f"qubix-{launch.tag}"]
    argv += ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"]  # noqa: S108 - the container's own
    argv += ["--security-opt", "no-new-privileges", "--user", f"{owner.st_uid}:{owner.st_gid}"]
    argv += [] if launch.network else ["--network", "none"]
    argv += _container_limits(launch) + _container_gpus(program, launch.gpus)
    for path in launch.read_only:
        argv += ["--volume", f"{path}:{path}:ro"]
    argv += ["--volume", f"{directory}:{directory}", "--workdir", str(directory)]
    own = _engine_environment()
    for name in sorted(launch.env):
        if name in own:
            # The image knows best where its programs are; nothing else of these is a secret.
            argv += [] if name == "PATH" else ["--env", f"{name}={launch.env[name]}"]
        else:
            # Its value comes from the environment: everybody can read a command line.
            argv += ["--env", name]
    return [
        "/usr/bin/env",
        *(f"{name}={value}" for name, value in own.items()),
        *argv,
        launch.image,
        *launch.argv,
    ]


def _engine_environment() -> dict[str, str]:
    """What the engine's own program has to find, which is not what the job is to see."""
    names = (
        "PATH",
        "HOME",
        "XDG_RUNTIME_DIR",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "DOCKER_HOST",
        "CONTAINER_HOST",
    )
    return {name: os.environ[name] for name in names if name in os.environ}


def _container_limits(launch: Launch) -> list[str]:
    limits = launch.limits
    argv = []
    if limits.memory_bytes is not None:
        argv += ["--memory", str(limits.memory_bytes)]
    if limits.cpu_cores is not None:
        argv += ["--cpus", str(limits.cpu_cores)]
    if limits.max_processes is not None:
        argv += ["--pids-limit", str(limits.max_processes)]
    if limits.cpu_seconds is not None:
        argv += ["--ulimit", f"cpu={limits.cpu_seconds}"]
    if limits.open_files is not None:
        argv += ["--ulimit", f"nofile={limits.open_files}"]
    return argv


def _container_gpus(program: str, uuids: Sequence[str]) -> list[str]:
    if not uuids:
        return []
    if Path(program).name == "podman":
        return [word for uuid in uuids for word in ("--device", f"nvidia.com/gpu={uuid}")]
    # The engine reads a list of fields; the quotes keep the UUIDs together in one.
    return ["--gpus", f'"device={",".join(uuids)}"']
