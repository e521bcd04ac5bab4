"""The deadlines of jobs: who did not accept in time, is out of reach, or has a lease that nobody renewed.

Every deadline counts from the latest of what it is about, the hub's start, the end of the hub's own last
stall, and the moment at which it took the job's provider over from another hub: a hub that was away has heard
nobody, and gives up no job for it.

Where hubs share a store, two attempts at a job never run at once, for one of these hubs watches over it, and
counts at least from the last renewal:

- The hub that has the provider's connection renews leases, and does so only while the store has acknowledged
  it within the time after which it counts as gone (`Cluster.may_renew`), however long it was frozen.
- Another hub watches only once the store says that the provider has come to it, or that the first one has let
  go of it or is gone. From then on the first one renews nothing, so a lease that begins anew there and then
  (`LiveJob.take_over`) ends after the agent's own. Only a job that is out of reach has no new lease: none of
  it is renewed before the store says that it runs again, and that the others hear.
- A hub that was cut off can't know who came and went: it counts from when it is back.
- What a hub decides from an old view of the job, or of its provider, is refused by the store.

All of that stands on there being one store: two that each take themselves for it have hubs that know nothing
of each other.
"""

import asyncio
import contextlib
import logging
from typing import Final

from qubix_tui.hub.clock import Clock
from qubix_tui.hub.engine.base import Change, Engine, EngineUnavailable
from qubix_tui.hub.engine.cluster import LEASE_SECONDS
from qubix_tui.hub.job_agents import JobAgents
from qubix_tui.hub.job_book import JobBook
from qubix_tui.hub.job_machine import Input
from qubix_tui.hub.job_state import CLOCK_KEY, CLOCK_TABLE, Decision, LiveJob
from qubix_tui.hub.providers import Providers
from qubix_tui.protocol import codec
from qubix_tui.protocol.job_records import JobState
from qubix_tui.protocol.reasons import JobReason

OVERTIME_SECONDS: Final = 45.0
"""How much longer than it may a job runs before the hub tells its agent to end it, which the agent does by
itself: its grace, and what it takes to be told."""

_BATCH: Final = 200

_logger = logging.getLogger("qubix.hub.jobs")


