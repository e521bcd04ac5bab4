"""What is answered about a job that waits, about tokens, and about the hub itself."""

from qubix_tui.protocol.tokens import Role
from qubix_tui.protocol.types import Amount, Count, Id, Name, Sentence, Timestamp, Wire


class MatchRule(Wire, frozen=True, kw_only=True):
    """One rule that a provider has to meet to get a job."""

    rule: Name
    passing: Count
    """Providers that meet it."""
    nearest: Sentence | None = None
    """The nearest miss, and what would change it."""


class Match(Wire, frozen=True, kw_only=True):
    """Answers ``job:why``: the providers that there are, rule by rule."""

    job_id: Id
    providers: Count
    """All that were looked at."""
    rules: list[MatchRule]


class Issued(Wire, frozen=True, kw_only=True):
    """Answers ``token:issue``: the only time that a token is ever shown."""

    token_id: Id
    token: Name


class TokenRecord(Wire, frozen=True, kw_only=True):
    """What is known of a token. The hub keeps its hash alone."""

    token_id: Id
    role: Role
    name: Name | None = None
    provider_id: Id | None = None
    """The provider that it is bound to."""
    worker_id: Id | None = None
    """The agent identity that goes with that provider."""
    created_at: Timestamp | None = None
    created_by: Name | None = None
    """Name or id of the token that made it; null for one that a file of the hub's machine holds."""
    revoked_at: Timestamp | None = None
    local: bool = False
    """It is in a file on a hub's machine; who wants it gone deletes the file."""
    connections: Count = 0
    """Connections to this very hub that show it now: each hub on a store counts its own."""


class Tokens(Wire, frozen=True, kw_only=True):
    """Answers ``token:list``, in pages."""

    tokens: list[TokenRecord]
    page: Count
    """From 1."""
    pages: Count


class AuditEntry(Wire, frozen=True, kw_only=True):
    """Something that was done, or refused, about who may do what."""

    at: Timestamp
    action: Name
    """What: ``token_issued``, ``token_revoked``, ``code_made``, ``enrolled``, ``provider_bound``,
    ``provider_removed`` or ``login_refused``."""
    who: Name | None = None
    """Name of the token that was shown, or the id of its provider."""
    token_id: Id | None = None
    """The token that was shown; null without one."""
    address: Name | None = None
    """Where it came from."""
    subject: Name | None = None
    """What it was done to: the id of a token or of a provider."""
    detail: Sentence | None = None


class Audit(Wire, frozen=True, kw_only=True):
    """Answers ``audit:list``, in pages, the newest entry first."""

    entries: list[AuditEntry]
    page: Count
    """From 1."""
    pages: Count


class Enrollment(Wire, frozen=True, kw_only=True):
    """Answers ``enroll:new``: a code that works once."""

    code: Name
    expires_at: Timestamp


class Enrolled(Wire, frozen=True, kw_only=True):
    """Answers ``enroll``: the agent's own token, bound to its provider."""

    token: Name
    provider_id: Id


class TypeCount(Wire, frozen=True, kw_only=True):
    """How many messages of one type."""

    type: Name
    count: Count


class HeldSubscriptions(Wire, frozen=True, kw_only=True):
    """How many hear the channels of one kind."""

    kind: Name
    """``marketplace``, ``provider:*`` or ``job:*``; ``provider:<id>`` and ``job:<id>`` stand for those of
    all single providers and jobs."""
    channels: Count
    """Different ones that somebody hears."""
    subscriptions: Count
    """Held by all connections together."""


class FlushBucket(Wire, frozen=True, kw_only=True):
    """Flushes of the fan-out that took no longer than a bound, and longer than the one before it."""

    seconds: Amount | None = None
    """The bound; null for what is beyond all."""
    count: Count


class HubNode(Wire, frozen=True, kw_only=True):
    """One of the hubs that share a store (extension), as it tells of itself once a second."""

    id: Id
    """A new one each time that it starts."""
    name: Name
    """Its machine and process."""
    version: Name
    started_at: Timestamp
    """By its own clock."""
    connections: Count
    """Open there, those that still shake hands included."""
    providers: Count
    """That publish over a connection to it."""
    received_per_second: Amount | None = None
    """Messages from its clients, as a mean of the last seconds; null before there is one."""
    sent_per_second: Amount | None = None
    """Deliveries to them, likewise."""
    lag_seconds: Amount | None = None
    """How long after the store it knew of the newest change; null while the store is away."""
    clock_skew_seconds: float | None = None
    """How far its clock is ahead of the store's; null while the store is away."""
    age_seconds: Amount
    """How old this word of it is."""
    is_this: bool = False
    """It is the hub that answers."""


class HubStatistics(Wire, frozen=True, kw_only=True):
    """Answers ``hub:stats``: what the hub itself does. Counters begin at 0 when it starts."""

    timestamp: Timestamp
    """The hub's clock."""
    version: Name
    epoch: Name
    """Of its history; it changes only when history is lost."""
    uptime_seconds: Amount
    connections: Count
    """Open now, those that still shake hands included."""
    max_connections: Count
    """How many it allows."""
    providers: Count
    """That it knows, whether online or not."""
    subscriptions: list[HeldSubscriptions] = []
    sent: list[TypeCount] = []
    """Deliveries: one for each client that a message went to."""
    received: list[TypeCount] = []
    sent_bytes: Count
    """Of frames, after the handshake."""
    received_bytes: Count
    flushes: list[FlushBucket] = []
    """How long it took to write what was published in the same moment to all who hear it."""
    flush_seconds: Amount
    """All flushes together."""
    slow_clients: Count
    """Cut because they did not read."""
    rate_limited: Count
    """Requests and connections that a limit refused."""
    auth_failures: Count
    """Tokens refused."""
    store_bytes: Count | None = None
    """What the store takes; null where it can't tell."""
    store_up: bool | None = None
    """Whether it takes changes; null from a hub that does not tell."""
    nodes: list[HubNode] = []
    """The hubs that share its store, itself among them, the oldest first, 100 at most (extension); none where
    it has a store of its own."""
