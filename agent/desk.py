"""Where the owner of a running agent is served: commands are carried out, and how it does is told."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agent.availability import Availability
from agent.control import Command, Reply
from agent.link import Link
from agent.sampler import Sample
from agent.state import StateError
from agent.status import GpuStatus, HubStatus, JobStatus, SampleStatus, Status
from qubix_tui import __version__
from qubix_tui.client import ClientError
from qubix_tui.protocol.requests import SetStatus
from qubix_tui.protocol.types import to_timestamp

HUB_SECONDS: Final = 2.0
"""How long a command waits for the hub to hear of it; it counts either way."""


@dataclass(slots=True)
class Facts:
    """What a running agent knows of itself. The service keeps it up to date."""

    worker_id: str
    link: Link
    started_at: float
    """Seconds since the epoch, as `registered_at`."""
    newest: Sample | None = None
    newest_at: float = 0.0
    """When it was taken, by `time.monotonic`."""
    sent_before: int = 0
    """Samples sent over links before this one."""
    provider_id: str | None = None
    registered_at: float = 0.0


class Desk:
    """Serves the owner.

    Args:
        facts: What there is to tell.
        availability: What the owner wishes.
        jobs: Gives the jobs that are held here.
    """

    def __init__(self, facts: Facts, availability: Availability, jobs: Callable[[], list[JobStatus]]) -> None:
        self._facts = facts
        self._jobs = jobs
        self._availability = availability

    async def answer(self, command: Command) -> Reply:
        """Carry out a command, and say how the agent is after that."""
        warning = None
        if command.do != "status":
            paused, draining = command.do == "pause", command.do == "drain"
            reason = command.reason if paused or draining else None
            try:
                self._availability.set(SetStatus(paused=paused, draining=draining, reason=reason))
            except StateError as error:
                warning = f"it counts until the agent ends, but not after that: {error}"
            await self.tell_hub()
        return Reply(status=self.status(), warning=warning)

    async def tell_hub(self) -> None:
        """Have the hub hear of the wish, where it can be reached and has not."""
        if self._facts.link.is_open and not self._availability.hub_knows:
            with contextlib.suppress(ClientError, TimeoutError):
                async with asyncio.timeout(HUB_SECONDS):
                    await self._facts.link.tell()

    def status(self) -> Status:
        """Tell how the agent is now."""
        facts, newest = self._facts, self._facts.newest
        age = None if newest is None else round(time.monotonic() - facts.newest_at, 2)
        return Status(
            version=__version__,
            pid=os.getpid(),
            started_at=to_timestamp(facts.started_at),
            worker_id=facts.worker_id,
            hub=self._hub_status(),
            availability=self._availability.wish,
            hub_knows=self._availability.hub_knows,
            jobs=self._jobs(),
            samples=SampleStatus(
                taken=0 if newest is None else newest.metrics.seq or 0,
                sent=facts.sent_before + facts.link.sent,
                age_seconds=age,
            ),
            cost=None if newest is None else newest.metrics.agent,
            gpus=[
                GpuStatus(index=gpu.index, name=gpu.name, uuid=gpu.uuid, state=gpu.state)
                for gpu in (newest.metrics.gpus if newest is not None else [])
            ],
            gpu_note=None if newest is None else newest.metrics.gpu_note,
        )

    def _hub_status(self) -> HubStatus:
        link, facts = self._facts.link, self._facts
        is_registered = link.is_open and facts.provider_id is not None
        return HubStatus(
            url=link.target.url,
            state=str(link.state.value),
            provider_id=facts.provider_id,
            registered_at=to_timestamp(facts.registered_at) if is_registered else None,
            why_not=None if is_registered else link.last_error,
            next_attempt_seconds=link.next_attempt_seconds,
        )
