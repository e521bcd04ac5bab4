"""Sends what a hub was away, or stood still, for: as history, between live samples, never in their way."""

import asyncio
from typing import Final

import msgspec

from agent.backlog import Backlog, Kept
from qubix_tui.client import Connection

EVERY_SECONDS: Final = 0.1
"""Between two late samples: ten minutes of them take 12 s and a tenth of what a hub takes of one agent. A
hub that was restarted hears this of all its agents at once."""

METRICS: Final = "GPU_METRICS_UPDATE"


class LateSamples:
    """What is owed to the hub of one connection.

    Args:
        connection: Where they go.
        backlog: What was sampled lately.
    """

    def __init__(self, connection: Connection, backlog: Backlog) -> None:
        self._connection = connection
        self._backlog = backlog
        self._waiting: list[Kept] = []
        self._timer: asyncio.TimerHandle | None = None
        self._not_before = 0.0

    def begin(self) -> None:
        """Begin to send what is owed, unless that is under way or the hub is spared."""
        loop = asyncio.get_running_loop()
        if self._backlog.owes and self._timer is None and loop.time() >= self._not_before:
            self._waiting = self._backlog.take_owed(self._connection.hub_time())
            self._waiting.reverse()
            self._timer = loop.call_later(EVERY_SECONDS, self._send_next)

    def end(self) -> None:
        """Leave what was not sent for another time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._backlog.owe(self._waiting)
        self._waiting = []

    def spare(self, seconds: float) -> None:
        """Send none for so long."""
        self._not_before = asyncio.get_running_loop().time() + seconds
        self.end()

    def _send_next(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        kept = self._waiting[-1]
        data = {
            "metrics": msgspec.Raw(kept.payload),
            "late": True,
            "ageSeconds": self._backlog.age(kept),
        }
        if not self._connection.send(METRICS, data):
            self.end()
            return
        self._waiting.pop()
        if self._waiting:
            self._timer = asyncio.get_running_loop().call_later(EVERY_SECONDS, self._send_next)
