"""What is left of a job whose supervisor is gone, or no good any more: found, ended, and written down."""

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Final

import msgspec

from agent.jobs import container
from agent.jobs.cgroup import Cgroup
from agent.jobs.files import Ended, Files, Started, holder
from agent.jobs.output import Kept
from agent.jobs.processes import Pack
from agent.jobs.workdir import remove
from qubix_tui.protocol.reasons import JobReason

SWEEP_SECONDS: Final = 0.05
GONE_SECONDS: Final = 30.0
"""How long after SIGKILL something may still be there."""


def end_supervisor(files: Files, patience: float = GONE_SECONDS) -> bool:
    """End an attempt's supervisor, one that is stopped too; False if it is still there."""
    deadline = time.monotonic() + patience
    while (pid := holder(files.lock)) is not None:
        if pid:
            _kill_holder(files, pid)
        if time.monotonic() >= deadline:
            return False
        time.sleep(SWEEP_SECONDS)
    return True


def _kill_holder(files: Files, pid: int) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.pidfd_open(pid)
        try:
            # It still holds the lock, so this is the one that was meant, whoever may get its id later.
            if holder(files.lock) == pid:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)


def sweep(files: Files, ended: Ended, *, rebooted: bool = False) -> Ended:
    """End all that is left of an attempt that nobody supervises, and write down how it ended.

    It takes as long as that takes, half a minute at most.

    Args:
        files: The attempt's directory.
        ended: What to write down, if nothing was.
        rebooted: Whether the machine was started anew since, so that nothing can be left.

    Returns:
        How it ended: what its supervisor had still written, if it had.
    """
    started, written = files.journal()
    if written is not None:
        return written
    tag, work = _plan_of(files)
    if not rebooted and not _end_pack(files, tag, started):
        ended = Ended(status="failed", reason=JobReason.UNKILLABLE.value)
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        container.remove(files.read_plan().launch)
    ended = msgspec.structs.replace(ended, stdout=_kept(files, "stdout"), stderr=_kept(files, "stderr"))
    files.append(ended, durable=True)
    if work is not None:
        remove(work)
    return ended


def _end_pack(files: Files, tag: str, started: Started | None) -> bool:
    """End all processes of an attempt; False if that can't be done."""
    # A supervisor may have been killed before it could say which group it had made.
    told = None if started is None or started.cgroup is None else Cgroup(Path(started.cgroup))
    cgroup = told or Cgroup.find(tag)
    known = files.read_seen() + ([] if started is None else [started.process])
    pack = Pack(tag, root=None, cgroup=cgroup, known=known)
    deadline = time.monotonic() + GONE_SECONDS
    while pack.kill():
        if time.monotonic() >= deadline:
            return False
        time.sleep(SWEEP_SECONDS)
    if cgroup is not None:
        cgroup.remove()
    return True


def _plan_of(files: Files) -> tuple[str, Path | None]:
    try:
        plan = files.read_plan()
    except (OSError, msgspec.MsgspecError):
        # The directory is named like the attempt.
        return files.directory.name, None
    return plan.launch.tag, Path(plan.work)


def _kept(files: Files, stream: str) -> Kept:
    try:
        size = files.stream(stream).stat().st_size
    except OSError:
        size = 0
    return Kept(total=size, head=size)
