"""A provider as the hub keeps it, and what a decision about one is made of.

`qubix_tui.hub.registry` has the rules.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from qubix_tui.hub.clock import Clock
from qubix_tui.hub.engine.base import Change, NewEvent
from qubix_tui.protocol import channels, codec, events, marketplace
from qubix_tui.protocol.errors import ErrorCode, ProtocolError
from qubix_tui.protocol.records import Metrics, Provider, ProviderSpec, ProviderState, ProviderStatus
from qubix_tui.protocol.types import Timestamp, Wire, to_timestamp

MAX_RECORD_BYTES = 48 * 1024
"""A provider's record, encoded, when it registers: it must fit into one frame with room to spare."""

PROVIDERS_TABLE: Final = "providers"

SIMULATED_TABLE: Final = "simulated"
"""The simulated ones: gone with the hub that had their connections, which may have had no time to say so."""

SPEC_MEMBERS: Final = ProviderSpec.__struct_fields__
"""What a provider says of itself."""


class StoredProvider(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a store keeps of a provider."""

    provider: Provider
    session: int
    node: str | None = None
    """The hub that it registered at last, among those that share a store; None once that has seen its
    connection end."""
    instance: str | None = None
    """Of the agent that registered last."""
    paused: bool = False
    reason: str | None = None


class Entry:
    """A provider, as the hub knows it now."""

    __slots__ = (
        "_clock",
        "channel",
        "encoded_size",
        "headline",
        "heard",
        "heard_here",
        "heard_there",
        "id",
        "metrics",
        "metrics_at",
        "sample",
        "session_open",
        "stored",
        "told_by",
        "watched_from",
    )

    def __init__(self, stored: StoredProvider, encoded_size: int, clock: Clock) -> None:
        self._clock = clock
        self.id = stored.provider.id
        self.stored = stored
        self.encoded_size = encoded_size
        """Bytes of the record as JSON, at the most."""
        self.session_open = False
        """Whether the connection that registered last is open, and this hub's."""
        self.heard = clock.monotonic()
        """When it was last heard, here or as its hub says (monotonic)."""
        self.heard_here = False
        """Whether it was heard here since the hub's start, and by no other hub since."""
        self.heard_there = False
        """Whether another hub has told when it heard it, since the record was last stored."""
        self.watched_from = self.heard
        """Its silence counts from then on, at the earliest: its hub was found gone, say (monotonic)."""
        self.metrics: Metrics | None = None
        """Its newest sample; None where another hub has received that, or nobody has."""
        self.metrics_at = 0.0
        """When its newest sample was received, in seconds since the epoch."""
        self.sample = 0
        """The number of its newest sample among all that the hub received, or was told of; 0 for none."""
        self.told_by: str | None = None
        """The hub that has told of the newest sample; None where that came here."""
        self.headline: tuple[int, bytes] | None = None
        """The encoded headline of a sample, and that sample's number."""
        self.channel = channels.provider_channel(stored.provider.id)

    @property
    def state(self) -> ProviderState:
        """The provider's state."""
        return self.stored.provider.state

    def last_sample(self) -> events.MetricsUpdate | None:
        """Give the newest sample; None where it came elsewhere, or there is none."""
        if self.metrics is None:
            return None
        received = to_timestamp(self.metrics_at)
        return events.MetricsUpdate(provider_id=self.id, metrics=self.metrics, timestamp=received)

    def record(self) -> Provider:
        """Give the record with the time of the last message."""
        return self.with_heartbeat(self.stored.provider)

    def with_heartbeat(self, provider: Provider) -> Provider:
        """Give a record of this provider, now or from before, with the time of the last message."""
        if not self.heard_here and not self.heard_there:
            return provider
        heard_at = self._clock.time() - (self._clock.monotonic() - self.heard)
        return msgspec.structs.replace(provider, last_heartbeat=to_timestamp(heard_at))


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """A decision that has yet to be committed and applied."""

    provider_id: str
    stored: StoredProvider | None
    """What the provider is to be; None when it is to be no more."""
    encoded_size: int = 0
    changes: Sequence[Change] = ()
    events: Sequence[NewEvent] = ()


def status_events(provider: Provider, reason: str | None, timestamp: Timestamp) -> list[NewEvent]:
    """Give PROVIDER_STATUS_CHANGED for the marketplace and for the provider's own channel."""
    status = ProviderStatus(
        is_online=provider.is_online,
        is_available=provider.is_available,
        state=provider.state,
        reason=reason,
        current_job_id=provider.current_job_id,
        last_heartbeat=provider.last_heartbeat,
    )
    changed = events.StatusChanged(provider_id=provider.id, status=status, timestamp=timestamp)
    data = codec.encode_record(changed)
    return [
        NewEvent(channel, events.PROVIDER_STATUS_CHANGED, data)
        for channel in (channels.MARKETPLACE, channels.provider_channel(provider.id))
    ]


def identity_of(spec: ProviderSpec) -> tuple[str, bool]:
    """What tells providers apart. A simulated one is never a real one, whatever its ``workerId``."""
    return spec.worker_id, spec.simulated


def provider_record(spec: ProviderSpec, *, state: ProviderState, **by_hub: str | None) -> Provider:
    """Put a record together from what the provider says and what the hub adds."""
    said = {name: getattr(spec, name) for name in SPEC_MEMBERS}
    return Provider(
        **said,
        state=state,
        is_online=state.is_online,
        is_available=state.is_available,
        **by_hub,  # type: ignore[arg-type]
    )


def active_state(provider: Provider) -> ProviderState:
    """Give the state of a provider that is there and not paused."""
    return ProviderState.AVAILABLE if provider.current_job_id is None else ProviderState.BUSY


def online_state(stored: StoredProvider) -> ProviderState:
    """Give the state of a provider that is there."""
    return ProviderState.PAUSED if stored.paused else active_state(stored.provider)


def new_event(channel: str, kind: str, data: Wire) -> NewEvent:
    """Encode an event that is to be committed."""
    return NewEvent(channel, kind, codec.encode_record(data))


def record_size(provider: Provider) -> int:
    """Give the bytes of a record as JSON."""
    return len(codec.encode_record(provider))


def check_size(provider: Provider) -> None:
    """Judge what a provider says of itself; what the hub adds may not make it too long one day.

    Raises:
        ProtocolError: ``too_large``: no frame could carry the record.
    """
    size = record_size(msgspec.structs.replace(provider, state=ProviderState.AVAILABLE, current_job_id=None))
    if size > MAX_RECORD_BYTES:
        raise ProtocolError(
            ErrorCode.TOO_LARGE,
            f"a provider's record has at most {MAX_RECORD_BYTES} bytes; this one has {size}: "
            "offer fewer workloads, or describe them more briefly",
            field="data",
        )


def make_outcome(stored: StoredProvider, published: Sequence[NewEvent]) -> Outcome:
    """Put a decision together."""
    return Outcome(
        provider_id=stored.provider.id,
        stored=stored,
        encoded_size=record_size(stored.provider),
        changes=(change_of(stored.provider, stored),),
        events=published,
    )


def change_of(provider: Provider, stored: StoredProvider | None) -> Change:
    """Give what is to be written for a provider: its record, or None when it is to be no more."""
    table = SIMULATED_TABLE if provider.simulated else PROVIDERS_TABLE
    return Change(table, provider.id, None if stored is None else codec.encode_record(stored))


def removed_event(provider_id: str) -> NewEvent:
    """Give the event that tells that a provider is no more."""
    removed = marketplace.ProviderRemoved(provider_id=provider_id)
    return new_event(channels.MARKETPLACE, events.MARKETPLACE_UPDATE, removed)
