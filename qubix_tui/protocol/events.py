"""Hub → client messages: the ``data`` of each type, and the table of types."""

from typing import Any, Literal

import msgspec

from qubix_tui.protocol import PING_EVERY_SECONDS, SILENCE_TIMEOUT_SECONDS
from qubix_tui.protocol.answers import Audit, Enrolled, Enrollment, HubStatistics, Issued, Match, Tokens
from qubix_tui.protocol.errors import ErrorCode
from qubix_tui.protocol.job_records import JobProgress
from qubix_tui.protocol.marketplace import AnyMarketplaceUpdate
from qubix_tui.protocol.records import HistoryPoint, Metrics, Provider, ProviderStatus
from qubix_tui.protocol.requests import JobAttempt
from qubix_tui.protocol.types import Amount, Count, Id, JsonObject, Name, RequestId, Sentence, Timestamp, Wire


class Heartbeat(Wire, frozen=True, kw_only=True):
    """What the hub expects of a client, in seconds."""

    ping_every: Amount = PING_EVERY_SECONDS
    """How often a client says something, a `ping` if nothing else."""
    timeout: Amount = SILENCE_TIMEOUT_SECONDS
    """How long it may be silent before it is closed with 4008."""


class Connected(Wire, frozen=True, kw_only=True):
    """The first message on every connection."""

    client_id: Id
    """What the hub's log calls this connection."""
    protocol: Count
    """`PROTOCOL_VERSION` of the hub."""
    version: Name
    """The hub's own version."""
    role: Name
    """A `Role`: what the connection may do until it shows a token."""
    heartbeat: Heartbeat = Heartbeat()
    timestamp: Timestamp
    """The hub's clock: what ages are counted by."""


class Pong(Wire, frozen=True, kw_only=True):
    """``echo`` is the ``data`` of the ping, if it had any."""

    timestamp: Timestamp
    """The hub's clock."""
    echo: Any = msgspec.UNSET


class Subscribed(Wire, frozen=True, kw_only=True):
    """Confirms a subscription."""

    subscription: Name
    """The channel's key."""
    epoch: Name | None = None
    """What ``offset`` belongs to; it changes only when history is lost."""
    offset: Count | None = None
    """The channel's newest, to go on from later; None for wildcards, which have none."""
    recovered: bool = False
    """Whether everything after ``since`` follows."""


class Unsubscribed(Wire, frozen=True, kw_only=True):
    """Confirms the end of a subscription."""

    subscription: Name
    """The channel's key."""


class Authenticated(Wire, frozen=True, kw_only=True):
    """The role that the connection has from now on."""

    role: Name
    """A `Role`."""
    subject: Name | None = None
    """The token's name, or the id of the provider that it is bound to."""


class JobOrder(Wire, frozen=True, kw_only=True):
    """What an agent is to do with a job that it held when it registered."""

    job_id: Id
    attempt: Count
    do: Literal["continue", "stop"]


class Registered(Wire, frozen=True, kw_only=True):
    """Confirms ``provider:register``."""

    provider_id: Id
    """Assigned by the hub, at the first registration."""
    session: Count
    """Grows by one per registration; only the newest session is listened to."""
    jobs: list[JobOrder] = []
    """One for each job that the agent said it holds."""
    last_sample_seconds_ago: Amount | None = None
    """How long ago the hub received this provider's newest sample; None where it knows of none (it was
    restarted, say). What was sampled since is its to send, as late samples (extension)."""


class Ok(Wire, frozen=True, kw_only=True):
    """Done, and nothing to add."""


class Ack(Wire, frozen=True, kw_only=True):
    """All of a job's messages up to ``seq`` are safe with the hub."""

    job_id: Id
    attempt: Count
    seq: Count
    stale: bool = False
    """Not wanted: the attempt is over, or the job is not known. Nothing of it need be sent again."""


class Renewed(Wire, frozen=True, kw_only=True):
    """Which leases go on, and which jobs must stop."""

    jobs: list[JobAttempt]
    """Renewed, for as long as ``job:start`` said."""
    stop: list[JobAttempt] = []
    """Over: to be stopped."""


class Submitted(Wire, frozen=True, kw_only=True):
    """The job is durable."""

    job_id: Id
    offered: bool | None = None
    """Whether anybody offers its workload now (extension); one that nobody offers waits for somebody."""


class History(Wire, frozen=True, kw_only=True):
    """A page of a provider's past, oldest first."""

    provider_id: Id
    points: list[HistoryPoint]
    page: Count
    """From 1."""
    pages: Count


class StatusChanged(Wire, frozen=True, kw_only=True):
    """``data`` of PROVIDER_STATUS_CHANGED."""

    provider_id: Id
    status: ProviderStatus
    timestamp: Timestamp
    """When it changed, by the hub's clock."""


class MetricsUpdate(Wire, frozen=True, kw_only=True):
    """``data`` of an outgoing GPU_METRICS_UPDATE."""

    provider_id: Id
    metrics: Metrics
    timestamp: Timestamp
    """When the hub received it, by its clock; the sender's is ``metrics.sampledAt``."""


class JobProgressed(Wire, frozen=True, kw_only=True):
    """``data`` of an outgoing JOB_PROGRESS."""

    job_id: Id
    provider_id: Id | None = None
    progress: JobProgress
    timestamp: Timestamp


