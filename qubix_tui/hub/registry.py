"""The rules about providers: who they are, what state they are in, and what has to be told when that changes.

A `Registry` decides and does nothing else: no sockets, no waiting, the time from a clock. A decision is an
`Outcome`: the records to store and the events to publish. The caller commits it and then, and only then,
hands it to `Registry.apply`. So what the registry shows is always what the store holds, and a commit that
fails leaves no trace. Between a decision and its `apply` there must be no other decision about the same
provider: the caller holds a lock per provider (`qubix_tui.hub.providers`). What is not stored, when a
provider was last heard and over which connection, is kept here and changes at once.

Deadlines count from the latest of a provider's last message, the hub's start, the end of the hub's own last
stall, and the moment at which the provider's hub was found gone.
"""

import msgspec

from qubix_tui.hub.engine.base import NewEvent
from qubix_tui.hub.provider_state import (
    SPEC_MEMBERS,
    Entry,
    Outcome,
    StoredProvider,
    active_state,
    change_of,
    check_size,
    identity_of,
    make_outcome,
    new_event,
    online_state,
    provider_record,
    removed_event,
    status_events,
)
from qubix_tui.hub.roster import Roster
from qubix_tui.protocol import channels, events, marketplace
from qubix_tui.protocol.errors import ErrorCode, ProtocolError
from qubix_tui.protocol.records import Provider, ProviderState
from qubix_tui.protocol.requests import Register, SetStatus
from qubix_tui.protocol.types import Timestamp, to_timestamp

UNREACHABLE_SECONDS = 15.0
"""A provider that was silent for so long is unreachable."""

OFFLINE_SECONDS = 45.0
"""A provider that was silent for so long is offline."""

CONFLICT_SECONDS = 15.0
"""A second agent with the same identity is refused while the first was heard within this time."""


class DuplicateIdentity(ProtocolError):
    """``conflict``: an agent with this identity is connected, and it is another one."""


