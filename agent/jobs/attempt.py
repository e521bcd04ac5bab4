"""One attempt that this agent holds: its claim, its lease, its supervisor, what it has to say."""

import contextlib
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from agent.jobs import runner
from agent.jobs.cgroup import Cgroup
from agent.jobs.child import StartFailed
from agent.jobs.clock import boot_id, boottime
from agent.jobs.container import SandboxError
from agent.jobs.files import LOOK, Ended, Files, Orders, Stop, holder, replace
from agent.jobs.launch import Launch
from agent.jobs.outbox import Outbox
from agent.jobs.processes import Process
from agent.jobs.remains import end_supervisor, sweep
from agent.jobs.reporter import Reporter
from agent.jobs.runner import Wrap
from agent.jobs.supervisor import UNKILLABLE_SECONDS
from agent.jobs.workdir import remove
from qubix_tui.protocol.reasons import JobReason, with_detail

CLAIM: Final = "claim.json"

ANSWER_SECONDS: Final = 5.0
"""What a supervisor gets beyond all that it waits for, before it is taken for one that does not work."""

GPU_SECONDS: Final = 15.0
"""How long after its end a job may be said to hold a GPU: who holds one is read every few seconds."""

LONGEST_MARGIN_SECONDS: Final = 30.0
MARGIN_SHARE: Final = 10
GRACE_SHARE: Final = 6
"""Of a lease: one part in so many is the most that goes to the margin, and to a graceful end before it."""

UNKNOWN_BOOT: Final = "unknown"

SUPERVISOR_LOST: Final = with_detail(JobReason.AGENT_RESTARTED, "its supervisor was killed, or hung")

State = Literal["assigned", "running", "ended"]


