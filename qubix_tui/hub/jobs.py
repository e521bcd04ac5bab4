"""The jobs of a hub: submitted, given to providers, watched over, cancelled, and never lost."""

from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Final

import msgspec

from qubix_tui.hub import framing
from qubix_tui.hub.access import Identity
from qubix_tui.hub.clock import Clock
from qubix_tui.hub.engine.base import Change, Engine, caught_up, settled
from qubix_tui.hub.fanout import Fanout
from qubix_tui.hub.job_agents import JobAgents, log_frame
from qubix_tui.hub.job_book import JobBook
from qubix_tui.hub.job_follower import JobFollower
from qubix_tui.hub.job_logs import tail
from qubix_tui.hub.job_match import explain
from qubix_tui.hub.job_matcher import Matcher
from qubix_tui.hub.job_offers import Offers
from qubix_tui.hub.job_state import KEYS_TABLE, JobSettings, LiveJob, new_job_id
from qubix_tui.hub.job_watch import JobWatch
from qubix_tui.hub.providers import Providers
from qubix_tui.hub.publisher import Publisher
from qubix_tui.protocol import channels, codec, marketplace
from qubix_tui.protocol.answers import Match
from qubix_tui.protocol.errors import ErrorCode, ProtocolError
from qubix_tui.protocol.job_records import Job, JobState
from qubix_tui.protocol.reasons import JobReason
from qubix_tui.protocol.requests import SubmitJob

MAX_LIVE_JOBS: Final = 100_000
MAX_LIVE_BYTES: Final = 256 * 1024 * 1024
"""Jobs that are not over, and what their parameters take: they are kept in memory."""

SNAPSHOT_JOBS: Final = 500
SNAPSHOT_BYTES: Final = 1024 * 1024
"""What a snapshot of all jobs shows, about; the others are at ``/api/jobs``."""

RETENTION_SECONDS: Final = 60.0
"""How often old jobs are looked for."""

_READ_BATCH: Final = 50
_BUSY_SECONDS: Final = 5.0


