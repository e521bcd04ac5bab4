"""Samples on their way to other hubs, some of them in one message.

As in the fan-out (`qubix_tui.hub.fanout`): a lone sample goes out at once, under load there is a message
each 10 ms. What comes meanwhile of the same provider takes the place of what waits.
"""

import asyncio
from collections.abc import Collection
from typing import Final

from qubix_tui.hub.peer_messages import PIECE_BYTES, Batch, Send

FLUSH_SECONDS: Final = 0.010
"""How far messages to one hub are apart, at the least, unless there is too much to wait."""

OVERHEAD_BYTES: Final = 80
"""What a sample takes in a message beside its ``data``, at the most."""


class _Waiting:
    """What waits for one hub."""

    __slots__ = ("bytes", "samples")

    def __init__(self) -> None:
        self.samples: dict[str, bytes] = {}
        self.bytes = 0


class SampleBatches:
    """Collects samples for each hub, and sends them.

    Args:
        send: Sends a message to a hub.
    """

    def __init__(self, send: Send) -> None:
        self._loop = asyncio.get_running_loop()
        self._send = send
        self._batches: dict[str, _Waiting] = {}
        self._flush_handle: asyncio.Handle | None = None
        self._flushed_at = -FLUSH_SECONDS

    def add(self, nodes: Collection[str], provider_id: str, data: bytes) -> None:
        """Send a sample to some hubs.

        Args:
            nodes: Which.
            provider_id: Whose sample it is.
            data: The ``data`` of its GPU_METRICS_UPDATE, as JSON.
        """
        for node in nodes:
            batch = self._batches.get(node)
            if batch is None:
                batch = self._batches[node] = _Waiting()
            unsent = batch.samples.pop(provider_id, None)
            if unsent is not None:
                batch.bytes -= len(unsent) + OVERHEAD_BYTES
            size = len(data) + OVERHEAD_BYTES
            if batch.samples and batch.bytes + size > PIECE_BYTES:
                self._send_batch(node, batch)
                batch = self._batches[node] = _Waiting()
            batch.samples[provider_id] = data
            batch.bytes += size
        if self._flush_handle is None:
            wait = self._flushed_at + FLUSH_SECONDS - self._loop.time()
            self._flush_handle = (
                self._loop.call_later(wait, self.flush) if wait > 0 else self._loop.call_soon(self.flush)
            )

    def flush(self) -> None:
        """Send all that waits."""
        if self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush_handle = None
        self._flushed_at = self._loop.time()
        batches, self._batches = self._batches, {}
        for node, batch in batches.items():
            self._send_batch(node, batch)

    def _send_batch(self, node: str, batch: _Waiting) -> None:
        self._send(node, Batch(list(batch.samples.items())))
