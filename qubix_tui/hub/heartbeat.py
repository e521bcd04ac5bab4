"""What a hub does all the time: it looks at its store, and tells the hubs that share it how it does."""

import asyncio
import logging
from typing import Final

from qubix_tui.hub.nodes import Nodes
from qubix_tui.hub.store_watch import StoreWatch

BEAT_SECONDS: Final = 0.25
"""How often it looks at the store: so much later, at the most, clients hear that it went away."""

BEATS_PER_WORD: Final = 4
"""Looks between two words to other hubs, which they are told once a second."""


_logger = logging.getLogger("qubix.hub")


class Heartbeat:
    """The heartbeat of one hub.

    Args:
        store: What is looked at.
        nodes: Tells the other hubs.
    """

    def __init__(self, store: StoreWatch, nodes: Nodes) -> None:
        self._store = store
        self._nodes = nodes
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, on the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._beat(), name="hub heartbeat")

    async def close(self) -> None:
        """End. Unstarted is no error."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _beat(self) -> None:
        beats = 0
        while True:
            try:
                await self._store.look()
                if beats % BEATS_PER_WORD == 0:
                    self._nodes.describe()
            except Exception:
                _logger.exception("the hub could not tell how it does")
            beats += 1
            await asyncio.sleep(BEAT_SECONDS)
