"""The jobs that are over: an index in memory, everything else on the store until somebody asks for it.

They are kept for so many days, and together take so many bytes, logs included; the oldest go first. Their
receipts stay: they are the books.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from qubix_tui.hub.clock import Clock
from qubix_tui.hub.engine.base import Change, Engine, settled
from qubix_tui.hub.job_logs import JobLogs
from qubix_tui.hub.job_state import (
    BENCHMARKS_TABLE,
    FINISHED_TABLE,
    KEPT_TABLE,
    KEYS_TABLE,
    LEDGER_TABLE,
    JobSettings,
    Kept,
    StoredJob,
)
from qubix_tui.protocol import codec
from qubix_tui.protocol.job_records import Job, JobState, Receipt

DROP_BATCH: Final = 50
"""Jobs that are dropped at most in one commit."""

DROP_CHANGES: Final = 5_000
"""Rows after which no more of them are added to it: a log has thousands, and others want the store, too."""

_SECONDS_PER_DAY: Final = 86_400


class JobArchive:
    """The finished jobs of one hub.

    Args:
        engine: Where they are.
        logs: Where their logs are.
        clock: How old they are.
        settings: How long they are kept.
    """

    def __init__(self, engine: Engine, logs: JobLogs, clock: Clock, settings: JobSettings) -> None:
        self._engine = engine
        self._logs = logs
        self._clock = clock
        self._settings = settings
        # In the order in which they ended.
        self._kept: dict[str, Kept] = {}
        self._bytes = 0

    async def load(self) -> None:
        """Read the index.

        Raises:
            EngineUnavailable: It can't be read.
            ProtocolError: It is not what a hub has written.
        """
        rows = await self._engine.load(KEPT_TABLE)
        kept = {job_id: codec.decode_record(row, Kept) for job_id, row in rows.items()}
        for job_id, one in sorted(kept.items(), key=lambda item: item[1].finished_at):
            self.put(job_id, one)

    def put(self, job_id: str, kept: Kept) -> None:
        """Know one more; again is no error."""
        self.drop(job_id)
        self._kept[job_id] = kept
        self._bytes += kept.size

    def drop(self, job_id: str) -> None:
        """Know one less; one that is not known is no error."""
        kept = self._kept.pop(job_id, None)
        if kept is not None:
            self._bytes -= kept.size

    def states(self) -> Iterable[tuple[str, JobState]]:
        """Give each job's id and state."""
        return ((job_id, kept.state) for job_id, kept in self._kept.items())

    def state(self, job_id: str) -> JobState | None:
        """Give a job's state, None where there is no such finished job."""
        kept = self._kept.get(job_id)
        return None if kept is None else kept.state

    async def records(self, job_ids: Sequence[str]) -> dict[str, Job]:
        """Give the records of some jobs; those that are gone are left out.

        Raises:
            EngineUnavailable: The store can't be read.
            ProtocolError: It is not what a hub has written.
        """
        rows = await self._engine.read(FINISHED_TABLE, job_ids)
        return {job_id: codec.decode_record(row, StoredJob).job for job_id, row in rows.items()}

    async def receipts(self, job_id: str) -> list[Receipt]:
        """Give the receipts of any job, the first attempt first.

        Raises:
            EngineUnavailable: The store can't be read.
            ProtocolError: It is not what a hub has written.
        """
        rows = await self._engine.load(LEDGER_TABLE, prefix=f"{job_id}/")
        return [codec.decode_record(rows[key], Receipt) for key in sorted(rows)]

    async def benchmark(self, provider_id: str) -> Job | None:
        """Give the last benchmark that a provider completed, None where there is none.

        Raises:
            EngineUnavailable: The store can't be read.
            ProtocolError: It is not what a hub has written.
        """
        rows = await self._engine.read(BENCHMARKS_TABLE, [provider_id])
        row = rows.get(provider_id)
        return None if row is None else codec.decode_record(row, Job)

    async def drop_old(self) -> bool:
        """Drop what is too old or too much, some of it at a time; False where nothing was left to drop.

        Raises:
            EngineUnavailable: The store did not take it; nothing was dropped.
        """
        return await settled(self._drop_old)

    async def _drop_old(self) -> bool:
        decided_at = self._engine.position
        old = self._old()
        if not old:
            return False
        rows = await self._engine.read(FINISHED_TABLE, old)
        dropped: list[str] = []
        changes: list[Change] = []
        for job_id in old:
            changes += await self._removal(job_id, rows.get(job_id))
            dropped.append(job_id)
            if len(changes) >= DROP_CHANGES:
                break
        await self._engine.commit((), changes, (), lambda: self._drop_all(dropped), decided_at=decided_at)
        return True

    def _old(self) -> list[str]:
        """Give the next jobs that are too old, or too much."""
        oldest_kept = self._clock.time() - self._settings.retention_days * _SECONDS_PER_DAY
        excess = self._bytes - self._settings.retention_bytes
        old: list[str] = []
        for job_id, kept in islice(self._kept.items(), DROP_BATCH):
            if kept.finished_at >= oldest_kept and excess <= 0:
                break
            old.append(job_id)
            excess -= kept.size
        return old

    def _drop_all(self, job_ids: Sequence[str]) -> None:
        for job_id in job_ids:
            self.drop(job_id)

    async def _removal(self, job_id: str, row: bytes | None) -> list[Change]:
        changes = [Change(table, job_id, None, blind=True) for table in (FINISHED_TABLE, KEPT_TABLE)]
        changes += await self._logs.removal(job_id)
        key = codec.decode_record(row, StoredJob).key if row is not None else None
        if key is not None:
            # Another hub may have dropped the job as well, and given its key to a new one.
            changes.append(Change(KEYS_TABLE, key, None))
        return changes