class JobLogged(Wire, frozen=True, kw_only=True):
    """``data`` of an outgoing JOB_LOGS."""

    job_id: Id
    stream: Literal["stdout", "stderr"]
    from_: Count = msgspec.field(name="from")
    """Byte offset of ``text`` in the stream; a jump was skipped for a slow reader."""
    text: str
    """Anything a job may print: to be made harmless where it is shown."""
    dropped: Count = 0
    """Bytes lost to the log limit."""
    timestamp: Timestamp


class JobCompleted(Wire, frozen=True, kw_only=True):
    """``data`` of an outgoing JOB_COMPLETED: exactly one per job."""

    job_id: Id
    provider_id: Id | None = None
    status: Literal["completed", "failed", "cancelled"]
    reason: Sentence | None = None
    result: Any = None
    """What the job left, as JSON of at most 32 KiB."""
    cost_micros: Count | None = None
    """Millionths of the hub's currency."""
    timestamp: Timestamp


class JobAssign(Wire, frozen=True, kw_only=True):
    """``data`` of ``job:assign``, to the agent alone."""

    job_id: Id
    attempt: Count
    workload: Id
    params: JsonObject = {}
    gpus: list[Name] = []
    """UUIDs of the GPUs that it may use."""
    timeout_seconds: Amount | None = None
    """How long it may run."""


class JobStart(Wire, frozen=True, kw_only=True):
    """``data`` of ``job:start``: the agent may start the process now."""

    job_id: Id
    attempt: Count
    lease_seconds: Amount
    """How long the agent may run it without a renewal, counted from when it sent ``job:accept``."""
    margin_seconds: Amount | None = None
    """How long before the lease is over the job has to be gone; null means a tenth of the lease, 30 s at most
    (extension)."""


class JobStop(Wire, frozen=True, kw_only=True):
    """``data`` of ``job:stop``."""

    job_id: Id
    attempt: Count
    reason: Sentence | None = None
    grace_seconds: Amount | None = None
    """Between SIGTERM and SIGKILL."""


class BackfillWanted(Wire, frozen=True, kw_only=True):
    """``data`` of ``provider:backfill``, to the agent alone (extension)."""

    seconds_ago: Amount
    """Since when the hub, which was held up itself, may lack samples of this provider in its history."""


class ErrorData(Wire, frozen=True, kw_only=True):
    """``data`` of ``error``. The connection stays open unless a close code follows."""

    code: ErrorCode
    message: str
    """One sentence for a person, naming what was expected."""
    field: str | None = None
    """Path of the member at fault: ``data.metrics.cpuPercent``."""
    retry_after: Amount | None = None
    """Seconds after which trying again makes sense."""


CONNECTED = "connected"
PONG = "pong"
SUBSCRIBED = "subscribed"
UNSUBSCRIBED = "unsubscribed"
AUTHENTICATED = "authenticated"
REGISTERED = "registered"
OK = "ok"
ACK = "ack"
RENEWED = "renewed"
SUBMITTED = "submitted"
HISTORY = "history"
MATCH = "match"
ISSUED = "issued"
TOKENS = "tokens"
AUDIT = "audit"
ENROLLMENT = "enrollment"
ENROLLED = "enrolled"
HUB_STATISTICS = "hub_statistics"
ERROR = "error"
PROVIDER_REGISTERED = "PROVIDER_REGISTERED"
PROVIDER_STATUS_CHANGED = "PROVIDER_STATUS_CHANGED"
GPU_METRICS_UPDATE = "GPU_METRICS_UPDATE"
JOB_PROGRESS = "JOB_PROGRESS"
JOB_LOGS = "JOB_LOGS"
JOB_COMPLETED = "JOB_COMPLETED"
MARKETPLACE_UPDATE = "MARKETPLACE_UPDATE"
JOB_ASSIGN = "job:assign"
JOB_START = "job:start"
JOB_STOP = "job:stop"
PROVIDER_BACKFILL = "provider:backfill"

EVENTS: dict[str, Any] = {
    CONNECTED: Connected,
    PONG: Pong,
    SUBSCRIBED: Subscribed,
    UNSUBSCRIBED: Unsubscribed,
    AUTHENTICATED: Authenticated,
    REGISTERED: Registered,
    OK: Ok,
    ACK: Ack,
    RENEWED: Renewed,
    SUBMITTED: Submitted,
    HISTORY: History,
    MATCH: Match,
    ISSUED: Issued,
    TOKENS: Tokens,
    AUDIT: Audit,
    ENROLLMENT: Enrollment,
    ENROLLED: Enrolled,
    HUB_STATISTICS: HubStatistics,
    ERROR: ErrorData,
    PROVIDER_REGISTERED: Provider,
    PROVIDER_STATUS_CHANGED: StatusChanged,
    GPU_METRICS_UPDATE: MetricsUpdate,
    JOB_PROGRESS: JobProgressed,
    JOB_LOGS: JobLogged,
    JOB_COMPLETED: JobCompleted,
    MARKETPLACE_UPDATE: AnyMarketplaceUpdate,
    JOB_ASSIGN: JobAssign,
    JOB_START: JobStart,
    JOB_STOP: JobStop,
    PROVIDER_BACKFILL: BackfillWanted,
}
"""Every type that a hub sends, with the form of its ``data``."""


class Event(Wire, frozen=True, kw_only=True):
    """A hub's message, decoded.

    ``channel`` is on every published event, ``offset`` on every ordered one, ``id`` on every direct reply.
    """

    type: str
    data: Any
    """An instance of ``EVENTS[type]``; for a type that is not in the table, plain JSON."""
    channel: str | None = None
    offset: int | None = None
    id: RequestId | None = None
