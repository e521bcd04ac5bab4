"""Renews the leases of all that runs, every third of the shortest."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from agent.jobs.attempt import Attempt
from agent.jobs.clock import boottime
from qubix_tui.client import ClientError, Connection, ConnectionState
from qubix_tui.protocol.events import Renewed
from qubix_tui.protocol.requests import JobAttempt, RenewLeases

RENEW: Final = "job:renew"

SHARE: Final = 3
"""A lease is renewed when one part in so many of it is over: two renewals may be lost."""

ANSWER_SECONDS: Final = 10.0
AGAIN_SECONDS: Final = 1.0


class Leases:
    """Keeps the leases of the attempts that this agent holds.

    Args:
        attempts: Those attempts, by tag.
        stop: Called with an attempt that the hub no longer wants to go on.
        complain: Called with a sentence where a renewal can't be written down.
    """

    def __init__(
        self,
        attempts: Mapping[str, Attempt],
        *,
        stop: Callable[[Attempt], None],
        complain: Callable[[str], None],
    ) -> None:
        self._attempts = attempts
        self._stop = stop
        self._complain = complain
        self._due_at = 0.0
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Renew as soon as that can be done: a connection was opened, or something started."""
        self._due_at = 0.0

    async def close(self) -> None:
        """Renew no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def tend(self, connection: Connection) -> None:
        """Renew, if it is time."""
        held = [attempt for attempt in self._attempts.values() if attempt.lease_seconds is not None]
        is_open = connection.state is ConnectionState.OPEN
        if not held or not is_open or boottime() < self._due_at or (self._task and not self._task.done()):
            return
        shortest = min(attempt.lease_seconds or ANSWER_SECONDS for attempt in held)
        self._task = asyncio.get_running_loop().create_task(self._renew(connection, held, shortest / SHARE))

    async def _renew(self, connection: Connection, held: list[Attempt], every: float) -> None:
        sent_at = boottime()
        jobs = [JobAttempt(job_id=attempt.job_id, attempt=attempt.number) for attempt in held]
        try:
            reply = await connection.request(RENEW, RenewLeases(jobs=jobs), min(ANSWER_SECONDS, every))
        except ClientError:
            self._due_at = boottime() + min(AGAIN_SECONDS, every)
            return
        self._due_at = sent_at + every
        renewed: Renewed = reply.data
        for job in renewed.jobs:
            attempt = self._attempts.get(f"{job.job_id}.{job.attempt}")
            if attempt is not None:
                self._note(attempt, sent_at)
        for job in renewed.stop:
            attempt = self._attempts.get(f"{job.job_id}.{job.attempt}")
            if attempt is not None:
                self._stop(attempt)

    def _note(self, attempt: Attempt, sent_at: float) -> None:
        try:
            attempt.renew(sent_at)
        except OSError as error:
            self._complain(f"can't renew the lease of {attempt.tag}: {error.strerror}")
