"""What a job uses, held against what it may: time, memory, processes, silence."""

import contextlib
from typing import Final

from agent.jobs.files import Files
from agent.jobs.launch import Limits
from agent.jobs.processes import Pack, Process, rough_bytes, shared_out_bytes
from agent.jobs.progress import Report
from qubix_tui.protocol.reasons import JobReason, with_detail

LOOK_SECONDS: Final = 1.0
"""How often the job's processes are looked at."""


class Usage:
    """Watches one job.

    Args:
        limits: What it may use.
        no_progress_seconds: How long it may report nothing new; None for any time.
        pack: Its processes.
        files: Where they are noted, for whoever has to end them if the supervisor is lost.
        started: When it was started. All times are readings of `agent.jobs.clock.boottime`.
    """

    def __init__(
        self, limits: Limits, no_progress_seconds: float | None, pack: Pack, files: Files, started: float
    ) -> None:
        self._limits = limits
        self._no_progress_seconds = no_progress_seconds
        self._pack = pack
        self._files = files
        self._started = started
        self._news_at = started
        self._report = Report()
        self._look_at = started
        self._noted: set[Process] = set()

    def check(self, now: float, report: Report) -> str | None:
        """Look, and give the reason why the job has to end; None while it has not to."""
        if report != self._report:
            self._report, self._news_at = report, now
        wall, silence = self._limits.wall_seconds, self._no_progress_seconds
        if wall is not None and now - self._started >= wall:
            return JobReason.TIMEOUT.value
        if silence is not None and now - self._news_at >= silence:
            return JobReason.NO_PROGRESS.value
        if now < self._look_at:
            return None
        self._look_at = now + LOOK_SECONDS
        return self._check_processes()

    def _check_processes(self) -> str | None:
        running = self._pack.look()
        if self._pack.known != self._noted:
            with contextlib.suppress(OSError):
                self._files.write_seen(self._pack.known)
                self._noted = set(self._pack.known)
        most = self._limits.max_processes
        if most is not None and sum(seen.threads for seen in running) > most:
            return with_detail(JobReason.LIMIT, "processes")
        memory = self._limits.memory_bytes
        if memory is not None and rough_bytes(running) > memory and shared_out_bytes(running) > memory:
            return with_detail(JobReason.LIMIT, "memory")
        return None
