"""What a hub shows of itself and of what it knows: to its HTTP routes, and to a program that embeds it."""

from collections.abc import Sequence

from qubix_tui.hub.caretaker import Caretaker
from qubix_tui.hub.exposition import Picture, take_picture
from qubix_tui.hub.http import HubStats
from qubix_tui.hub.services import Services
from qubix_tui.hub.store_metrics import look_at
from qubix_tui.protocol.events import MetricsUpdate
from qubix_tui.protocol.job_records import Job, JobState, LogPiece, Receipt
from qubix_tui.protocol.records import Provider


class Views:
    """The views. To be asked for on the hub's event loop."""

    @property
    def services(self) -> Services:
        """The hub's parts."""
        raise NotImplementedError

    @property
    def caretaker(self) -> Caretaker:
        """Who looks after its clients."""
        raise NotImplementedError

    @property
    def ready(self) -> bool:
        """Whether it serves."""
        raise NotImplementedError

    def stats(self) -> HubStats:
        """Who is connected, and who hears what."""
        return HubStats(
            clients=len(self.caretaker.clients),
            subscriptions=self.services.fanout.subscriptions(),
            nodes=self.services.nodes.listing(),
        )

    def picture(self) -> Picture:
        """What Prometheus is to see."""
        stats = self.stats()
        registry = self.services.providers.registry
        return take_picture(
            self.services.telemetry,
            # Who scrapes all of the hubs that share a store gets each provider once.
            [entry for entry in registry if registry.looks_after(entry)],
            self.services.clock.time(),
            ready=self.ready,
            stores=self.services.publisher.stores,
            shared_store=look_at(self.services.engine, self.services.providers.peers.traffic),
            connections=stats.clients,
            subscriptions=sum(count for _, count in stats.subscriptions),
            queue_age=self.services.jobs.book.queue_age(),
            jobs=self.services.jobs.book.counts(),
            attempts=self.services.jobs.book.attempts,
        )

    def providers(self) -> Sequence[Provider]:
        """All providers, in the order in which they came."""
        return [entry.record() for entry in self.services.providers.registry]

    def provider(self, provider_id: str) -> Provider | None:
        """One provider's record."""
        entry = self.services.providers.registry.get(provider_id)
        return entry.record() if entry else None

    async def last_metrics(self, provider_id: str) -> MetricsUpdate | None:
        """One provider's newest sample, and when it was received, here or at another hub."""
        past = await self.services.providers.peers.past(provider_id, with_points=False)
        return past.last

    async def benchmark(self, provider_id: str) -> Job | None:
        """The last benchmark that a provider completed."""
        return await self.services.jobs.book.archive.benchmark(provider_id)

    def job_ids(self, state: JobState | None) -> Sequence[str]:
        """The ids of all jobs, or of those in one state, the newest first."""
        return self.services.jobs.book.ids(state)

    async def jobs(self, job_ids: Sequence[str]) -> Sequence[Job]:
        """The records of some jobs, without those that are gone."""
        return await self.services.jobs.book.records(job_ids)

    async def receipts(self, job_id: str) -> Sequence[Receipt]:
        """What one job's attempts came to, the first one first."""
        return await self.services.jobs.book.archive.receipts(job_id)

    async def log(self, job_id: str) -> Sequence[LogPiece]:
        """What is kept of one job's log, the oldest piece first."""
        return await self.services.jobs.book.logs.read(job_id)
