"""What other hubs write about jobs, made known here: as if it had been decided by this hub, and just now."""

from collections.abc import Sequence

from qubix_tui.hub.engine.base import Change
from qubix_tui.hub.job_agents import JobAgents
from qubix_tui.hub.job_book import JobBook
from qubix_tui.hub.job_logs import LOGS_TABLE, job_of
from qubix_tui.hub.job_match import RECORDS_TABLE, TrackRecord
from qubix_tui.hub.job_state import (
    FINISHED_TABLE,
    JOBS_TABLE,
    KEPT_TABLE,
    REPORTS_TABLE,
    Kept,
    Reported,
    StoredJob,
)
from qubix_tui.hub.provider_state import PROVIDERS_TABLE, SIMULATED_TABLE
from qubix_tui.hub.registry import Registry
from qubix_tui.protocol import codec
from qubix_tui.protocol.job_records import LogPiece

_Rows = dict[str, bytes | None]


class JobFollower:
    """Keeps one hub's jobs up to what the others decide.

    Args:
        book: The jobs.
        agents: Who is told of it, where they are connected here.
        registry: The providers, which are up to it already.
    """

    def __init__(self, book: JobBook, agents: JobAgents, registry: Registry) -> None:
        self._book = book
        self._agents = agents
        self._registry = registry

    def follow(self, changes: Sequence[Change]) -> None:
        """Know what one commit of another hub has written.

        Raises:
            ProtocolError: It is not what a hub has written.
        """
        written: dict[str, _Rows] = {}
        for change in changes:
            written.setdefault(change.table, {})[change.key] = change.value
        self._follow_providers([*written.get(PROVIDERS_TABLE, ()), *written.get(SIMULATED_TABLE, ())])
        for provider_id, row in written.get(RECORDS_TABLE, {}).items():
            if row is not None:
                self._book.follow_record(provider_id, codec.decode_record(row, TrackRecord))
        self._follow_jobs(written)
        self._follow_logs(written.get(LOGS_TABLE, {}))

    def _follow_providers(self, provider_ids: Sequence[str]) -> None:
        """Note at once where a provider's jobs are no longer this hub's to watch over, or are so again."""
        for provider_id in provider_ids:
            entry = self._registry.get(provider_id)
            job_id = entry.stored.provider.current_job_id if entry is not None else None
            live = self._book.held.get(job_id or "")
            if live is not None:
                self._book.watch(live)
        if provider_ids:
            self._book.changed()

    def _follow_jobs(self, written: dict[str, _Rows]) -> None:
        jobs, reports = written.get(JOBS_TABLE, {}), written.get(REPORTS_TABLE, {})
        finished, index = written.get(FINISHED_TABLE, {}), written.get(KEPT_TABLE, {})
        for job_id, row in index.items():
            if row is None:
                self._book.archive.drop(job_id)
        for job_id in reports:
            known = self._book.live.get(job_id)
            row, over = jobs.get(job_id) or finished.get(job_id), index.get(job_id)
            if row is None and known is None:
                continue
            before = known.stored if known is not None else None
            stored = codec.decode_record(row, StoredJob) if row is not None else before
            assert stored is not None
            report = reports[job_id]
            live = self._book.follow(
                stored,
                None if report is None else codec.decode_record(report, Reported),
                None if over is None else codec.decode_record(over, Kept),
            )
            self._agents.follow(before, live)

    def _follow_logs(self, pieces: _Rows) -> None:
        """What this hub knows of a log is less than there is of it; who follows it here is sent the rest."""
        for job_id in {job_of(key) for key in pieces}:
            self._book.logs.forget(job_id)
        for key, row in pieces.items():
            if row is not None and self._agents.is_followed(job_of(key)):
                self._agents.publish_log(job_of(key), codec.decode_record(row, LogPiece))
