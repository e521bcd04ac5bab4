"""Gives queued jobs to providers, in rounds.

A round goes through the queue in the order in which the jobs came, and lets each have the best of the
providers that are still free. What comes while it runs is for the next one, which follows after a pause: at
most a fifth of the hub's time goes into it, however many jobs come, or wait in vain.

Where hubs share a store, their leader does it, for the providers of all.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from qubix_tui.hub.clock import Clock
from qubix_tui.hub.engine.base import EngineUnavailable
from qubix_tui.hub.engine.cluster import Cluster
from qubix_tui.hub.job_book import JobBook
from qubix_tui.hub.job_match import choose, eligible, order
from qubix_tui.hub.job_state import LiveJob
from qubix_tui.hub.provider_state import Entry
from qubix_tui.hub.providers import Providers
from qubix_tui.protocol import codec

PAUSE_FACTOR: Final = 4
"""How many times as long as a round took the pause after it is."""

SLICE_SECONDS: Final = 0.005
"""How long a round goes on before everybody else has a turn."""

_logger = logging.getLogger("qubix.hub.jobs")


class Matcher:
    """Gives jobs to providers.

    Args:
        book: The jobs.
        providers: The providers.
        clock: Which jobs wait for a delay to be over.
        cluster: Whether this hub is to do it.
        spawn: Runs something that nobody waits for.
        assigned: Called with each job that was given to a provider, once that is stored.
    """

    def __init__(
        self,
        book: JobBook,
        providers: Providers,
        clock: Clock,
        cluster: Cluster,
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        assigned: Callable[[LiveJob], None],
    ) -> None:
        self._book = book
        self._providers = providers
        self._clock = clock
        self._cluster = cluster
        self._spawn = spawn
        self._assigned = assigned
        self._wanted = False
        self._running = False
        # Jobs that are being given to a provider, each with that provider.
        self._placing: dict[str, str] = {}

    def wake(self) -> None:
        """Look again: a job, or a provider, may have become ready."""
        if not self._book.queue or not self._cluster.leads:
            return
        self._wanted = True
        if not self._running:
            self._running = True
            self._spawn(self._run())

    async def _run(self) -> None:
        try:
            while self._wanted:
                self._wanted = False
                spent = await self._round()
                if self._wanted:
                    await asyncio.sleep(spent * PAUSE_FACTOR)
        finally:
            self._running = False

    async def _round(self) -> float:
        """Go through the queue once; gives the seconds that it took of the event loop."""
        began = slice_began = time.perf_counter()
        paused = 0.0
        free = self._free()
        chosen: set[str] = set()
        fitting: dict[bytes, list[Entry]] = {}
        now = self._clock.time()
        for live in tuple(self._book.queue.values()):
            if len(chosen) == len(free):
                break
            if live.id in self._placing or live.stored.not_before > now:
                continue
            entry = self._choose(live, free, fitting, chosen)
            if entry is not None:
                chosen.add(entry.id)
                self._placing[live.id] = entry.id
                self._spawn(self._place(live, entry.id))
            if time.perf_counter() - slice_began > SLICE_SECONDS:
                before = time.perf_counter()
                await asyncio.sleep(0)
                slice_began = time.perf_counter()
                paused += slice_began - before
        return time.perf_counter() - began - paused

    def _free(self) -> list[Entry]:
        """Give the providers that could take a job, in the order in which they are to be tried."""
        busy = set(self._placing.values())
        registry = self._providers.registry
        free = [
            entry
            for entry in registry
            if entry.state.is_available and entry.id not in busy and registry.is_connected(entry)
        ]
        return sorted(free, key=lambda entry: order(self._book.track_record(entry.id), entry.stored.provider))

    def _choose(
        self, live: LiveJob, free: list[Entry], fitting: dict[bytes, list[Entry]], chosen: set[str]
    ) -> Entry | None:
        """Choose for one job. What jobs ask for is often the same, and is looked at once for all of them."""
        job = live.stored.job
        wants = codec.encode_record((job.workload, job.requires))
        if wants not in fitting:
            fitting[wants] = eligible(job, free, self._providers.registry.is_connected)
        return choose(live.stored, (entry for entry in fitting[wants] if entry.id not in chosen))

    async def _place(self, live: LiveJob, provider_id: str) -> None:
        try:
            if await self._book.assign(live.id, provider_id) is not None:
                self._assigned(live)
        except EngineUnavailable as error:
            _logger.error("%s was not given to %s: %s", live.id, provider_id, error)
        finally:
            del self._placing[live.id]
