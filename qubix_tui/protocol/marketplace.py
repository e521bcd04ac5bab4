"""The kinds of MARKETPLACE_UPDATE: the ``data`` of each."""

from qubix_tui.protocol.job_records import Job, Receipt
from qubix_tui.protocol.records import Headline, HistoryPoint, Metrics, Provider
from qubix_tui.protocol.types import Count, Id, Sentence, Timestamp, Wire


class MarketplaceUpdate(Wire, frozen=True, kw_only=True, tag_field="kind"):
    """Base of the kinds of MARKETPLACE_UPDATE."""


class FleetSnapshot(MarketplaceUpdate, tag="snapshot", frozen=True, kw_only=True):
    """A page of all providers. A snapshot is complete when page ``pages`` came."""

    providers: list[Provider]
    page: Count
    """From 1."""
    pages: Count


class FleetDigest(MarketplaceUpdate, tag="metrics", frozen=True, kw_only=True):
    """The headline metrics of providers with a newer sample."""

    providers: list[Headline]


class ProviderSnapshot(MarketplaceUpdate, tag="provider_snapshot", frozen=True, kw_only=True):
    """One provider's present and past (extension): page 1 carries the record and the last metrics.

    Who watches a provider gets it unasked once late samples have filled a gap in its past.
    """

    provider_id: Id
    provider: Provider | None = None
    metrics: Metrics | None = None
    metrics_timestamp: Timestamp | None = None
    """When the hub received ``metrics``."""
    history: list[HistoryPoint] = []
    """The last 10 minutes in steps of 5 s, oldest first."""
    page: Count
    """From 1."""
    pages: Count


class JobSnapshot(MarketplaceUpdate, tag="job_snapshot", frozen=True, kw_only=True):
    """One job's record (extension); the tail of its log follows as JOB_LOGS."""

    job_id: Id
    job: Job | None = None
    receipts: list[Receipt] = []
    """Its attempts that are over, the first one first. None where they would not fit beside the record: they
    are at ``/api/jobs/<id>``."""


class JobsSnapshot(MarketplaceUpdate, tag="jobs_snapshot", frozen=True, kw_only=True):
    """A page of the jobs that there are (extension), the newest first."""

    jobs: list[Job]
    page: Count
    """From 1."""
    pages: Count


class ProviderUpdated(MarketplaceUpdate, tag="provider_updated", frozen=True, kw_only=True):
    """A provider's record changed."""

    provider: Provider


class ProviderRemoved(MarketplaceUpdate, tag="provider_removed", frozen=True, kw_only=True):
    """An operator removed a provider, or a simulated one left."""

    provider_id: Id


class JobCreated(MarketplaceUpdate, tag="job_created", frozen=True, kw_only=True):
    """A job was submitted."""

    job: Job


class JobStateChanged(MarketplaceUpdate, tag="job_state", frozen=True, kw_only=True):
    """A job moved on."""

    job: Job


class StoreState(MarketplaceUpdate, tag="store", frozen=True, kw_only=True):
    """The hub's store went away, or is back (extension). It has no offset, for there is nothing to keep it.

    While it is away nothing that has to be kept is taken, and requests for such are refused with
    ``unavailable``; live values go on. Who subscribes meanwhile is told, too.
    """

    up: bool
    reason: Sentence | None = None
    """Why it is away, for a person; null where that is not known, and once it is back."""
    since: Timestamp
    """Since when, by the hub's clock."""


AnyMarketplaceUpdate = (
    FleetSnapshot
    | FleetDigest
    | ProviderSnapshot
    | JobSnapshot
    | JobsSnapshot
    | ProviderUpdated
    | ProviderRemoved
    | JobCreated
    | JobStateChanged
    | StoreState
)