class Attempt:
    """One attempt at one job.

    Args:
        directory: Its files, with a claim.

    Attributes:
        ended: How it ended, None while that is not so.
        is_unwanted: Whether the hub wants to hear nothing of it.

    Raises:
        OSError: The files can't be read or written.
        msgspec.MsgspecError: The claim can't be read.
    """

    def __init__(self, directory: Path) -> None:
        self.files = Files(directory)
        self.launch = msgspec.json.decode((directory / CLAIM).read_bytes(), type=Launch)
        self.outbox = Outbox(directory / "outbox", boot_id())
        self.reporter = Reporter(self.job_id, self.number, self.files, self.outbox)
        self.is_unwanted = False
        self.ended: Ended | None = None
        self.is_started = False
        self._orders: Orders | None = None
        self._stop_at: float | None = None
        self._gone_at: float | None = None
        self._boot_id: str | None = None
        self._child: int | None = None
        self._restore()

    @classmethod
    def claim(cls, root: Path, launch: Launch) -> "Attempt":
        """Write down that this agent takes an attempt, before the hub is told so.

        Raises:
            OSError: It can't be written.
        """
        directory = root / launch.tag
        directory.mkdir(mode=0o700, parents=True)
        replace(directory / CLAIM, msgspec.json.encode(launch), durable=True)
        return cls(directory)

    def _restore(self) -> None:
        """Take up where an agent before this one was."""
        _, ended = self.files.journal()
        self.is_started = ended is not None or self.files.has_plan()
        if not self.is_started or ended is not None:
            return
        try:
            self._orders = self.files.read_orders()
            self._boot_id = self.files.read_plan().boot_id
        except msgspec.MsgspecError:
            # The machine lost power before they were on the disk.
            self._boot_id = UNKNOWN_BOOT

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self.launch.job_id

    @property
    def number(self) -> int:
        """Which attempt at the job it is."""
        return self.launch.attempt

    @property
    def state(self) -> State:
        """Where it is: accepted, under way, or ended and not yet acknowledged."""
        if self.ended is not None:
            return "ended"
        return "running" if self.is_started else "assigned"

    @property
    def tag(self) -> str:
        """What tells it from all others, and marks its processes."""
        return self.launch.tag

    @property
    def is_supervised(self) -> bool:
        """Whether its supervisor is there."""
        return holder(self.files.lock) is not None

    @property
    def is_told(self) -> bool:
        """Whether it has ended, and the hub has all that it wants to know of it."""
        told = self.outbox.completed and not self.outbox.unacknowledged
        return self.ended is not None and (told or self.is_unwanted)

    @property
    def lease_seconds(self) -> float | None:
        """How long a renewal is good for; None before the hub said so."""
        return None if self._orders is None else self._orders.lease_seconds

    def begin(
        self, lease_seconds: float, margin_seconds: float | None, accepted_at: float, wrap: Wrap
    ) -> None:
        """Start the job. Where that fails it has ended, and says why.

        Args:
            lease_seconds: How long it may run without a renewal.
            margin_seconds: How long before the end of its lease it is gone; None for the usual.
            accepted_at: When the ``job:accept`` was sent that was answered, on `agent.jobs.clock.boottime`.
            wrap: Puts it into its sandbox.

        Raises:
            OSError: Nothing can be written.
        """
        usual = min(LONGEST_MARGIN_SECONDS, lease_seconds / MARGIN_SHARE)
        self._orders = Orders(
            lease_seconds=lease_seconds,
            lease_end=accepted_at + lease_seconds,
            margin=usual if margin_seconds is None else min(margin_seconds, lease_seconds / 2),
            lease_grace=min(self.launch.grace_seconds, lease_seconds / GRACE_SHARE),
        )
        self.is_started = True
        try:
            runner.prepare(self.files, self.launch, self._orders, wrap)
            self._child = runner.spawn(self.files)
        except (StartFailed, SandboxError, OSError) as error:
            ended = Ended(status="failed", reason=with_detail(JobReason.NOT_STARTED, str(error)))
            self.files.append(ended, durable=True)
            self.ended = ended

    def renew(self, sent_at: float) -> None:
        """Let the lease count from when an answered renewal was sent.

        Raises:
            OSError: That can't be written: the job ends with the lease that it has.
        """
        if self._orders is not None:
            lease_end = max(self._orders.lease_end, sent_at + self._orders.lease_seconds)
            self._order(msgspec.structs.replace(self._orders, lease_end=lease_end))

    def stop(self, reason: str, grace_seconds: float) -> None:
        """Have the job ended, after so many seconds by force. It is over once `ended` says so.

        Raises:
            OSError: That can't be written.
        """
        if self._orders is None or self._orders.stop is not None or self.ended is not None:
            return
        stop = Stop(reason=reason, grace_seconds=grace_seconds)
        self._order(msgspec.structs.replace(self._orders, stop=stop))

    def _order(self, orders: Orders) -> None:
        self.files.write_orders(orders)
        if orders.stop is not None and self._stop_at is None:
            self._stop_at = boottime()
        self._orders = orders
        pid = holder(self.files.lock)
        if pid:
            with contextlib.suppress(OSError):
                os.kill(pid, LOOK)

    def look(self, on_gpus: Collection[int] = ()) -> None:
        """See whether it has ended.

        Args:
            on_gpus: Ids of the processes that hold a GPU: one that was ended is gone when the driver says so.
        """
        if self._child is not None:
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(self._child, os.WNOHANG)[0]:
                    self._child = None
        if self.is_started and self.ended is None:
            _, ended = self.files.journal()
            self.ended = ended if ended is None else self._off_gpus(ended, on_gpus)

    def _off_gpus(self, ended: Ended, on_gpus: Collection[int]) -> Ended | None:
        """Give how it ended once the GPUs are free of it; None while they may become so."""
        pids = {process.pid for process in self.processes()}
        if not self.launch.gpus or not pids.intersection(on_gpus):
            return ended
        now = boottime()
        self._gone_at = now if self._gone_at is None else self._gone_at
        if now < self._gone_at + GPU_SECONDS:
            return None
        reason = with_detail(JobReason.UNKILLABLE, "it still holds a GPU")
        return msgspec.structs.replace(ended, status="failed", reason=reason)

    def processes(self) -> list[Process]:
        """The processes that it was seen to have, some of which may be gone."""
        started, _ = self.files.journal()
        return self.files.read_seen() + ([] if started is None else [started.process])

    def verdict(self, now: float) -> Ended | None:
        """Say how it ends if its supervisor can't be left to end it; None while it can."""
        if self.ended is not None:
            return None
        if self._is_of_another_boot:
            return Ended(status="failed", reason=JobReason.AGENT_RESTARTED.value)
        orders = self._orders
        if orders is None:
            return None
        if not self.is_supervised:
            # It may have ended the job, and itself, between two looks.
            _, ended = self.files.journal()
            return self._abandoned(orders, SUPERVISOR_LOST) if ended is None else None
        if now >= orders.lease_end - orders.margin / 2:
            return self._abandoned(orders, JobReason.LEASE_EXPIRED.value)
        if orders.stop is not None:
            self._stop_at = now if self._stop_at is None else self._stop_at
            if now >= self._stop_at + orders.stop.grace_seconds + UNKILLABLE_SECONDS + ANSWER_SECONDS:
                return self._abandoned(orders, SUPERVISOR_LOST)
        return None

    @property
    def _is_of_another_boot(self) -> bool:
        return self._boot_id is not None and self._boot_id != boot_id()

    def _abandoned(self, orders: Orders, reason: str) -> Ended:
        if orders.stop is not None:
            return Ended(status="cancelled", reason=orders.stop.reason)
        return Ended(status="failed", reason=reason)

    def take_over(self, verdict: Ended) -> Ended:
        """End supervisor and job by force. Blocks until that is done, a minute at most; call it in a thread.

        Raises:
            OSError: The end can't be written.
        """
        if self._is_of_another_boot:
            return sweep(self.files, verdict, rebooted=True)
        end_supervisor(self.files)
        return sweep(self.files, verdict)

    def discard(self) -> None:
        """Remove all of it: the hub knows how it ended, or it never began. Takes a moment."""
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            remove(Path(self.files.read_plan().work))
        cgroup = Cgroup.find(self.tag)
        if cgroup is not None:
            cgroup.remove()
        shutil.rmtree(self.files.directory, ignore_errors=True)


def load_all(root: Path) -> Iterator[Attempt]:
    """Give the attempts that an agent before this one left behind. What never became one is taken away.

    Raises:
        OSError: One can't be read.
    """
    if not root.exists():
        return
    for directory in sorted(root.iterdir()):
        try:
            yield Attempt(directory)
        except (FileNotFoundError, NotADirectoryError, msgspec.MsgspecError):
            shutil.rmtree(directory, ignore_errors=True)
