"""Attempts at real jobs, under real supervisors, that a test starts, looks at, and never leaves behind."""

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

from agent.jobs.attempt import Attempt
from agent.jobs.cgroup import Cgroup
from agent.jobs.clock import boottime
from agent.jobs.files import Ended, holder
from agent.jobs.launch import Launch
from agent.jobs.processes import is_alive, tagged
from agent.jobs.runner import Wrap
from tests.end_to_end.processes import wait_for

PYTHON = "/usr/bin/python3"
"""An interpreter that every user of the machine may run."""


def no_sandbox(launch: Launch, _: Path) -> list[str]:
    """The command as it is."""
    return launch.argv


class Stage:
    """Starts attempts in one directory.

    Args:
        root: Where their files are.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        # Tests run side by side on one machine, and what has the mark of a job is ended with it.
        self.job_id = f"job-{root.parent.name}-{os.getpid()}"[-64:]
        self.attempts: list[Attempt] = []

    def start(self, script: str, *, lease: float = 300.0, **launch: Any) -> Attempt:
        """Run a Python script as a job."""
        return self.run(self.launch([PYTHON, "-c", script], **launch), lease=lease)

    def launch(self, argv: list[str], **launch: Any) -> Launch:
        """The first attempt at this stage's job."""
        return Launch(job_id=self.job_id, attempt=1, workload="test", argv=argv, **launch)

    def run(self, launch: Launch, *, lease: float = 300.0, wrap: Wrap = no_sandbox) -> Attempt:
        """Run a launch."""
        attempt = Attempt.claim(self.root, launch)
        self.attempts.append(attempt)
        attempt.begin(lease, None, boottime(), wrap)
        return attempt

    def again(self, directory: Path) -> Attempt:
        """Find an attempt as an agent does that was just started."""
        found = Attempt(directory)
        self.attempts.append(found)
        return found

    def close(self) -> None:
        """End whatever still runs."""
        for attempt in self.attempts:
            attempt.look()
            if attempt.is_started and (attempt.ended is None or attempt.is_supervised):
                attempt.take_over(Ended(status="failed", reason="test_over"))
            for pid in tagged(attempt.tag):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def ended(attempt: Attempt) -> Ended:
    """Wait until an attempt has ended by itself; its supervisor is gone then."""

    def look() -> Ended | None:
        attempt.look()
        return attempt.ended

    found = wait_for(look, "the end of the job")
    wait_for(lambda: not attempt.is_supervised, "the end of its supervisor")
    assert Cgroup.find(attempt.tag) is None
    return found


def said(attempt: Attempt, text: str) -> str:
    """Wait until a job has printed something; gives all that it printed."""

    def look() -> str | None:
        with contextlib.suppress(FileNotFoundError):
            output = attempt.files.stream("stdout").read_text(errors="replace")
            return output if text in output else None
        return None

    return wait_for(look, f"{text!r} on stdout")


def supervisor_of(attempt: Attempt) -> int:
    """The id of its supervisor."""
    pid = holder(attempt.files.lock)
    assert pid
    return pid


def nothing_left(attempt: Attempt) -> bool:
    """Whether no process of the attempt runs."""
    return not any(map(is_alive, attempt.processes())) and not list(tagged(attempt.tag))


def is_running(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def messages(attempt: Attempt) -> list[tuple[str, Any]]:
    """All that an ended attempt has to say to the hub, acknowledged as it goes."""
    found = []
    while (item := attempt.reporter.next_item(time.monotonic(), attempt.ended)) is not None:
        seq = attempt.outbox.add(item)
        found.append(attempt.reporter.message(seq, item, attempt.ended))
        attempt.outbox.acknowledge(seq)
    return found
