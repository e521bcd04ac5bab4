"""Which processes belong to an attempt, and how all of them are ended.

A process can leave its group and its session, change its environment, or be handed to another parent; not
all of that at once without a trace that one of the ways here finds: the tree below a parent (a child
subreaper keeps it whole), the ``QUBIX_ATTEMPT`` that it was started with, its session, its control group,
and what was seen of it before. Linux alone has what this needs.
"""

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from agent.jobs.cgroup import Cgroup

PROC: Final = Path("/proc")
PAGE: Final = os.sysconf("SC_PAGE_SIZE")
VARIABLE: Final = "QUBIX_ATTEMPT"


class Process(NamedTuple):
    """One process of this boot: the time of its start tells it from another that got its id later."""

    pid: int
    started: int
    """Clock ticks since boot."""


class Stat(NamedTuple):
    """What the kernel says of a process."""

    process: Process
    name: str
    state: str
    """``Z`` and ``X`` are dead."""
    session: int
    threads: int

    @property
    def is_dead(self) -> bool:
        """Whether nothing of it runs any more."""
        return self.state in {"Z", "X"}


def stat(pid: int) -> Stat | None:
    """Look at one process, None where there is none."""
    try:
        raw = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    head, _, tail = raw.rpartition(")")
    fields = tail.split()
    return Stat(
        Process(pid, int(fields[19])), head.partition("(")[2], fields[0], int(fields[3]), int(fields[17])
    )


def is_alive(process: Process) -> bool:
    """Whether this very process runs."""
    seen = stat(process.pid)
    return seen is not None and seen.process == process and not seen.is_dead


def descendants(pid: int) -> list[int]:
    """The ids of everything below a process in the tree."""
    found: list[int] = []
    below = [pid]
    while below:
        parent = below.pop()
        try:
            tasks = list((PROC / str(parent) / "task").iterdir())
        except OSError:
            continue
        for task in tasks:
            with contextlib.suppress(OSError):
                children = [int(child) for child in (task / "children").read_text().split()]
                below += children
                found += children
    return found


def tagged(tag: str) -> Iterator[int]:
    """Find every process of this machine that was started with this ``QUBIX_ATTEMPT``."""
    mark = f"{VARIABLE}={tag}".encode()
    for pid in all_pids():
        try:
            environment = (PROC / str(pid) / "environ").read_bytes()
        except OSError:
            continue
        if mark in environment and mark in environment.split(b"\0"):
            yield pid


def all_pids() -> list[int]:
    """The ids of all processes there are."""
    with os.scandir(PROC) as entries:
        return [int(entry.name) for entry in entries if entry.name.isdecimal()]


class Pack:
    """All processes of one attempt.

    Args:
        tag: Its ``QUBIX_ATTEMPT``.
        root: The process that all of it descends from and that is none of it (the supervisor), if it lives.
        cgroup: Its control group, if it has one.
        known: What was seen of it before.
    """

    def __init__(
        self, tag: str, *, root: int | None, cgroup: Cgroup | None = None, known: Iterable[Process] = ()
    ) -> None:
        self._tag = tag
        self._root = root
        self._cgroup = cgroup
        self.known = set(known)
        self._sessions: set[int] = set()

    def look(self) -> list[Stat]:
        """Give those that run, by the cheap ways alone: the tree, the control group, and what is known."""
        pids = set(descendants(self._root)) if self._root is not None else set()
        if self._cgroup is not None:
            pids.update(self._cgroup.processes())
        return self._note(pids)

    def find(self) -> list[Stat]:
        """Give those that run, by every way there is: all processes of the machine are looked at."""
        self.look()
        pids = {process.pid for process in self.known}
        pids.update(tagged(self._tag))
        if self._sessions:
            for pid in all_pids():
                seen = stat(pid)
                if seen is not None and seen.session in self._sessions:
                    pids.add(pid)
        return self._note(pids)

    def _note(self, pids: set[int]) -> list[Stat]:
        pids.discard(os.getpid())
        if self._root is not None:
            pids.discard(self._root)
        before = {process.pid: process for process in self.known}
        found = []
        for pid in pids | before.keys():
            seen = stat(pid)
            # An id that was known and now belongs to a younger process says nothing about that one.
            if seen is None or seen.is_dead or (pid not in pids and seen.process != before[pid]):
                continue
            found.append(seen)
        self.known = {seen.process for seen in found}
        # Ours is a session that a process of ours began, for as long as one of ours is in it: the shell of
        # somebody who looks at a job is not, nor one that got the number after it.
        self._sessions = {
            seen.session
            for seen in found
            if seen.session == seen.process.pid or seen.session in self._sessions
        }
        return found

    def terminate(self) -> None:
        """Ask all of them to end. Of bubblewrap only what it holds is asked: it would not let that finish."""
        for seen in self.find():
            if seen.name != "bwrap":
                send(seen.process, signal.SIGTERM)
            # One that is stopped would not hear it.
            send(seen.process, signal.SIGCONT)

    def kill(self) -> list[Stat]:
        """End all of them at once, as far as the kernel can; give those that still run."""
        if self._cgroup is not None:
            self._cgroup.kill()
        for seen in self.find():
            send(seen.process, signal.SIGKILL)
        return self.find()


def send(process: Process, number: signal.Signals) -> None:
    """Send a signal to this very process; nothing happens where it is gone."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return
    try:
        # Looked at once its descriptor holds it: the id can't come to mean another one between the two.
        if is_alive(process):
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(descriptor, number)
    finally:
        os.close(descriptor)


def rough_bytes(stats: Iterable[Stat]) -> int:
    """Resident memory of these processes; what several share is counted for each. Cheap, an upper bound."""
    total = 0
    for seen in stats:
        with contextlib.suppress(OSError):
            total += int((PROC / str(seen.process.pid) / "statm").read_text().split()[1]) * PAGE
    return total


def shared_out_bytes(stats: Iterable[Stat]) -> int:
    """Resident memory of these processes; what several share is divided among them. Slow where it is much."""
    total = 0
    for seen in stats:
        with contextlib.suppress(OSError):
            rollup = (PROC / str(seen.process.pid) / "smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) * 1024 for line in rollup if line.startswith("Pss:"))
    return total
