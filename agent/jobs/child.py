"""Starts a job's first process: with a session, an environment, limits, a user and a group of its own."""

import contextlib
import ctypes
import os
import platform
import pwd
import resource
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.jobs.cgroup import Cgroup
from agent.jobs.launch import Launch, Limits
from agent.jobs.processes import PROC, all_pids

PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_NO_NEW_PRIVS: Final = 38

OOM_SCORE: Final = 500

CPU_SECONDS_TO_SPARE: Final = 5
"""Between the signal that a process used up its processor time, and its end."""

_IOPRIO_SET: Final = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "ppc64le": 273, "s390x": 282}
_IOPRIO_CLASS_SHIFT: Final = 13
_IOPRIO: Final = {"low": 2 << _IOPRIO_CLASS_SHIFT | 7, "idle": 3 << _IOPRIO_CLASS_SHIFT}

_libc: Final = ctypes.CDLL(None, use_errno=True)


class StartFailed(Exception):
    """The job can't be started; the message says why."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a job runs as."""

    name: str
    uid: int
    gid: int


def identity(user: str | None) -> Identity | None:
    """Look up whom to run as; None for whoever this process is.

    Raises:
        StartFailed: There is no such user, or this process can't become it.
    """
    if user is None:
        return None
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        raise StartFailed(f"there is no user {user} on this machine") from None
    if found.pw_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        raise StartFailed(f"only an agent that runs as root can run a job as {user}")
    return Identity(user, found.pw_uid, found.pw_gid)


def become_subreaper() -> None:
    """Make this process the parent of whatever its descendants leave behind."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start(launch: Launch, work: str, cgroup: Cgroup | None) -> "subprocess.Popen[bytes]":
    """Start the job's first process; its output comes through the pipes of what is given.

    Args:
        launch: What to run; its environment is complete.
        work: The working directory.
        cgroup: The control group to put it into.

    Raises:
        StartFailed: It can't be started.
    """
    # Of a container, the engine's own program is started here; it sees to the user and limits of the job.
    user = None if launch.sandbox == "container" else identity(launch.user)
    entrance = None
    if cgroup is not None:
        with contextlib.suppress(OSError):
            entrance = cgroup.open_entrance()
    try:
        return subprocess.Popen(
            launch.argv,
            env=launch.env,
            cwd=work,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            umask=0o077,
            # Nothing else runs in this process: what a thread might hold when it forks is held by none.
            preexec_fn=_preparation(launch, user, entrance),  # noqa: PLW1509
        )
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise StartFailed(f"{launch.argv[0]} can't be started: {_reason(error)}") from None
    finally:
        if entrance is not None:
            os.close(entrance)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)


def _preparation(launch: Launch, user: Identity | None, entrance: int | None) -> Callable[[], None]:
    """Give what the child does between fork and exec. All that may fail by itself was done before."""
    chosen = Limits() if launch.sandbox == "container" else launch.limits
    limits = _resource_limits(chosen, os.getuid() if user is None else user.uid)
    cores = _cores(launch.limits.cpu_cores)
    supervisor = os.getpid()

    def prepare() -> None:
        if entrance is not None:
            os.write(entrance, b"0")
        os.nice(launch.nice)
        _offer_to_oom_killer()
        _set_io_priority(launch.ionice)
        if cores is not None:
            os.sched_setaffinity(0, cores)
        for kind, value in limits:
            _lower(kind, value, CPU_SECONDS_TO_SPARE if kind == resource.RLIMIT_CPU else 0)
        if user is not None:
            os.initgroups(user.name, user.gid)
            os.setgid(user.gid)
            os.setuid(user.uid)
        if launch.sandbox == "none":
            _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        # After the change of user, which would undo it.
        _libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != supervisor:
            os._exit(1)

    return prepare


def _resource_limits(limits: Limits, uid: int) -> list[tuple[int, int]]:
    chosen = [(resource.RLIMIT_CORE, 0)]
    if limits.memory_bytes is not None:
        # Writable memory of one process: not its address space, of which a GPU's driver takes terabytes.
        chosen.append((resource.RLIMIT_DATA, limits.memory_bytes))
    if limits.cpu_seconds is not None:
        chosen.append((resource.RLIMIT_CPU, limits.cpu_seconds))
    if limits.open_files is not None:
        chosen.append((resource.RLIMIT_NOFILE, limits.open_files))
    if limits.max_processes is not None:
        # The kernel counts all that the user runs.
        chosen.append((resource.RLIMIT_NPROC, _threads_of(uid) + limits.max_processes))
    return chosen


def _lower(kind: int, value: int, spare: int) -> None:
    """Set a limit, to be raised by nobody, as far as it is below the one that there is."""
    _, most = resource.getrlimit(kind)
    if most != resource.RLIM_INFINITY:
        value, spare = min(value, most), min(spare, max(most - value, 0))
    resource.setrlimit(kind, (value, value + spare))


def _threads_of(uid: int) -> int:
    total = 0
    for pid in all_pids():
        with contextlib.suppress(OSError):
            if (PROC / str(pid)).stat().st_uid == uid:
                total += len(list((PROC / str(pid) / "task").iterdir()))
    return total


def _cores(count: int | None) -> set[int] | None:
    """The cores to run on: the last ones, for the first are where everybody else begins."""
    if count is None:
        return None
    allowed = sorted(os.sched_getaffinity(0))
    return set(allowed[-count:]) if 0 < count < len(allowed) else None


def _offer_to_oom_killer() -> None:
    """Where memory runs out this is what goes, and not the supervisor or the agent."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))


def _set_io_priority(how: str) -> None:
    number = _IOPRIO_SET.get(platform.machine())
    if how in _IOPRIO and number is not None:
        _libc.syscall(number, 1, 0, _IOPRIO[how])
