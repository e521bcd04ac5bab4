"""The machine itself: where the agent keeps its state, what it may use, and whether jobs can be shut in."""

import os
import resource
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

from agent.doctor.finding import Finding, State
from agent.jobs.selftest import check_sandbox
from agent.sensors.cgroup import Limits, read_limits
from agent.sensors.host import effective
from agent.state import running_agent

MIB: Final = 1024 * 1024

DISK_NEEDED_MB: Final = 64
"""For the state of the agent alone."""
DISK_WANTED_MB: Final = 1024
"""For the working directories and the output of jobs."""

MEMORY_NEEDED_MB: Final = 128
CORES_NEEDED: Final = 0.1

FILES_NEEDED: Final = 64
FILES_WANTED: Final = 1024


def look_at_host(home: Path, job_user: str | None) -> Iterator[Finding]:
    """Look at all of it.

    Args:
        home: QUBIX_HOME.
        job_user: Whom jobs run as; None for this process's own user.
    """
    state = home / "agent"
    yield _state_directory(state)
    yield from _disk(home, state)
    yield _agent(state)
    yield _limits(effective(read_limits(), psutil.virtual_memory().total))
    yield _files()
    yield _sandbox(job_user)


def _state_directory(path: Path) -> Finding:
    name, needed = "state directory", "a directory that this user alone may enter and write"
    is_made = path.exists()
    if not is_made:
        # The agent will make it, private.
        path = path.parent
    try:
        found = path.stat()
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"qubix")
    except OSError as error:
        return Finding(
            name,
            State.FAIL,
            f"{path}: {error.strerror}",
            needed,
            "run as the user that it belongs to, or set QUBIX_HOME to a place that this user may write",
        )
    if found.st_uid != os.geteuid():
        return Finding(
            name,
            State.FAIL,
            f"{path} belongs to user {found.st_uid}, and this is user {os.geteuid()}",
            needed,
            f"run as that user: runuser -u '#{found.st_uid}' -- qubix-agent doctor",
        )
    if is_made and (mode := stat.S_IMODE(found.st_mode) & 0o077):
        return Finding(
            name, State.FAIL, f"others may use {path} (mode {mode:03o})", needed, f"chmod 0700 {path}"
        )
    return Finding(name, State.OK, f"{path}, private and writable", needed)


def _disk(home: Path, state: Path) -> Iterator[Finding]:
    seen: set[int] = set()
    for path in (state if state.exists() else home, home):
        try:
            device = path.stat().st_dev
            if device in seen:
                continue
            seen.add(device)
            yield _space(path)
        except OSError as error:
            yield Finding("disk", State.FAIL, f"{path}: {error.strerror}")


def _space(path: Path) -> Finding:
    free = shutil.disk_usage(path).free // MIB
    inodes = os.statvfs(path)
    needed = f"{DISK_WANTED_MB} MiB free ({DISK_NEEDED_MB} at the very least)"
    if inodes.f_files and not inodes.f_favail:
        return Finding(
            "disk", State.FAIL, f"no more files can be made at {path}", "free inodes", "remove files"
        )
    shown = f"{free} MiB free at {path}"
    if free >= DISK_WANTED_MB:
        return Finding("disk", State.OK, shown, needed)
    state = State.FAIL if free < DISK_NEEDED_MB else State.WARN
    return Finding("disk", state, shown, needed, "make room, or set QUBIX_HOME to another disk")


def _agent(state: Path) -> Finding:
    who = running_agent(state)
    return Finding("agent", State.OK, f"{who} runs here" if who else "none runs here at the moment")


def _limits(limits: Limits) -> Finding:
    parts = []
    cores, memory = limits.cpu, limits.memory
    if cores is not None:
        parts.append(f"{cores.cores:g} cores")
    if memory is not None:
        parts.append(f"{memory.total // MIB} MiB of memory")
    needed = f"{CORES_NEEDED:g} cores and {MEMORY_NEEDED_MB} MiB for the agent; the rest is for jobs"
    if not parts:
        return Finding("limits (cgroup)", State.OK, "none; all of the machine may be used", needed)
    short = (cores is not None and cores.cores < CORES_NEEDED) or (
        memory is not None and memory.total < MEMORY_NEEDED_MB * MIB
    )
    shown = f"{' and '.join(parts)} may be used"
    if short:
        return Finding(
            "limits (cgroup)",
            State.FAIL,
            shown,
            needed,
            "raise CPUQuota, MemoryMax, or the container's limits",
        )
    return Finding("limits (cgroup)", State.OK, shown, needed)


def _files() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = f"{FILES_WANTED} ({FILES_NEEDED} at the very least)"
    if soft == resource.RLIM_INFINITY or soft >= FILES_WANTED:
        amount = "any number" if soft == resource.RLIM_INFINITY else str(soft)
        return Finding("open files", State.OK, f"{amount} may be open", needed)
    state = State.FAIL if soft < FILES_NEEDED else State.WARN
    return Finding(
        "open files", state, f"{soft} may be open", needed, "raise ulimit -n (LimitNOFILE= in a unit)"
    )


def _sandbox(user: str | None) -> Finding:
    needed = "bubblewrap that shuts a program in; what is to run in it is not offered otherwise"
    problem = check_sandbox("bubblewrap", user=user)
    if problem is not None:
        return Finding("sandbox", State.WARN, problem, needed)
    return Finding("sandbox", State.OK, f"bubblewrap shuts a program in, as {user or 'this user'}", needed)
