"""Client → hub messages: the ``data`` of each type, and the table of types."""

from typing import Annotated, Any, Final, Literal

import msgspec

from qubix_tui.protocol.job_records import Requirements
from qubix_tui.protocol.records import Metrics, ProviderSpec
from qubix_tui.protocol.types import Amount, Count, Id, JsonObject, Name, Percent, RequestId, Sentence, Wire

MIN_DIGEST_SECONDS: Final = 0.1
MAX_DIGEST_SECONDS: Final = 60.0

DigestSeconds = Annotated[
    float,
    # Checked by the codec, whose words are clearer than two complaints about bounds.
    msgspec.Meta(extra_json_schema={"minimum": MIN_DIGEST_SECONDS, "maximum": MAX_DIGEST_SECONDS}),
]


class SubscribeOptions(Wire, frozen=True, kw_only=True):
    """Optional ``data`` of the three ``subscribe:…`` types."""

    snapshot: bool = False
    """Send the current state before later events."""
    digest: DigestSeconds | None = None
    """Send the fleet's headline metrics every so many seconds (0.1 to 60)."""
    epoch: Name | None = None
    since: Count | None = None
    """Replay what came after this offset of ``epoch``; 0 gives all that is kept."""


class Nothing(Wire, frozen=True, kw_only=True):
    """``data`` of the types that take none; whatever is there is ignored."""


class Auth(Wire, frozen=True, kw_only=True):
    """``data`` of ``auth``."""

    token: str


class HeldJob(Wire, frozen=True, kw_only=True):
    """A job that an agent holds when it registers."""

    job_id: Id
    attempt: Count
    state: Name
    last_seq: Count = 0


class Register(ProviderSpec, frozen=True, kw_only=True):
    """``data`` of ``provider:register``."""

    instance: Id
    """Random per agent start: tells a reconnect from a second agent with the same identity."""
    jobs: list[HeldJob] = []


class SetStatus(Wire, frozen=True, kw_only=True):
    """``data`` of ``provider:status``: its owner pauses, drains, resumes."""

    paused: bool
    draining: bool = False
    reason: Sentence | None = None


class ProviderRef(Wire, frozen=True, kw_only=True):
    """``data`` of ``provider:remove``."""

    provider_id: Id


class HistoryRequest(Wire, frozen=True, kw_only=True):
    """``data`` of ``provider:history``."""

    provider_id: Id
    seconds: Amount


class PublishMetrics(Wire, frozen=True, kw_only=True):
    """``data`` of an incoming GPU_METRICS_UPDATE."""

    metrics: Metrics
    late: bool = False
    """A sample kept while the hub was away: history, not the present. Its headline is enough."""
    age_seconds: Amount | None = None
    """How long ago a late sample was taken, by a clock of the sender's that nobody sets: what its place in
    the hub's time is told by. Without it, that is ``sampledAt`` (extension)."""


class ReportedProgress(Wire, frozen=True, kw_only=True):
    """``progress`` as an agent reports it."""

    progress: Percent | None = None
    message: Sentence | None = None
    source: Literal["reported", "parsed", "none"] = "none"
    eta_seconds: Amount | None = None


class ReportProgress(Wire, frozen=True, kw_only=True):
    """``data`` of an incoming JOB_PROGRESS."""

    job_id: Id
    attempt: Count
    seq: Count
    progress: ReportedProgress


class ReportLogs(Wire, frozen=True, kw_only=True):
    """``data`` of an incoming JOB_LOGS. ``from`` is the byte offset of ``text``."""

    job_id: Id
    attempt: Count
    seq: Count
    stream: Literal["stdout", "stderr"]
    from_: Count = msgspec.field(name="from")
    text: str
    dropped: Count = 0


class ReportCompletion(Wire, frozen=True, kw_only=True):
    """``data`` of an incoming JOB_COMPLETED."""

    job_id: Id
    attempt: Count
    seq: Count
    status: Literal["completed", "failed", "cancelled"]
    reason: Sentence | None = None
    result: Any = None


class JobAnswer(Wire, frozen=True, kw_only=True):
    """``data`` of ``job:accept`` and ``job:refuse``."""

    job_id: Id
    attempt: Count
    reason: Sentence | None = None


class JobAttempt(Wire, frozen=True, kw_only=True):
    """One attempt at one job."""

    job_id: Id
    attempt: Count


