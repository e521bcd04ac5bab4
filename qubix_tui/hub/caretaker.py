"""Looks after clients that are silent, do not read, or do not say who they are; after providers, and jobs.

One sweep a second for all of them, in place of timers or tasks of their own. Every deadline counts from the
latest of what it is about, the hub's start, and the end of the hub's own last stall: a hub that was stopped,
or busy, for a minute has not heard anybody, and closes nobody for it.
"""

import asyncio
import logging
from typing import Protocol

from qubix_tui.hub.access import Identity
from qubix_tui.hub.clock import Clock
from qubix_tui.hub.engine.base import EngineUnavailable
from qubix_tui.hub.jobs import Jobs
from qubix_tui.hub.providers import Providers
from qubix_tui.protocol import PING_EVERY_SECONDS, SILENCE_TIMEOUT_SECONDS
from qubix_tui.protocol.errors import CloseCode
from qubix_tui.protocol.tokens import Role

SWEEP_SECONDS = 1.0
"""How often it looks at providers, at clients that do not read, and at those that are nobody yet."""

STALL_SECONDS = 2.0
"""A sweep that is later than this was held up with the whole hub."""

FINISH_SECONDS = 2.0
"""What the last sweep may take to store what it has decided, when the hub ends."""

UNREAD_SECONDS = 20.0
"""A client that takes nothing from its socket for so long is cut."""

AUTH_SECONDS = 10.0
"""How long a client may take to show a token where it can do nothing without one."""

_logger = logging.getLogger("qubix.hub")


class Client(Protocol):
    """What is looked at of a session."""

    identity: Identity
    opened_at: float
    heard: float
    """When its last message came (monotonic)."""
    reading_paused: bool
    """The hub does not read what it sends at the moment."""

    def end(self, code: int, reason: str) -> None:
        """Close it."""
        ...

    def unread(self) -> None:
        """Close it because it does not read."""
        ...


class Caretaker:
    """Looks after the clients and providers of one hub.

    Args:
        clock: What deadlines are measured with.
        providers: The providers.
        jobs: The jobs that they run.
    """

    def __init__(self, clock: Clock, providers: Providers, jobs: Jobs) -> None:
        self._clock = clock
        self._providers = providers
        self._jobs = jobs
        self.clients: set[Client] = set()
        """All with an open connection."""
        self._strangers: set[Client] = set()
        self._unread_since: dict[Client, float] = {}
        self._counted_from = self._looked_at = clock.monotonic()

    def opened(self, client: Client) -> None:
        """A client has connected."""
        self.clients.add(client)
        if client.identity.role is Role.NOBODY:
            self._strangers.add(client)

    def closed(self, client: Client) -> None:
        """A client's connection is gone."""
        self.clients.discard(client)
        self._strangers.discard(client)
        self._unread_since.pop(client, None)

    def writing_paused(self, client: Client, paused: bool) -> None:
        """A client's socket is full, or has room again."""
        if paused:
            self._unread_since[client] = self._clock.monotonic()
        else:
            self._unread_since.pop(client, None)

    def stalled(self, seconds: float) -> None:
        """The hub itself was held up until now, for so long. What was sent meanwhile is yet to be read."""
        self._counted_from = self._clock.monotonic()
        self._providers.stalled(seconds)
        self._jobs.stalled(seconds)

    async def sweep_for_ever(self) -> None:
        """Sweep every second."""
        loop = asyncio.get_running_loop()
        due = loop.time() + SWEEP_SECONDS
        # Clients are looked after however long the store takes with the states of providers and jobs.
        states: asyncio.Task[None] | None = None
        try:
            while True:
                await asyncio.sleep(due - loop.time())
                late = loop.time() - due
                if late > STALL_SECONDS:
                    _logger.warning("the hub was held up for %.1f s", late)
                    self.stalled(late)
                due = loop.time() + SWEEP_SECONDS
                self._sweep_clients()
                if states is None or states.done():
                    states = asyncio.create_task(self._sweep_states(), name="hub sweep of states")
        finally:
            if states is not None:
                # Broken off, what it has begun to store would be stored all the same, and others would decide
                # about the same providers and jobs before they know it.
                try:
                    await asyncio.wait([states], timeout=FINISH_SECONDS)
                finally:
                    states.cancel()
                await asyncio.gather(states, return_exceptions=True)

    async def sweep(self) -> None:
        """Look at everything once.

        Raises:
            EngineUnavailable: New states of providers or jobs were not stored; the next sweep tries again.
        """
        self._sweep_clients()
        await self._providers.sweep()
        await self._jobs.sweep()

    async def _sweep_states(self) -> None:
        for sweep in (self._providers.sweep, self._jobs.sweep):
            try:
                await sweep()
            except EngineUnavailable as error:
                _logger.error("new states of providers or jobs were not stored: %s", error)
            except Exception:
                _logger.exception("a sweep failed")

    def _sweep_clients(self) -> None:
        now = self._clock.monotonic()
        self._end_unread(now)
        self._end_strangers(now)
        if now - self._looked_at >= PING_EVERY_SECONDS:
            self._looked_at = now
            self._end_silent(now)

    def _end_unread(self, now: float) -> None:
        for client, since in tuple(self._unread_since.items()):
            if now - max(since, self._counted_from) >= UNREAD_SECONDS:
                client.unread()

    def _end_strangers(self, now: float) -> None:
        for client in tuple(self._strangers):
            if client.identity.role is not Role.NOBODY:
                self._strangers.discard(client)
            elif now - max(client.opened_at, self._counted_from) >= AUTH_SECONDS:
                client.end(CloseCode.UNAUTHENTICATED, f"not authenticated within {AUTH_SECONDS:.0f} s")

    def _end_silent(self, now: float) -> None:
        for client in tuple(self.clients):
            # What a client sent can't be known while the hub does not read it.
            silent = now - max(client.heard, self._counted_from) >= SILENCE_TIMEOUT_SECONDS
            if silent and not client.reading_paused:
                client.end(CloseCode.SILENT, f"silent for {SILENCE_TIMEOUT_SECONDS} s")
