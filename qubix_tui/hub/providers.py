"""What the registry decides, done: stored, published, and told to the connections it concerns.

Whatever may change a provider's record happens in turn for that provider: decide, commit, apply, with nothing
of the same provider in between. Where another hub was faster, it is decided anew. Samples and signs of life
change no record and wait for nobody, unless one ends a silence.
"""

import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from qubix_tui.hub.access import Access, Identity
from qubix_tui.hub.backfill import Backfill
from qubix_tui.hub.clock import Clock
from qubix_tui.hub.duplicates import REASON, Duplicates
from qubix_tui.hub.engine.base import Change, Engine, EngineUnavailable, NewEvent, settled
from qubix_tui.hub.fanout import Fanout
from qubix_tui.hub.history import WINDOW_SECONDS, History
from qubix_tui.hub.keyed_locks import KeyedLocks
from qubix_tui.hub.peers import Peers
from qubix_tui.hub.provider_connection import ProviderConnection
from qubix_tui.hub.provider_state import (
    PROVIDERS_TABLE,
    SIMULATED_TABLE,
    Entry,
    Outcome,
    StoredProvider,
    removed_event,
    status_events,
)
from qubix_tui.hub.publisher import Publisher
from qubix_tui.hub.registry import DuplicateIdentity, Registry
from qubix_tui.hub.samples import Samples
from qubix_tui.protocol import events
from qubix_tui.protocol.errors import CloseCode, ErrorCode, ProtocolError
from qubix_tui.protocol.requests import Register, SetStatus
from qubix_tui.protocol.types import to_timestamp

SWEEP_BATCH = 200
"""Providers whose silence is dealt with in one commit."""

_logger = logging.getLogger("qubix.hub.providers")