class RenewLeases(Wire, frozen=True, kw_only=True):
    """``data`` of ``job:renew``."""

    jobs: list[JobAttempt]


class SubmitJob(Wire, frozen=True, kw_only=True):
    """``data`` of ``job:submit``."""

    workload: Id
    params: JsonObject = {}
    requires: Requirements = Requirements()
    timeout_seconds: Amount | None = None
    retries: Count = 0
    idempotency_key: Name | None = None


class JobRef(Wire, frozen=True, kw_only=True):
    """``data`` of ``job:cancel`` and ``job:why``."""

    job_id: Id


class IssueToken(Wire, frozen=True, kw_only=True):
    """``data`` of ``token:issue``."""

    role: Literal["viewer", "operator", "provider"]
    name: Name | None = None


class TokenRef(Wire, frozen=True, kw_only=True):
    """``data`` of ``token:revoke``."""

    token_id: Id


class AuditRequest(Wire, frozen=True, kw_only=True):
    """Optional ``data`` of ``audit:list``."""

    limit: Count = 100
    """The newest so many entries."""


class NewEnrollment(Wire, frozen=True, kw_only=True):
    """Optional ``data`` of ``enroll:new``."""

    name: Name | None = None
    """What the provider is to be called; its id begins with it."""


class Enroll(Wire, frozen=True, kw_only=True):
    """``data`` of ``enroll``."""

    code: Name
    worker_id: Id


RequestData = (
    SubscribeOptions
    | Nothing
    | JsonObject
    | Auth
    | Register
    | SetStatus
    | ProviderRef
    | HistoryRequest
    | PublishMetrics
    | ReportProgress
    | ReportLogs
    | ReportCompletion
    | JobAnswer
    | RenewLeases
    | SubmitJob
    | JobRef
    | IssueToken
    | TokenRef
    | AuditRequest
    | NewEnrollment
    | Enroll
)

SUBSCRIBE_MARKETPLACE = "subscribe:marketplace"
SUBSCRIBE_PROVIDER = "subscribe:provider"
SUBSCRIBE_JOB = "subscribe:job"
UNSUBSCRIBE = "unsubscribe"
PING = "ping"
HUB_STATS = "hub:stats"

SUBSCRIBES = frozenset({SUBSCRIBE_MARKETPLACE, SUBSCRIBE_PROVIDER, SUBSCRIBE_JOB})

REQUESTS: dict[str, type[Wire]] = {
    SUBSCRIBE_MARKETPLACE: SubscribeOptions,
    SUBSCRIBE_PROVIDER: SubscribeOptions,
    SUBSCRIBE_JOB: SubscribeOptions,
    UNSUBSCRIBE: Nothing,
    PING: Nothing,
    "auth": Auth,
    "provider:register": Register,
    "provider:status": SetStatus,
    "provider:remove": ProviderRef,
    "provider:history": HistoryRequest,
    "GPU_METRICS_UPDATE": PublishMetrics,
    "JOB_PROGRESS": ReportProgress,
    "JOB_LOGS": ReportLogs,
    "JOB_COMPLETED": ReportCompletion,
    "job:accept": JobAnswer,
    "job:refuse": JobAnswer,
    "job:renew": RenewLeases,
    "job:submit": SubmitJob,
    "job:cancel": JobRef,
    "job:why": JobRef,
    "token:issue": IssueToken,
    "token:list": Nothing,
    "token:revoke": TokenRef,
    "audit:list": AuditRequest,
    "enroll:new": NewEnrollment,
    "enroll": Enroll,
    HUB_STATS: Nothing,
}
"""Every type that a hub understands, with the form of its ``data``."""

OPTIONAL_DATA = SUBSCRIBES | {UNSUBSCRIBE, PING, "token:list", "audit:list", "enroll:new", HUB_STATS}
"""The types whose ``data`` may be missing or null."""


class Request(Wire, frozen=True, kw_only=True):
    """A client's message, decoded and checked.

    ``channel`` is the full key that a ``subscribe:…`` or ``unsubscribe`` speaks of, and None for all others.
    The ``data`` of ``ping`` is the JSON value to echo (None when there was none).
    """

    type: str
    data: Any
    """An instance of ``REQUESTS[type]``; for ``ping`` any JSON value."""
    channel: str | None = None
    id: RequestId | None = None
