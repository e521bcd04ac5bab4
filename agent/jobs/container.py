"""A job's container: the command line that runs it under podman or docker, and its end.

Written to the documentation of ``podman run`` and ``docker run``, and tried under podman.
"""

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agent.jobs.launch import Launch

IMAGE_PATTERN: Final = re.compile(r"[a-z0-9][a-z0-9./:_-]*@sha256:[0-9a-f]{64}")
"""An image that can't change under its name: it has its digest."""

REMOVAL_SECONDS: Final = 60.0

_REMOVALS: Final = 2
"""Where its monitor was killed too, podman only learns at the first one that the container has ended."""

_OF_ENGINE: Final = (
    *("PATH", "HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME"),
    *("DOCKER_HOST", "DOCKER_CONTEXT", "CONTAINER_HOST", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF"),
)


class SandboxError(Exception):
    """A job can't be shut in; the message says why and what to do."""


def engine() -> str:
    """The program that runs containers here, ``podman`` before ``docker``: its path.

    Raises:
        SandboxError: There is none.
    """
    found = shutil.which("podman") or shutil.which("docker")
    if found is None:
        raise SandboxError("neither podman nor docker is installed")
    return found


def command(launch: Launch, directory: Path) -> list[str]:
    """Give the command line that runs a job in a container.

    Args:
        launch: The job; its environment is complete.
        directory: Its working directory, there already; inside, its owner runs the job.

    Raises:
        SandboxError: There is no engine, or the image has no digest.
    """
    program = engine()
    if launch.image is None or not IMAGE_PATTERN.fullmatch(launch.image):
        raise SandboxError("a container needs an image with its digest: name@sha256:…")
    owner = directory.stat()
    argv = [program, "run", "--rm", "--init", "--pull", "never", "--name", _name(launch)]
    argv += ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"]  # noqa: S108 - the container's own
    argv += ["--security-opt", "no-new-privileges", "--user", f"{owner.st_uid}:{owner.st_gid}"]
    if Path(program).name == "podman" and os.geteuid() != 0:
        # Without root, a user inside is another one outside, who could not write the working directory.
        argv += ["--userns", "keep-id"]
    argv += [] if launch.network else ["--network", "none"]
    argv += _limits(launch) + _gpus(program, launch.gpus)
    for path in launch.read_only:
        argv += ["--volume", f"{path}:{path}:ro"]
    argv += ["--volume", f"{directory}:{directory}", "--workdir", str(directory)]
    own = engine_environment()
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


def remove(launch: Launch) -> None:
    """Have the engine end whatever still runs in a job's container, and forget it.

    A container whose engine's program was killed stays behind, with its mounts, until somebody does this.

    Args:
        launch: The job, with the command line that `command` gave. Without a container nothing is done.
    """
    if launch.sandbox != "container":
        return
    argv = [*launch.argv[: launch.argv.index("run")], "rm", "--force", _name(launch)]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        for _ in range(_REMOVALS):
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=REMOVAL_SECONDS, check=False
            )
            if done.returncode == 0:
                return


def _name(launch: Launch) -> str:
    return f"qubix-{launch.tag}"


def engine_environment() -> dict[str, str]:
    """What the engine's own program has to find, which is not what the job is to see."""
    return {name: os.environ[name] for name in _OF_ENGINE if name in os.environ}


def _limits(launch: Launch) -> list[str]:
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


def _gpus(program: str, uuids: Sequence[str]) -> list[str]:
    if not uuids:
        return []
    if Path(program).name == "podman":
        return [word for uuid in uuids for word in ("--device", f"nvidia.com/gpu={uuid}")]
    # The engine reads a list of fields; the quotes keep the UUIDs together in one.
    return ["--gpus", f'"device={",".join(uuids)}"']