class _KeyRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What an idempotency key stands for: a job, and the request that made it, without the key."""

    job_id: str
    request: SubmitJob


class Jobs:
    """The jobs of one hub.

    Args:
        engine: Where they live.
        publisher: How changes are stored and published.
        providers: Who runs them.
        fanout: Who follows their logs.
        clock: When things happen.
        settings: How long things may take, and are kept.
        spawn: Runs something that nobody waits for.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        publisher: Publisher,
        providers: Providers,
        fanout: Fanout,
        clock: Clock,
        settings: JobSettings,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self.book = JobBook(
            engine=engine, publisher=publisher, providers=providers, clock=clock, settings=settings
        )
        cluster = engine.cluster
        self.agents = JobAgents(self.book, providers, fanout, clock, cluster)
        self.matcher = Matcher(self.book, providers, clock, cluster, spawn=spawn, assigned=self.agents.assign)
        self.book.changed = self.matcher.wake
        self._watch = JobWatch(self.book, self.agents, providers, engine, clock)
        self._follower = JobFollower(self.book, self.agents, providers.registry)
        self._engine = engine
        self._providers = providers
        self._clock = clock
        self._cleaned_at = clock.monotonic()
        self._newest_ms = 0
        self._offers = Offers(providers.registry, clock)

    async def load(self) -> None:
        """Take over what the engine holds.

        Raises:
            EngineUnavailable: It can't be read.
            ProtocolError: It is not what a hub has written.
        """
        await self.book.load()

    def follow(self, changes: Sequence[Change]) -> None:
        """Know what another hub has written; the providers know it already.

        Raises:
            ProtocolError: It is not what a hub has written.
        """
        self._follower.follow(changes)

    def stalled(self, seconds: float) -> None:
        """The hub itself was held up until now, for so long: no deadline was missed before now."""
        self._watch.stalled(seconds)

    async def submit(self, identity: Identity, request: SubmitJob) -> str:
        """Take a job; gives its id once it is stored.

        The same key, from the same token, gives the job that it gave before.

        Raises:
            ProtocolError: ``invalid``: nobody who offers the workload takes its parameters. ``no_provider``:
                the chosen provider is not known, or does not offer it. ``conflict``: the key stands for
                another job. ``unavailable``: there are too many jobs.
            EngineUnavailable: The store did not take it.
        """
        if request.idempotency_key is None:
            return await settled(lambda: self._create(identity, request, None, self.book.position))
        key = f"{identity.token_id or '-'}/{request.idempotency_key}"
        async with self.book.turn(key):
            return await settled(lambda: self._submit_once(identity, request, key))

    async def _submit_once(self, identity: Identity, request: SubmitJob, key: str) -> str:
        """Take a job, or give the one that its key stands for, whichever hub has taken that."""
        decided_at = self.book.position
        rows = await self._engine.read(KEYS_TABLE, [key])
        if key not in rows:
            return await self._create(identity, request, key, decided_at)
        known = codec.decode_record(rows[key], _KeyRow)
        if known.request != _without_key(request):
            raise ProtocolError(
                ErrorCode.CONFLICT,
                f"this key stands for {known.job_id}, which is another job: give this one a key of its own",
                field="data.idempotencyKey",
            )
        await self._hear_of(known.job_id)
        return known.job_id

    def is_offered(self, workload: str) -> bool:
        """Tell whether anybody offers a workload now; a job of one that nobody offers waits for somebody."""
        return self._offers.is_offered(workload)

    async def _create(self, identity: Identity, request: SubmitJob, key: str | None, decided_at: int) -> str:
        if len(self.book.live) >= MAX_LIVE_JOBS or self.book.live_bytes >= MAX_LIVE_BYTES:
            raise ProtocolError(
                ErrorCode.UNAVAILABLE,
                f"{len(self.book.live)} jobs wait or run here, and this hub takes no more; try again later",
                retry_after=_BUSY_SECONDS,
            )
        self._offers.check(request)
        # Never twice the same time: jobs are served, by the next hub too, in the order in which they came.
        self._newest_ms = max(self._newest_ms + 1, int(self._clock.time() * 1000))
        job_id = new_job_id(self._newest_ms)
        decision = self.book.rules.submit(request, job_id=job_id, who=identity.subject, key=key)
        row = _KeyRow(job_id=job_id, request=_without_key(request))
        also = [Change(KEYS_TABLE, key, codec.encode_record(row))] if key else []
        await self.book.create(decision, also, decided_at)
        return job_id

    async def cancel(self, identity: Identity, job_id: str) -> None:
        """Want a job ended. One that has not started is over at once, else its agent ends it.

        Raises:
            ProtocolError: ``not_found``, or ``conflict``: it is over.
            EngineUnavailable: The store did not take it.
        """
        await self._hear_of(job_id)
        self._live(job_id, "only one that waits or runs can be cancelled")
        who = identity.subject
        decision = await self.book.change(job_id, lambda live: self.book.rules.cancel(live, who))
        if decision is None:
            # It ended while it waited for its turn; or it was cancelled before.
            self._live(job_id, "it ended before it was cancelled")
            return
        job = decision.stored.job
        if decision.receipt is not None or not job.state.is_final:
            self.agents.stop(job.provider_id, job_id, job.attempt, JobReason.CANCELLED_BY.value)

    async def why(self, job_id: str) -> Match:
        """Tell why a job waits.

        Raises:
            ProtocolError: ``not_found``, or ``conflict``: it does not wait.
            EngineUnavailable: It is not known here, and the store can't be asked.
        """
        await self._hear_of(job_id)
        live = self._live(job_id, "only one that waits has a reason to")
        if live.state is not JobState.QUEUED:
            raise ProtocolError(
                ErrorCode.CONFLICT,
                f"{job_id} does not wait: it is {live.state} on {live.stored.job.provider_id}",
            )
        registry = self._providers.registry
        return await explain(live.stored, list(registry), registry.is_connected, self._clock.time())

    async def record(self, job_id: str) -> Job | None:
        """Give a job's record, None where it is not known.

        Raises:
            EngineUnavailable: The store can't be read.
        """
        await self._hear_of(job_id)
        return next(iter(await self.book.records([job_id])), None)

    async def snapshot(self, job_id: str) -> Iterator[bytes]:
        """Give one job's record, with its receipts, and the tail of its log, as frames.

        Raises:
            EngineUnavailable: The store can't be read.
        """
        job = await self.record(job_id)
        receipts = await self.book.archive.receipts(job_id)
        pieces = tail(await self.book.logs.read(job_id))
        data = codec.encode_record(marketplace.JobSnapshot(job_id=job_id, job=job, receipts=receipts))
        if len(data) > framing.MAX_ITEMS_BYTES:
            data = codec.encode_record(marketplace.JobSnapshot(job_id=job_id, job=job))
        frame = framing.page_frame(channels.job_channel(job_id), data)
        return iter([frame, *(log_frame(job_id, piece) for piece in pieces)])

    async def snapshot_of_all(self) -> Iterator[bytes]:
        """Give the newest jobs, as many as `SNAPSHOT_JOBS` and `SNAPSHOT_BYTES` allow, as frames.

        Raises:
            EngineUnavailable: The store can't be read.
        """
        jobs: list[Job] = []
        sizes: list[int] = []
        job_ids = self.book.ids()[:SNAPSHOT_JOBS]
        for start in range(0, len(job_ids), _READ_BATCH):
            some = await self.book.records(job_ids[start : start + _READ_BATCH])
            jobs += some
            sizes += [len(codec.encode_record(job)) + 1 for job in some]
            if sum(sizes) > SNAPSHOT_BYTES:
                break
        counts = list(framing.cut(sizes)) or [0]
        frames, start = [], 0
        for page, count in enumerate(counts, 1):
            shown = marketplace.JobsSnapshot(jobs=jobs[start : start + count], page=page, pages=len(counts))
            frames.append(framing.page_frame(channels.ALL_JOBS, codec.encode_record(shown)))
            start += count
        return iter(frames)

    async def sweep(self) -> None:
        """Look at all deadlines, and, once for all hubs of a store, at what waits and at what is old.

        Raises:
            EngineUnavailable: The store did not take something; the next sweep tries again.
        """
        try:
            await self._watch.sweep()
        finally:
            self.matcher.wake()
        if not self._engine.cluster.leads:
            return
        if self._clock.monotonic() - self._cleaned_at >= RETENTION_SECONDS:
            self._cleaned_at = self._clock.monotonic()
            while await self.book.archive.drop_old():
                pass
        await self._watch.note_time()

    async def _hear_of(self, job_id: str) -> None:
        """Know a job that another hub has acknowledged."""
        if not self.book.knows(job_id):
            await caught_up(self._engine)

    def _live(self, job_id: str, otherwise: str) -> LiveJob:
        live = self.book.live.get(job_id)
        if live is not None:
            return live
        state = self.book.archive.state(job_id)
        if state is None:
            raise ProtocolError(ErrorCode.NOT_FOUND, f"there is no job {job_id}", field="data.jobId")
        raise ProtocolError(ErrorCode.CONFLICT, f"{job_id} is {state}; {otherwise}", field="data.jobId")


def _without_key(request: SubmitJob) -> SubmitJob:
    return msgspec.structs.replace(request, idempotency_key=None)