class JobWatch:
    """Watches over the jobs of one hub's providers.

    Args:
        book: The jobs.
        agents: Who is told to end one.
        providers: Who runs them.
        engine: Which hubs share it.
        clock: What deadlines are measured with.
    """

    def __init__(
        self, book: JobBook, agents: JobAgents, providers: Providers, engine: Engine, clock: Clock
    ) -> None:
        self._book = book
        self._agents = agents
        self._providers = providers
        self._engine = engine
        self._clock = clock
        self._counted_from = self._looked_at = clock.monotonic()
        self._noted_at = float("-inf")

    def stalled(self, seconds: float) -> None:
        """The hub itself was held up until now, for so long: no deadline was missed before now.

        No job outlasts its lease by what nobody renewed it in: that is not paid.
        """
        self._counted_from = self._clock.monotonic()
        settings = self._book.settings
        for live in self._book.held.values():
            live.leave_out(seconds - settings.lease_seconds - settings.margin_seconds)

    async def sweep(self) -> None:
        """Look at all deadlines.

        Raises:
            EngineUnavailable: The store did not take something; the next sweep tries again.
        """
        self._note_absence()
        watched = [live for live in self._book.held.values() if self._book.watch(live)]
        due = [(live, given) for live in watched if (given := self._due(live)) is not None]
        failure: EngineUnavailable | None = None
        for start in range(0, len(due), _BATCH):
            batch = due[start : start + _BATCH]
            results = await asyncio.gather(
                *(self._deal_with(live, given) for live, given in batch), return_exceptions=True
            )
            for (live, given), result in zip(batch, results, strict=True):
                if isinstance(result, EngineUnavailable):
                    failure = result
                elif isinstance(result, Exception):
                    # One that can't be dealt with is no reason to leave the others.
                    _logger.error("%s: %s could not be dealt with", live.id, given, exc_info=result)
        if failure is not None:
            raise failure

    async def note_time(self) -> None:
        """Note now and then, while jobs run, that a hub is there: without one, none outlasts its lease.

        Where the store does not take it, jobs are paid for less after a restart, and go on.
        """
        now = self._clock.monotonic()
        if self._book.held and now - self._noted_at >= self._book.settings.margin_seconds:
            self._noted_at = now
            row = codec.encode_record(self._clock.time())
            with contextlib.suppress(EngineUnavailable):
                await self._engine.commit((), [Change(CLOCK_TABLE, CLOCK_KEY, row, blind=True)], ())

    def _note_absence(self) -> None:
        """Count anew where, since the last look, other hubs may have come and gone unseen."""
        cluster, now = self._engine.cluster, self._clock.monotonic()
        looked_at, self._looked_at = self._looked_at, now
        if cluster.node is not None and (not cluster.may_renew or now - looked_at >= LEASE_SECONDS):
            self._counted_from = now

    def _due(self, live: LiveJob) -> Input | None:
        """Tell what the time, or the state of its provider, makes of a job; None for nothing."""
        settings = self._book.settings
        waited = self._waited(live)
        if live.state is JobState.ASSIGNED:
            return Input.ACCEPT_TIMEOUT if waited >= settings.accept_seconds else None
        if self._lease_left(live) <= 0:
            return Input.LEASE_OVER
        entry = self._providers.registry.get(live.stored.job.provider_id or "")
        there = live.held and entry is not None and entry.state.is_online
        if live.state is JobState.UNKNOWN:
            return Input.HEARD if there and entry is not None and entry.session_open else None
        if not there:
            return Input.OUT_OF_REACH
        most = live.stored.timeout_seconds
        if most is not None and live.running_ms() >= (most + OVERTIME_SECONDS) * 1000:
            return None if live.stored.stop_wanted else Input.OVERTIME
        return None

    def _waited(self, live: LiveJob) -> float:
        return self._clock.monotonic() - max(live.deadline_from, self._counted_from)

    def _lease_left(self, live: LiveJob) -> float:
        """Seconds until a job is given up, unless its lease is renewed."""
        settings = self._book.settings
        return settings.lease_seconds + settings.margin_seconds - self._waited(live)

    async def _deal_with(self, live: LiveJob, given: Input) -> None:
        job = live.stored.job

        def decide(live: LiveJob) -> Decision | None:
            if live.stored.job.attempt != job.attempt:
                return None
            if not self._book.watch(live) or self._due(live) is not given:
                return None
            rules = self._book.rules
            match given:
                case Input.HEARD:
                    return rules.heard(live)
                case Input.OUT_OF_REACH:
                    return rules.out_of_reach(live, self._heard(live), self._lease_left(live))
                case Input.OVERTIME:
                    return rules.overtime(live)
            return rules.end(live, given)

        decision = await self._book.change(job.id, decide)
        if decision is None:
            return
        _logger.info("%s: %s (attempt %d on %s)", job.id, given, job.attempt, job.provider_id)
        if given in {Input.ACCEPT_TIMEOUT, Input.LEASE_OVER, Input.OVERTIME}:
            reason = JobReason.TIMEOUT.value if given is Input.OVERTIME else decision.stored.job.reason
            self._agents.stop(job.provider_id, job.id, job.attempt, reason)

    def _heard(self, live: LiveJob) -> float | None:
        """Tell when a job's agent was heard last, here or by another hub; None for not since the hub's start.

        Where that other hub did not say, it is when this one took over: until then its agent was connected.
        """
        entry = self._providers.registry.get(live.stored.job.provider_id or "")
        if entry is not None and (entry.heard_here or entry.heard_there):
            return entry.heard
        return live.taken_over_at
