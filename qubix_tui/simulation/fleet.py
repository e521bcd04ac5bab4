"""A fleet of simulated providers: connected a few at a time, ticking spread over the period."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from qubix_tui.client import ConnectFailed, ConnectionState, check_url
from qubix_tui.protocol.types import to_timestamp
from qubix_tui.simulation.machine import Machine
from qubix_tui.simulation.provider import SimulatedProvider

CONNECTS_PER_SECOND: Final = 200
"""How fast the fleet arrives: a hub is meant to be looked at, not knocked over."""

SLICE_SECONDS: Final = 0.02
"""Providers whose turns come within this are served in one go: a timer each would cost too much."""

SCOUT_TIMEOUT_SECONDS: Final = 10.0
"""How long the first provider may take to be registered."""

REPORT_EVERY_SECONDS: Final = 30.0


class SimulationRefused(Exception):
    """The fleet can't be simulated on that hub; the message says why, and what would help.

    Args:
        message: One sentence.
        unreachable: True where no hub answered.
    """

    def __init__(self, message: str, *, unreachable: bool = False) -> None:
        super().__init__(message)
        self.unreachable = unreachable


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulationReport:
    """How the fleet is doing; as text, one line."""

    providers: int
    registered: int
    samples: int
    """Sent since the start."""
    samples_per_second: float
    """Since the last report."""
    slipped_seconds: float
    """How long the ticks stood still since the start because this machine could not keep up."""

    def __str__(self) -> str:
        text = (
            f"{self.registered} of {self.providers} registered, "
            f"{self.samples_per_second:.1f} samples/s, {self.samples} in all"
        )
        return f"{text}, {self.slipped_seconds:.1f} s behind" if self.slipped_seconds >= 0.1 else text


async def simulate(
    url: str,
    token: str | None,
    *,
    providers: int,
    hz: float,
    seed: int,
    stop: asyncio.Event,
    report: Callable[[SimulationReport], None],
) -> None:
    """Simulate a fleet on a hub until ``stop`` is set; then all of it leaves.

    Args:
        url: The hub's address.
        token: An operator's token; the hub lets nobody else register simulated providers.
        providers: How many there are.
        hz: Samples a second, of each.
        seed: Which fleet; the same seed gives the same one.
        stop: Set to end it.
        report: Called when the fleet is complete, now and then, and at the end.

    Raises:
        BadUrl: ``url`` can't be dialled.
        SimulationRefused: No hub answers there, or it does not take simulated providers from this token.
    """
    check_url(url, token=token)
    await _Simulation(url, token, providers, hz, seed, report).run(stop)


class _Simulation:
    def __init__(
        self,
        url: str,
        token: str | None,
        providers: int,
        hz: float,
        seed: int,
        report: Callable[[SimulationReport], None],
    ) -> None:
        self._period = 1 / hz
        self._report = report
        self._fleet = [
            SimulatedProvider(Machine(seed, index, self._period), url, token, refused=self._refuse)
            for index in range(providers)
        ]
        self._refusal: SimulationRefused | None = None
        self._is_refused = asyncio.Event()
        self._slipped = 0.0
        self._reported_at, self._reported_samples = time.monotonic(), 0

    async def run(self, stop: asyncio.Event) -> None:
        work = (self._oversee(), self._tick(), self._is_refused.wait(), stop.wait())
        tasks = [asyncio.create_task(part) for part in work]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if stop.is_set():
                self._say()
            await asyncio.gather(*(provider.close() for provider in self._fleet))
        if self._refusal is not None:
            raise self._refusal
        for task in done:
            task.result()

    def _refuse(self, sentence: str, *, unreachable: bool = False) -> None:
        self._refusal = self._refusal or SimulationRefused(sentence, unreachable=unreachable)
        self._is_refused.set()

    async def _oversee(self) -> None:
        """Let the fleet arrive, one ahead of the rest; then report now and then."""
        await self._send_one_ahead(self._fleet[0])
        batch = max(1, round(CONNECTS_PER_SECOND * SLICE_SECONDS))
        for first in range(1, len(self._fleet), batch):
            for provider in self._fleet[first : first + batch]:
                await provider.start()
            await asyncio.sleep(batch / CONNECTS_PER_SECOND)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REPORT_EVERY_SECONDS):
                for provider in self._fleet:
                    with contextlib.suppress(ConnectFailed):  # it is away already
                        await provider.connection.wait_open(REPORT_EVERY_SECONDS)
        while True:
            self._say()
            await asyncio.sleep(REPORT_EVERY_SECONDS)

    async def _send_one_ahead(self, scout: SimulatedProvider) -> None:
        """See by one provider whether the hub is there and takes it: a thousand would ask no better."""
        connection = scout.connection
        failed = asyncio.Event()

        def notice(state: ConnectionState) -> None:
            if state is ConnectionState.RECONNECTING:
                failed.set()

        forget = connection.on_state(notice)
        await scout.start()
        opening = asyncio.create_task(connection.wait_open(SCOUT_TIMEOUT_SECONDS))
        failing = asyncio.create_task(failed.wait())
        try:
            await asyncio.wait({opening, failing}, return_when=asyncio.FIRST_COMPLETED)
            if failed.is_set():
                self._refuse(connection.last_error or "no hub answers there", unreachable=True)
            else:
                await opening
        except ConnectFailed as error:
            self._refuse(str(error), unreachable=error.unreachable)
        finally:
            forget()
            opening.cancel()
            failing.cancel()
            await asyncio.gather(opening, failing, return_exceptions=True)

    async def _tick(self) -> None:
        """Let every provider have its turn once a period, evenly spread, by one timer."""
        count = len(self._fleet)
        slices = max(1, min(count, round(self._period / SLICE_SECONDS)))
        groups = [
            self._fleet[part * count // slices : (part + 1) * count // slices] for part in range(slices)
        ]
        due = time.monotonic()
        while True:
            for group in groups:
                sampled_at = to_timestamp(time.time())
                for provider in group:
                    provider.tick(sampled_at)
                due += self._period / slices
                now = time.monotonic()
                if now - due > self._period:
                    # Behind by a whole period: those ticks are let go, a burst would only repeat the past.
                    self._slipped += now - due
                    due = now
                await asyncio.sleep(max(0.0, due - now))

    def _say(self) -> None:
        now, samples = time.monotonic(), sum(provider.samples for provider in self._fleet)
        elapsed = max(now - self._reported_at, 1e-9)
        self._report(
            SimulationReport(
                providers=len(self._fleet),
                registered=sum(provider.is_registered for provider in self._fleet),
                samples=samples,
                samples_per_second=(samples - self._reported_samples) / elapsed,
                slipped_seconds=self._slipped,
            )
        )
        self._reported_at, self._reported_samples = now, samples
