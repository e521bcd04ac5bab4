"""One simulated provider: a machine that speaks the wire of an agent over a connection of its own."""

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec

from qubix_tui.client import Connection, ConnectionState, Refused, RetryPolicy
from qubix_tui.protocol.errors import ErrorCode
from qubix_tui.protocol.events import GPU_METRICS_UPDATE
from qubix_tui.protocol.requests import PublishMetrics, Register, SetStatus
from qubix_tui.simulation.machine import Machine
from qubix_tui.simulation.workload import Mishap

RETRY: Final = RetryPolicy(attempts=None, jitter=(0.2, 5.0))
"""As an agent's, but a refused token ends it: the person who started the simulation is there to hear why."""

FINAL_REFUSALS: Final = frozenset({ErrorCode.FORBIDDEN, ErrorCode.UNAUTHENTICATED, ErrorCode.INVALID})
"""Errors of a registration that come again however often it is repeated."""

PAUSE_REASON: Final = "its owner uses it"


class SimulatedProvider:
    """Registers, publishes samples, pauses, falls silent, goes and comes back, as its machine does.

    Args:
        machine: What it is.
        url: The hub's address.
        token: An operator's token.
        refused: Called with a sentence when the hub does not take it and never will.
    """

    def __init__(
        self, machine: Machine, url: str, token: str | None, *, refused: Callable[[str], None]
    ) -> None:
        self.machine = machine
        self.samples = 0
        """How many samples were sent."""
        self._refused = refused
        self._connection = Connection(url, token=token, retry=RETRY, user_agent="qubix-simulate")
        self._connection.on_open(self._register)
        self._connection.on_state(self._notice)
        spec = msgspec.structs.asdict(machine.spec)
        self._registration = Register(**spec, instance=secrets.token_hex(8))
        self._is_paused = False
        self._moves: set[asyncio.Task[None]] = set()

    @property
    def connection(self) -> Connection:
        """Its connection to the hub."""
        return self._connection

    @property
    def is_registered(self) -> bool:
        """Whether the hub has it now."""
        return self._connection.state is ConnectionState.OPEN

    async def start(self) -> None:
        """Begin to connect."""
        await self._connection.start()

    async def close(self) -> None:
        """Go for good."""
        for move in tuple(self._moves):
            move.cancel()
        await self._connection.close()

    def tick(self, sampled_at: str) -> None:
        """Let one tick pass: the machine moves on, and the hub hears what it would hear of it."""
        before = self.machine.mishap
        self.machine.advance()
        mishap = self.machine.mishap
        if mishap is not before:
            self._follow(before, mishap)
        if not self.is_registered or mishap in {Mishap.SILENT, Mishap.AWAY}:
            return
        metrics = PublishMetrics(metrics=self.machine.metrics(sampled_at))
        if self._connection.send(GPU_METRICS_UPDATE, metrics):
            self.samples += 1

    def _follow(self, before: Mishap | None, mishap: Mishap | None) -> None:
        if mishap is Mishap.AWAY:
            self._move(self._connection.close())
        elif before is Mishap.AWAY:
            self._move(self._connection.start())
        self._tell_pause()

    def _move(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(coroutine)
        self._moves.add(task)
        task.add_done_callback(self._moves.discard)

    def _tell_pause(self) -> None:
        is_paused = self.machine.mishap is Mishap.PAUSED
        if is_paused is self._is_paused:
            return
        status = SetStatus(paused=is_paused, reason=PAUSE_REASON if is_paused else None)
        if self._connection.send("provider:status", status):
            self._is_paused = is_paused

    async def _register(self) -> None:
        try:
            await self._connection.request("provider:register", self._registration)
        except Refused as error:
            if error.code is ErrorCode.CONFLICT:
                self._refused(f"{error.message} (is another simulation with the same seed running?)")
            elif error.code in FINAL_REFUSALS:
                self._refused(f"the hub does not take simulated providers from here: {error.message}")
            raise

    def _notice(self, state: ConnectionState) -> None:
        if state is ConnectionState.OPEN:
            # A simulated provider is gone with its connection, and its pause with it.
            self._is_paused = False
            self._tell_pause()
        elif state is ConnectionState.DISCONNECTED:
            self._refused(self._connection.last_error or "the connection was given up")
