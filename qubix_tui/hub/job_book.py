"""All jobs of a hub, and how a decision about one is stored, published and applied.

Whatever changes a job happens in turn for that job: decide, commit, apply. Where it gives a provider a job,
or takes one from it, the provider's record is part of the same commit, and its turn is taken as well: always
the job's first and the provider's second.

Turns are those of one hub. Where hubs share a store, that refuses what was decided before another hub's word
about the same job or provider was known, and it is decided anew. Every decision about a job writes its row
among the reports, so that of two hubs one always finds out.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

from qubix_tui.hub.clock import Clock
from qubix_tui.hub.engine.base import Change, Engine, settled
from qubix_tui.hub.job_archive import JobArchive
from qubix_tui.hub.job_logs import JobLogs
from qubix_tui.hub.job_match import NO_RECORD, RECORDS_TABLE, TrackRecord, rules_of
from qubix_tui.hub.job_rules import JobRules
from qubix_tui.hub.job_state import (
    CLOCK_KEY,
    CLOCK_TABLE,
    JOBS_TABLE,
    LEDGER_TABLE,
    REPORTS_TABLE,
    Decision,
    JobSettings,
    Kept,
    LiveJob,
    Reported,
    StoredJob,
    changes_at_end,
    changes_of,
    receipt_key,
    report_change,
)
from qubix_tui.hub.keyed_locks import KeyedLocks
from qubix_tui.hub.provider_state import Outcome
from qubix_tui.hub.providers import Providers
from qubix_tui.hub.publisher import Publisher
from qubix_tui.protocol import codec
from qubix_tui.protocol.job_records import Job, JobState, Receipt
from qubix_tui.protocol.reasons import JobReason, reason_word
from qubix_tui.protocol.types import from_timestamp

HELD_STATES: Final = frozenset({JobState.ASSIGNED, JobState.RUNNING, JobState.UNKNOWN})
"""The states in which a provider has the job."""

_UNKILLABLE_WORDS: Final = "a job on it could not be ended; see to it, then resume it"


class JobBook:
    """The jobs of one hub.

    Args:
        engine: Where they live.
        publisher: How changes are stored and published.
        providers: Who runs them.
        clock: When things happen.
        settings: How long things may take, and are kept.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        publisher: Publisher,
        providers: Providers,
        clock: Clock,
        settings: JobSettings,
    ) -> None:
        self.settings = settings
        self.rules = JobRules(clock)
        self.logs = JobLogs(engine)
        self.archive = JobArchive(engine, self.logs, clock, settings)
        self.live: dict[str, LiveJob] = {}
        """The jobs that are not over."""
        self.live_bytes = 0
        """What their parameters take, encoded."""
        self.queue: dict[str, LiveJob] = {}
        """Those of them that wait for a provider, in the order in which they came."""
        self.held: dict[str, LiveJob] = {}
        """Those of them that a provider has."""
        self.attempts: Counter[tuple[str, str]] = Counter()
        """Attempts that ended since the hub's start, by status and word of the reason."""
        self.changed: Callable[[], None] = lambda: None
        """Called when a job may have become ready for a provider, or a provider for a job."""
        self._engine = engine
        self._publisher = publisher
        self._providers = providers
        self._clock = clock
        self._locks = KeyedLocks()
        self._records: dict[str, TrackRecord] = {}

    async def load(self) -> None:
        """Take over what the engine holds.

        Raises:
            EngineUnavailable: It can't be read.
            ProtocolError: It is not what a hub has written.
        """
        reports = await self._engine.load(REPORTS_TABLE)
        rows = await self._engine.load(JOBS_TABLE)
        clock = await self._engine.load(CLOCK_TABLE)
        there = {key: codec.decode_record(row, float) for key, row in clock.items()}
        for job_id in sorted(rows):
            live = LiveJob(codec.decode_record(rows[job_id], StoredJob), self._clock)
            if job_id in reports:
                reported = codec.decode_record(reports[job_id], Reported)
                last = max(reported.at, there.get(CLOCK_KEY, 0.0))
                live.resume(reported, last + self.settings.margin_seconds + self.settings.lease_seconds)
            self._place(live)
            live.watched = self._watches(live)
        for provider_id, row in (await self._engine.load(RECORDS_TABLE)).items():
            self._records[provider_id] = codec.decode_record(row, TrackRecord)
        await self.archive.load()

    @property
    def position(self) -> int:
        """Up to where other hubs' words are known; see `Engine.position`."""
        return self._engine.position

    def knows(self, job_id: str) -> bool:
        """Whether there is such a job, or was one not long ago."""
        return job_id in self.live or self.archive.state(job_id) is not None

    def watch(self, live: LiveJob) -> bool:
        """See, and tell, whether this hub watches over a job's deadlines now: who does so over its provider.

        One that it takes over has a whole lease before it: the other hub may have renewed it until now.
        """
        watches = self._watches(live)
        if watches and not live.watched:
            live.take_over()
        live.watched = watches
        return watches

    def _watches(self, live: LiveJob) -> bool:
        registry = self._providers.registry
        entry = registry.get(live.stored.job.provider_id or "")
        return self._engine.cluster.leads if entry is None else registry.looks_after(entry)

    def track_record(self, provider_id: str) -> TrackRecord:
        """Give how a provider did with its jobs."""
        return self._records.get(provider_id, NO_RECORD)

    def ids(self, state: JobState | None = None) -> list[str]:
        """Give the ids of all jobs, or of those in one state, the newest first."""
        live = ((job_id, live.state) for job_id, live in self.live.items())
        every = [*live, *self.archive.states()]
        return sorted((job_id for job_id, found in every if state in {None, found}), reverse=True)

    def counts(self) -> Counter[JobState]:
        """Count the jobs in each state."""
        return Counter(self._states())

    def queue_age(self) -> float | None:
        """Give the seconds since the oldest job that waits was submitted; None where none waits."""
        if not self.queue:
            return None
        oldest = min(live.stored.job.created_at for live in self.queue.values())
        return max(0.0, self._clock.time() - from_timestamp(oldest))

    def _states(self) -> Iterator[JobState]:
        yield from (live.state for live in self.live.values())
        yield from (state for _, state in self.archive.states())

    async def records(self, job_ids: Sequence[str]) -> list[Job]:
        """Give the records of some jobs, in their order; those that are gone are left out.

        Raises:
            EngineUnavailable: The store can't be read.
        """
        # Asked first: a job that ends meanwhile is in the archive when it is no longer live.
        found = {job_id: self.live[job_id].record() for job_id in job_ids if job_id in self.live}
        found |= await self.archive.records([job_id for job_id in job_ids if job_id not in found])
        return [found[job_id] for job_id in job_ids if job_id in found]

    async def create(self, decision: Decision, changes: Sequence[Change], decided_at: int) -> None:
        """Store a job that is new, and other changes with it.

        Args:
            decision: The job.
            changes: The others.
            decided_at: The `position` at which all that was decided.

        Raises:
            Conflict: Another hub has written those others meanwhile.
            EngineUnavailable: The store did not take it.
        """
        await self._store(decision, None, changes, decided_at)

    async def change(self, job_id: str, decide: Callable[[LiveJob], Decision | None]) -> Decision | None:
        """Decide something about a job in its turn, store it, and apply it.

        Args:
            job_id: Which; one that is not live gives None.
            decide: Gives the decision, None where nothing changes. Called again where another hub was faster.

        Raises:
            EngineUnavailable: The store did not take it; nothing has changed.
        """
        async with self._locks.of(job_id):
            return await settled(lambda: self.change_in_turn(job_id, decide, (), self.position))

    async def change_in_turn(
        self,
        job_id: str,
        decide: Callable[[LiveJob], Decision | None],
        changes: Sequence[Change],
        decided_at: int,
        then: Callable[[], None] | None = None,
    ) -> Decision | None:
        """Do what `change` does, once, for a caller that has the job's turn.

        Args:
            job_id: Which.
            decide: Gives the decision.
            changes: To be stored with it.
            decided_at: The `position` at which those were decided.
            then: Called once it is applied, before anything that any hub has stored after it is.

        Raises:
            Conflict: Another hub was faster; decide all of it anew (`settled`).
            EngineUnavailable: The store did not take it; nothing has changed.
        """
        live = self.live.get(job_id)
        decision = decide(live) if live is not None else None
        if decision is None:
            return None
        if decision.receipt is None:
            await self._store(decision, None, changes, decided_at, then)
        else:
            async with self._providers.turn(decision.receipt.provider_id):
                await self._store(decision, self._release(decision.receipt), changes, decided_at, then)
        return decision

    def turn(self, key: str) -> AbstractAsyncContextManager[None]:
        """Wait for the turn of a job, or of an idempotency key."""
        return self._locks.of(key)

    async def assign(self, job_id: str, provider_id: str) -> Decision | None:
        """Give a job to a provider, if both are still as they should be; None where they are not.

        Raises:
            EngineUnavailable: The store did not take it; nothing has changed.
        """
        async with self._locks.of(job_id), self._providers.turn(provider_id):
            return await settled(lambda: self._assign(job_id, provider_id))

    async def _assign(self, job_id: str, provider_id: str) -> Decision | None:
        registry = self._providers.registry
        live, entry = self.queue.get(job_id), registry.get(provider_id)
        if live is None or entry is None:
            return None
        if not all(rule.passes(entry) for rule in rules_of(live.stored.job, registry.is_connected)):
            return None
        decision = self.rules.assign(live, entry.stored.provider)
        if decision is not None:
            await self._store(decision, registry.hold(entry, job_id), (), self.position)
        return decision

    def _release(self, receipt: Receipt) -> Outcome | None:
        registry = self._providers.registry
        entry = registry.get(receipt.provider_id)
        if entry is None or entry.stored.provider.current_job_id != receipt.job_id:
            return None
        unkillable = reason_word(receipt.reason) is JobReason.UNKILLABLE
        return registry.release(entry, pause=_UNKILLABLE_WORDS if unkillable else None)

    async def _store(
        self,
        decision: Decision,
        outcome: Outcome | None,
        also: Sequence[Change],
        decided_at: int,
        then: Callable[[], None] | None = None,
    ) -> None:
        """Commit a decision and what it makes of its provider, then apply both."""
        try:
            await self._commit(decision, outcome, also, decided_at, then)
        except BaseException:
            # Another hub may have written what it printed, or nobody has what was to be written of that.
            self.logs.forget(decision.stored.job.id)
            raise

    async def _commit(
        self,
        decision: Decision,
        outcome: Outcome | None,
        also: Sequence[Change],
        decided_at: int,
        then: Callable[[], None] | None,
    ) -> None:
        changes, kept = await self._changes(decision)
        events = list(decision.events)
        if outcome is not None:
            changes += outcome.changes
            events += outcome.events
        receipt, record = decision.receipt, None
        if receipt is not None:
            record = self.track_record(receipt.provider_id).after(receipt, self._clock.time())
            changes += [
                Change(
                    LEDGER_TABLE, receipt_key(receipt.job_id, receipt.attempt), codec.encode_record(receipt)
                ),
                Change(RECORDS_TABLE, receipt.provider_id, codec.encode_record(record)),
            ]

        def apply() -> None:
            if outcome is not None:
                self._providers.registry.apply(outcome)
            if receipt is not None and record is not None:
                self._records[receipt.provider_id] = record
                self.attempts[receipt.status, _reason_label(receipt)] += 1
            self._apply(decision, kept)
            if then is not None:
                then()

        await self._publisher.commit([*changes, *also], events, apply, decided_at=decided_at)

    async def _changes(self, decision: Decision) -> tuple[list[Change], Kept | None]:
        stored = decision.stored
        if stored.job.state.is_final:
            log_bytes = await self.logs.size(stored.job.id)
            return changes_at_end(stored, log_bytes, self._clock.time())
        live = self.live.get(stored.job.id)
        if live is not None and live.stored is stored:
            return [report_change(stored.job.id, decision.reported)], None
        return changes_of(stored, decision.reported), None

    def _apply(self, decision: Decision, kept: Kept | None) -> None:
        live, before = self._of(decision.stored)
        live.take(decision)
        self._move(live, before, kept)

    def follow(self, stored: StoredJob, reported: Reported | None, kept: Kept | None) -> LiveJob:
        """Know a job as another hub has stored it; gives it.

        Args:
            stored: The job.
            reported: How far it is.
            kept: What is remembered of one that is over.
        """
        live, before = self._of(stored)
        live.follow(stored, reported)
        self._move(live, before, kept)
        return live

    def follow_record(self, provider_id: str, record: TrackRecord) -> None:
        """Know how a provider did with its jobs, as another hub has stored it."""
        self._records[provider_id] = record

    def _of(self, stored: StoredJob) -> tuple[LiveJob, JobState | None]:
        """Give a job that is about to change, and the state that it has; None for none."""
        live = self.live.get(stored.job.id)
        return (LiveJob(stored, self._clock), None) if live is None else (live, live.state)

    def _move(self, live: LiveJob, before: JobState | None, kept: Kept | None) -> None:
        """Put a job where it belongs now."""
        if live.state is before:
            return
        if self.live.pop(live.id, None) is not None:
            self.live_bytes -= live.params_bytes
        self.queue.pop(live.id, None)
        self.held.pop(live.id, None)
        if kept is not None:
            self.archive.put(live.id, kept)
            self.logs.forget(live.id)
        else:
            self._place(live)
        self.changed()

    def _place(self, live: LiveJob) -> None:
        self.live[live.id] = live
        self.live_bytes += live.params_bytes
        if live.state is JobState.QUEUED:
            self.queue[live.id] = live
        if live.state in HELD_STATES:
            self.held[live.id] = live
        if live.state is JobState.ASSIGNED:
            live.watched = self._watches(live)


def _reason_label(receipt: Receipt) -> str:
    """Give the word of a receipt's reason; agents may say anything, and not all of it is a label."""
    word = reason_word(receipt.reason)
    return word.value if word is not None else "none" if receipt.reason is None else "other"
