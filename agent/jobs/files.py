"""The directory of one attempt: what the agent asks of the supervisor, and what that one says of the job.

Each file has one writer. One that is read while it is written is replaced as a whole, or only appended to.
Who holds the lock on ``lock`` is the supervisor: the kernel lets go of it with that process, however it ends.
"""

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from agent.jobs.launch import Launch
from agent.jobs.output import Kept
from agent.jobs.processes import Process
from agent.jobs.progress import Report

LOOK: Final = signal.SIGURG
"""Tells a supervisor that its orders changed. One that comes before it listens does no harm."""


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """The wish that the job ends."""

    reason: str
    grace_seconds: float
    """Between SIGTERM and SIGKILL."""


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent asks of the supervisor; each renewal replaces it. Times are readings of `boottime`."""

    lease_seconds: float
    lease_end: float
    margin: float
    """Seconds before the end of the lease by which all of the job is gone."""
    lease_grace: float
    """Seconds between SIGTERM and SIGKILL where the lease is what ends the job."""
    stop: Stop | None = None

    @property
    def kill_at(self) -> float:
        """When all of the job is ended, for the lease is about to be over."""
        return self.lease_end - self.margin


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What the supervisor is to run. It never changes."""

    launch: Launch
    work: str
    """The job's working directory."""
    boot_id: str
    """A plan is good for one boot of the machine."""


class Started(msgspec.Struct, frozen=True, kw_only=True, tag="started"):
    """The job's first process runs."""

    process: Process
    at: float
    """`agent.jobs.clock.boottime`."""
    cgroup: str | None = None
    """Directory of its control group, if it has one."""


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag="ended"):
    """Nothing of the job runs any more (``unkillable`` apart). The first such record counts."""

    status: Literal["completed", "failed", "cancelled"]
    reason: str | None = None
    result: Any = None
    stdout: Kept = Kept()
    stderr: Kept = Kept()


Record = Started | Ended

_encoder = msgspec.json.Encoder()
_record_decoder = msgspec.json.Decoder(Record)
_LOCK_BYTES: Final = 32


class Files:
    """The files of one attempt.

    Args:
        directory: Where they are.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "supervisor.log"
        self.lock = directory / "lock"
        self._plan = directory / "plan.json"
        self._orders = directory / "orders.json"
        self._journal = directory / "journal"
        self._progress = directory / "progress.json"
        self._seen = directory / "processes.json"

    def stream(self, name: str) -> Path:
        """The file with the beginning of ``stdout`` or ``stderr``."""
        return self.directory / name

    def tail(self, name: str) -> Path:
        """The file with the end of a stream that was too long."""
        return self.directory / f"{name}.tail"

    def write_plan(self, plan: Plan) -> None:
        """Say what to run."""
        replace(self._plan, _encoder.encode(plan))

    def read_plan(self) -> Plan:
        """Give what to run.

        Raises:
            OSError: There is no plan.
            msgspec.MsgspecError: It can't be read.
        """
        return msgspec.json.decode(self._plan.read_bytes(), type=Plan)

    def has_plan(self) -> bool:
        """Whether it was said what to run."""
        return self._plan.exists()

    def write_orders(self, orders: Orders) -> None:
        """Say until when, and whether to stop."""
        replace(self._orders, _encoder.encode(orders))

    def read_orders(self) -> Orders:
        """Give the newest orders.

        Raises:
            OSError: There are none.
            msgspec.MsgspecError: They can't be read.
        """
        return msgspec.json.decode(self._orders.read_bytes(), type=Orders)

    def append(self, record: Record, *, durable: bool = False) -> None:
        """Add a record to the journal; ``durable`` waits for the disk.

        Raises:
            OSError: It can't be written.
        """
        descriptor = os.open(self._journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            # What was cut short before this stays a line of its own.
            os.write(descriptor, b"\n" + _encoder.encode(record) + b"\n")
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def journal(self) -> tuple[Started | None, Ended | None]:
        """Give what the journal says so far."""
        started: Started | None = None
        ended: Ended | None = None
        try:
            lines = self._journal.read_bytes().splitlines()
        except FileNotFoundError:
            lines = []
        for line in lines:
            with contextlib.suppress(msgspec.MsgspecError):
                record = _record_decoder.decode(line)
                if isinstance(record, Started):
                    started = record
                elif ended is None:
                    ended = record
        return started, ended

    def write_progress(self, report: Report) -> None:
        """Say how far the job is."""
        replace(self._progress, _encoder.encode(report))

    def read_progress(self) -> Report:
        """Give how far the job is, as far as that is known."""
        report: Report = _read(self._progress, Report, Report())
        return report

    def write_seen(self, processes: set[Process]) -> None:
        """Note which processes the job has, for who has to end them if the supervisor is lost."""
        replace(self._seen, _encoder.encode(sorted(processes)))

    def read_seen(self) -> list[Process]:
        """Give the processes that were noted last."""
        seen: list[Process] = _read(self._seen, list[Process], [])
        return seen


def _read(path: Path, form: Any, otherwise: Any) -> Any:  # noqa: ANN401 - whatever the form is
    try:
        return msgspec.json.decode(path.read_bytes(), type=form)
    except (OSError, msgspec.MsgspecError):
        return otherwise


def replace(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a file so that a reader finds the old content or the new, never a part; 0600.

    Raises:
        OSError: It can't be written; the old one is as it was.
    """
    fresh = path.with_name(f".{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    fresh.replace(path)


def holder(lock: Path) -> int | None:
    """Give the id of the process that holds a lock (0: not known), None where nobody does."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, _LOCK_BYTES, 0).decode("ascii", "replace").strip()
        # Its parent writes it, right after it has made it.
        return int(text) if text.isdecimal() else 0
    finally:
        os.close(descriptor)
    return None


@contextlib.contextmanager
def locked_for_child(lock: Path) -> Iterator[int]:
    """Give a descriptor that holds a lock, for a process started in the block to inherit and keep.

    Whoever starts it writes its id there.

    Raises:
        BlockingIOError: Somebody holds it.
        OSError: It can't be made.
    """
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        yield descriptor
    finally:
        os.close(descriptor)