class Registry(Roster):
    """All providers, and the rules about them."""

    def register(self, request: Register, *, same_connection: bool = False) -> Outcome:
        """Decide a registration.

        Args:
            request: What the agent says.
            same_connection: It comes over the connection that this provider already has.

        Raises:
            DuplicateIdentity: Another agent with this identity is alive.
            ProtocolError: ``conflict``: the id is another's. ``too_large``: the record is.
        """
        provider_id = self.provider_id(request)
        entry = self._entries.get(provider_id)
        if entry is None:
            return self._register_new(provider_id, request)
        if identity_of(entry.stored.provider) != identity_of(request):
            raise ProtocolError(
                ErrorCode.CONFLICT,
                f"the id {provider_id} belongs to another workerId; give this provider another name",
                field="data.workerId",
            )
        if not same_connection:
            self._check_duplicate(entry, request)
        return self._register_again(entry, request)

    def registered(self, outcome: Outcome) -> Entry:
        """Apply a registration: the provider's connection is now the one that it came over."""
        self.apply(outcome)
        entry = self._entries[outcome.provider_id]
        entry.session_open = True
        self.heard(entry)
        return entry

    def disconnected(self, entry: Entry) -> None:
        """The provider's connection is gone. Its state follows from its silence, or from `goodbye`."""
        entry.session_open = False

    def left(self, entry: Entry) -> Outcome | None:
        """Decide what other hubs have to know when a connection is gone: that the provider has none here.

        None where there are no others, or it has a new connection meanwhile.
        """
        if not self._has_left(entry):
            return None
        record = entry.record()
        return make_outcome(msgspec.structs.replace(entry.stored, provider=record, node=None), ())

    def goodbye(self, entry: Entry) -> Outcome | None:
        """Decide what follows from a clean end of a provider's connection, or any end of a simulated one's.

        A provider is offline, a simulated one is no more. None when it has a new connection meanwhile.
        """
        if entry.session_open or entry.stored.node != self._cluster.node:
            return None
        if entry.stored.provider.simulated:
            return self._removal(entry)
        if entry.state is ProviderState.OFFLINE:
            return None
        stored = msgspec.structs.replace(entry.stored, node=None)
        return self._status_outcome(entry.record(), stored, ProviderState.OFFLINE, "it said goodbye")

    def set_status(self, entry: Entry, request: SetStatus) -> Outcome | None:
        """Decide a wish of the provider's owner to pause, drain or resume; None when it changes nothing."""
        paused = request.paused or request.draining
        reason = request.reason if paused else None
        if paused and reason is None:
            reason = "paused by its owner" if request.paused else "draining"
        state = ProviderState.PAUSED if paused else active_state(entry.stored.provider)
        if (paused, reason, state) == (entry.stored.paused, entry.stored.reason, entry.state):
            return None
        stored = msgspec.structs.replace(entry.stored, paused=paused, reason=reason)
        return self._status_outcome(entry.record(), stored, state, reason)

    def hold(self, entry: Entry, job_id: str) -> Outcome:
        """Decide that a provider has a job from now on."""
        return self._with_job(entry, entry.stored, job_id)

    def release(self, entry: Entry, *, pause: str | None = None) -> Outcome:
        """Decide that a provider has no job any more.

        Args:
            entry: The provider.
            pause: Why it gets no other one until its owner resumes it, where that is so.
        """
        stored = entry.stored
        if pause is not None:
            stored = msgspec.structs.replace(stored, paused=True, reason=pause)
        return self._with_job(entry, stored, None)

    def remove(self, provider_id: str) -> Outcome:
        """Decide an operator's wish to remove a provider.

        Raises:
            ProtocolError: ``not_found``, or ``conflict`` while it is not offline.
        """
        entry = self._entries.get(provider_id)
        if entry is None:
            raise ProtocolError(
                ErrorCode.NOT_FOUND, f"there is no provider {provider_id}", field="data.providerId"
            )
        if entry.state is not ProviderState.OFFLINE:
            raise ProtocolError(
                ErrorCode.CONFLICT,
                f"{provider_id} is {entry.state}; only an offline provider can be removed: "
                "stop its agent first",
                field="data.providerId",
            )
        current = entry.stored.provider.current_job_id
        if current is not None:
            raise ProtocolError(
                ErrorCode.CONFLICT,
                f"{provider_id} may still run {current}; it can be removed when that job's lease is over",
                field="data.providerId",
            )
        return self._removal(entry)

    def overdue(self) -> list[Entry]:
        """Give the providers whose state has changed by silence, or by an end that could not be stored.

        `refresh` decides each.
        """
        now = self._clock.monotonic()
        return [
            entry
            for entry in self
            if self._has_gone(entry, now) or (entry.state.is_online and self._has_left(entry))
        ]

    def refresh(self, entry: Entry) -> Outcome | None:
        """Decide what a provider's silence, or a word from it after a silence, makes of its state.

        None where nothing changes, or another hub looks after it.
        """
        if not self.looks_after(entry):
            return None
        silence = self._silence(entry, self._clock.monotonic())
        if silence >= OFFLINE_SECONDS:
            if entry.stored.provider.simulated and not entry.session_open:
                return self._removal(entry)
            return self._to_state(entry, ProviderState.OFFLINE, f"no word for {OFFLINE_SECONDS:.0f}s")
        if silence >= UNREACHABLE_SECONDS:
            if not entry.state.is_online:
                return None
            return self._to_state(entry, ProviderState.UNREACHABLE, f"no word for {UNREACHABLE_SECONDS:.0f}s")
        if not entry.session_open:
            return self.left(entry)
        if entry.state.is_online:
            return None
        return self._to_state(entry, online_state(entry.stored), entry.stored.reason)

    def apply(self, outcome: Outcome) -> None:
        """Bring the registry up to what was committed."""
        self._put(outcome.provider_id, outcome.stored, outcome.encoded_size)

    def _now(self) -> Timestamp:
        return to_timestamp(self._clock.time())

    def _silence(self, entry: Entry, now: float) -> float:
        return now - max(entry.heard, entry.watched_from, self._counted_from)

    def _has_gone(self, entry: Entry, now: float) -> bool:
        if entry.state is ProviderState.OFFLINE:
            return False
        limit = UNREACHABLE_SECONDS if entry.state.is_online else OFFLINE_SECONDS
        return self._silence(entry, now) >= limit and self.looks_after(entry)

    def _has_left(self, entry: Entry) -> bool:
        """Whether others take a provider's connection for open that has ended here."""
        here = self._cluster.node
        return here is not None and not entry.session_open and entry.stored.node == here

    def _check_duplicate(self, entry: Entry, request: Register) -> None:
        if entry.stored.instance == request.instance:
            return
        silence = self._clock.monotonic() - entry.heard
        if entry.session_open and silence < CONFLICT_SECONDS:
            where = f"and was heard {silence:.0f}s ago"
        elif self.is_elsewhere(entry) and entry.state.is_online:
            # Its hub knows how long it has been silent, and would have said so.
            where = "at another hub"
        else:
            return
        raise DuplicateIdentity(
            ErrorCode.CONFLICT,
            f"duplicate identity: another agent with this workerId is connected as {entry.id} {where}; "
            "if this machine's disk is a copy of that one's, remove agent/worker-id from its QUBIX_HOME "
            "and enroll it anew",
            field="data.workerId",
            retry_after=CONFLICT_SECONDS,
        )

    def _register_new(self, provider_id: str, request: Register) -> Outcome:
        now = self._now()
        provider = provider_record(
            request, id=provider_id, state=ProviderState.AVAILABLE, registered_at=now, last_heartbeat=now
        )
        check_size(provider)
        stored = StoredProvider(
            provider=provider, session=1, node=self._cluster.node, instance=request.instance
        )
        event = new_event(channels.MARKETPLACE, events.PROVIDER_REGISTERED, provider)
        return make_outcome(stored, (event,))

    def _register_again(self, entry: Entry, request: Register) -> Outcome:
        old = entry.stored
        provider = provider_record(
            request,
            id=entry.id,
            state=online_state(old),
            current_job_id=old.provider.current_job_id,
            registered_at=old.provider.registered_at,
            last_heartbeat=self._now(),
        )
        check_size(provider)
        published: list[NewEvent] = []
        if any(getattr(provider, name) != getattr(old.provider, name) for name in SPEC_MEMBERS):
            update = marketplace.ProviderUpdated(provider=provider)
            published.append(new_event(channels.MARKETPLACE, events.MARKETPLACE_UPDATE, update))
        if provider.state is not entry.state:
            published.extend(status_events(provider, old.reason, self._now()))
        stored = msgspec.structs.replace(
            old,
            provider=provider,
            session=old.session + 1,
            node=self._cluster.node,
            instance=request.instance,
        )
        return make_outcome(stored, published)

    def _to_state(self, entry: Entry, state: ProviderState, reason: str | None) -> Outcome | None:
        if entry.state is state:
            return None
        return self._status_outcome(entry.record(), entry.stored, state, reason)

    def _with_job(self, entry: Entry, stored: StoredProvider, job_id: str | None) -> Outcome:
        record = msgspec.structs.replace(entry.record(), current_job_id=job_id)
        stored = msgspec.structs.replace(stored, provider=record)
        there = entry.state.is_online
        state = online_state(stored) if there else entry.state
        return self._status_outcome(record, stored, state, stored.reason if there else None)

    def _removal(self, entry: Entry) -> Outcome:
        return Outcome(
            provider_id=entry.id,
            stored=None,
            changes=(change_of(entry.stored.provider, None),),
            events=(removed_event(entry.id),),
        )

    def _status_outcome(
        self, record: Provider, stored: StoredProvider, state: ProviderState, reason: str | None
    ) -> Outcome:
        provider = msgspec.structs.replace(
            record, state=state, is_online=state.is_online, is_available=state.is_available
        )
        return make_outcome(
            msgspec.structs.replace(stored, provider=provider), status_events(provider, reason, self._now())
        )