class Providers:
    """The providers of one hub.

    Args:
        registry: The rules.
        engine: Where records live.
        publisher: How changes are stored and published.
        fanout: Who hears samples.
        history: The samples of the last minutes.
        access: Which token may be which provider.
        clock: When samples were received.
        spawn: Runs something that nobody waits for.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        engine: Engine,
        publisher: Publisher,
        fanout: Fanout,
        history: History,
        access: Access,
        clock: Clock,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self.registry = registry
        self.history = history
        self._engine = engine
        self._publisher = publisher
        self._fanout = fanout
        self.peers = Peers(
            cluster=engine.cluster,
            registry=registry,
            fanout=fanout,
            history=history,
            clock=clock,
            spawn=spawn,
        )
        self._access = access
        self._clock = clock
        self._spawn = spawn
        self._turns = KeyedLocks()
        self._duplicates = Duplicates(clock)
        self._backfill = Backfill(clock, registry, history, fanout, self.peers)
        self.samples = Samples(registry, history, self._backfill, fanout, self.peers, clock)
        self._connections: dict[str, ProviderConnection] = {}

    async def load(self) -> None:
        """Take over what the engine holds.

        Raises:
            EngineUnavailable: It can't be read.
            ProtocolError: It is not what a hub has written.
        """
        self.registry.load((await self._engine.load(PROVIDERS_TABLE)).values())
        simulated = await self._engine.load(SIMULATED_TABLE)
        if self._engine.cluster.node is not None:
            # Their hub may be alive, or they are on the way from one that has just ended to this one.
            self.registry.load(simulated.values())
        elif simulated:
            gone = simulated.keys()
            await self._publisher.commit(
                [Change(SIMULATED_TABLE, provider_id, None) for provider_id in gone],
                [removed_event(provider_id) for provider_id in gone],
            )

    def follow(self, changes: Sequence[Change]) -> None:
        """Know what another hub has written; a connection whose provider it has now is ended.

        Raises:
            ProtocolError: It is not what a hub has written.
        """
        for change in changes:
            if change.table in {PROVIDERS_TABLE, SIMULATED_TABLE}:
                entry = self.registry.follow(change.key, change.value)
                if change.value is None and entry is not None:
                    self.history.forget(entry.id)
                self._give_up(change.key)
                self.peers.moved(change.key)

    def _give_up(self, provider_id: str) -> None:
        """End the connection of a provider that is another hub's now, or no more."""
        connection, entry = self._connections.get(provider_id), self.registry.get(provider_id)
        if connection is None or (entry is not None and entry.stored.node == self._engine.cluster.node):
            return
        del self._connections[provider_id]
        connection.entry = None
        connection.end(CloseCode.REPLACED, "replaced by a newer session of this provider")

    async def register(self, connection: ProviderConnection, request: Register) -> events.Registered:
        """Make a connection the one that a provider publishes over.

        Raises:
            ProtocolError: ``conflict`` (`DuplicateIdentity` one of them), ``forbidden`` or ``too_large``.
            EngineUnavailable: The store did not take it.
        """
        provider_id = self.registry.provider_id(request)
        if connection.entry is not None and connection.entry.id != provider_id:
            raise ProtocolError(
                ErrorCode.CONFLICT,
                f"this connection is {connection.entry.id}'s; another provider needs a connection of its own",
                field="data.workerId",
            )
        async with self._turns.of(provider_id):
            holder = self.peers.holder(provider_id)
            stored = await settled(lambda: self._register(connection, provider_id, request))
        if holder is not None:
            self._spawn(self._fetch_past(provider_id, holder))
        if not connection.is_open:
            self.disconnected(connection, goodbye=False)
        return events.Registered(
            provider_id=provider_id,
            session=stored.session,
            last_sample_seconds_ago=self._backfill.missing_since(provider_id, holder),
        )

    async def _fetch_past(self, provider_id: str, holder: str) -> None:
        """Fill this hub's gap with what another one remembers, or else have its agent fill it."""
        is_fetched = await self._backfill.fetch(provider_id, holder)
        connection = self._connections.get(provider_id)
        if connection is not None and not is_fetched:
            wanted = events.BackfillWanted(seconds_ago=float(WINDOW_SECONDS))
            connection.reply(events.PROVIDER_BACKFILL, wanted, None)

    async def _register(
        self, connection: ProviderConnection, provider_id: str, request: Register
    ) -> StoredProvider:
        if not connection.is_open:
            # Its agent may be at another hub by now, where this would end its connection.
            raise ProtocolError(ErrorCode.CONFLICT, "the connection ended before its provider was registered")
        current = self._connections.get(provider_id)
        try:
            outcome = self.registry.register(request, same_connection=current is connection)
        except DuplicateIdentity:
            # Who shows another token is no clone, and does not get to worry anybody.
            is_clone = self._access.tokens.owner(provider_id) == connection.identity.token_id
            if is_clone and self._duplicates.seen(provider_id):
                await self._tell_standing([(provider_id, REASON)])
            raise
        claim = self._access.claim(connection.identity, request.worker_id, provider_id)
        with claim as (identity, bound):
            await self._publisher.commit(
                [*outcome.changes, *bound],
                outcome.events,
                lambda: self._take_over(connection, identity, outcome),
            )
        assert outcome.stored is not None
        return outcome.stored

    def turn(self, provider_id: str) -> AbstractAsyncContextManager[None]:
        """Wait for a provider's turn: within it nobody else decides anything about that provider."""
        return self._turns.of(provider_id)

    @property
    def connected(self) -> int:
        """How many publish over a connection to this very hub."""
        return len(self._connections)

    def connection(self, provider_id: str) -> ProviderConnection | None:
        """Give the connection that a provider publishes over, None where it has none now."""
        return self._connections.get(provider_id)

    def disconnected(self, connection: ProviderConnection, *, goodbye: bool) -> None:
        """A connection is gone.

        Args:
            connection: Any; most have no provider.
            goodbye: It was closed by its agent, and cleanly.
        """
        entry, connection.entry = connection.entry, None
        if entry is None or self._connections.get(entry.id) is not connection:
            return
        del self._connections[entry.id]
        self.registry.disconnected(entry)
        if goodbye or entry.stored.provider.simulated:
            self._spawn(self._change(entry, self.registry.goodbye))
        elif self._engine.cluster.node is not None:
            self._spawn(self._change(entry, self.registry.left))

    def heard(self, entry: Entry) -> None:
        """Note a sign of life, and bring a provider back that was taken for gone."""
        entry.heard = self._clock.monotonic()
        entry.heard_here = True
        if not entry.stored.provider.is_online and not self._turns.is_taken(entry.id):
            self._spawn(self._change(entry, self.registry.refresh))

    async def set_status(self, entry: Entry, request: SetStatus) -> None:
        """Pause, drain or resume a provider, as its owner wishes.

        Raises:
            ProtocolError: ``conflict``: it has registered at another hub meanwhile.
            EngineUnavailable: The store did not take it.
        """

        async def attempt() -> None:
            if entry.stored.node != self._engine.cluster.node:
                raise ProtocolError(ErrorCode.CONFLICT, f"{entry.id} is connected to another hub by now")
            outcome = self.registry.set_status(entry, request)
            if outcome is not None:
                await self._commit(outcome)

        async with self._turns.of(entry.id):
            await settled(attempt)

    async def remove(self, provider_id: str, note: Sequence[Change] = ()) -> None:
        """Forget a provider.

        Args:
            provider_id: Which.
            note: What is to be written beside that.

        Raises:
            ProtocolError: ``not_found``, or ``conflict`` while it is not offline.
            EngineUnavailable: The store did not take it.
        """
        async with self._turns.of(provider_id):
            await settled(lambda: self._commit(self.registry.remove(provider_id), note))

    def stalled(self, seconds: float) -> None:
        """The hub itself was held up until now: nobody's silence counts, and what it missed is asked for."""
        self.registry.stalled()
        if self._backfill.held_up(seconds):
            wanted = events.BackfillWanted(seconds_ago=seconds)
            for connection in self._connections.values():
                connection.reply(events.PROVIDER_BACKFILL, wanted, None)

    async def sweep(self) -> None:
        """Deal with the providers that have been silent too long, and with a store that has failed."""
        await self._publisher.probe()
        self.registry.note_nodes()
        self._backfill.show()
        await self._tell_standing([(gone, None) for gone in self._duplicates.take_gone()])
        overdue = [entry for entry in self.registry.overdue() if not self._turns.is_taken(entry.id)]
        for start in range(0, len(overdue), SWEEP_BATCH):
            await self._sweep_batch(overdue[start : start + SWEEP_BATCH])

    async def _tell_standing(self, reasons: Iterable[tuple[str, str | None]]) -> None:
        """Tell why providers that are there are worth a look; None takes it back."""
        told: list[NewEvent] = []
        for provider_id, reason in reasons:
            entry = self.registry.get(provider_id)
            if entry is not None and entry.state.is_online:
                now = to_timestamp(self._clock.time())
                told += status_events(entry.record(), reason or entry.stored.reason, now)
        if told:
            with contextlib.suppress(EngineUnavailable):
                await self._publisher.commit((), told)

    async def _sweep_batch(self, batch: list[Entry]) -> None:
        async with contextlib.AsyncExitStack() as turns:
            in_turn: list[Entry] = []
            for entry in batch:
                # Another batch's commit may have given time for it to be removed, or to come back.
                if not self._turns.is_taken(entry.id):
                    await turns.enter_async_context(self._turns.of(entry.id))
                    in_turn.append(entry)
            outcomes = await settled(lambda: self._refresh_all(in_turn))
        for outcome in outcomes:
            if outcome.stored is not None:
                _logger.info(
                    "%s is %s",
                    outcome.provider_id,
                    outcome.stored.provider.state,
                    extra={"provider": outcome.provider_id},
                )

    async def _refresh_all(self, entries: Sequence[Entry]) -> list[Outcome]:
        known = (entry for entry in entries if self.registry.get(entry.id) is entry)
        decided = (self.registry.refresh(entry) for entry in known)
        outcomes = [outcome for outcome in decided if outcome is not None]
        if outcomes:
            await self._publisher.commit(
                [change for outcome in outcomes for change in outcome.changes],
                [event for outcome in outcomes for event in outcome.events],
                lambda: self._apply_all(outcomes),
            )
        return outcomes

    async def _change(self, entry: Entry, decide: Callable[[Entry], Outcome | None]) -> None:
        """Decide and commit what nobody waits for. Where the store fails, a later sweep decides again."""

        async def attempt() -> None:
            outcome = decide(entry) if self.registry.get(entry.id) is entry else None
            if outcome is not None:
                await self._commit(outcome)

        async with self._turns.of(entry.id):
            try:
                await settled(attempt)
            except EngineUnavailable as error:
                _logger.error(
                    "the new state of %s was not stored: %s", entry.id, error, extra={"provider": entry.id}
                )

    async def _commit(self, outcome: Outcome, note: Sequence[Change] = ()) -> None:
        changes = [*outcome.changes, *note]
        await self._publisher.commit(changes, outcome.events, lambda: self._apply_all([outcome]))

    def _apply_all(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            self.registry.apply(outcome)
            if outcome.stored is None:
                self.history.forget(outcome.provider_id)
                self._give_up(outcome.provider_id)

    def _take_over(self, connection: ProviderConnection, identity: Identity, outcome: Outcome) -> None:
        """Apply a registration; whatever still comes over the provider's old connection is dropped."""
        entry = self.registry.registered(outcome)
        old = self._connections.get(entry.id)
        self._connections[entry.id] = connection
        self.peers.moved(entry.id)
        connection.entry = entry
        connection.identity = identity
        self._access.bind(identity, entry.stored.provider.worker_id)
        if old is not None and old is not connection:
            old.entry = None
            old.end(CloseCode.REPLACED, "replaced by a newer session of this provider")
