"""What hubs that share an engine tell one another: so that a client of any sees what clients of all see.

What is stored goes through the engine's log. The rest is here, and may get lost, for it is soon out of date:
samples, which go to the hubs that want them; headlines, which go to all; and what only one hub remembers, the
last minutes of its providers, which others ask it for.

A hub that is alone does nothing of this.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, Final

from qubix_tui.hub import framing, snapshots
from qubix_tui.hub.clock import Clock
from qubix_tui.hub.engine.cluster import Cluster
from qubix_tui.hub.fanout import Fanout
from qubix_tui.hub.history import History
from qubix_tui.hub.peer_headlines import HEARD_SECONDS, HeadlineFeed, take_words
from qubix_tui.hub.peer_messages import (
    Answer,
    Batch,
    Filled,
    ForeignMessage,
    Headlines,
    Message,
    Question,
    Wants,
    decode,
    encode,
)
from qubix_tui.hub.peer_questions import Questions
from qubix_tui.hub.peer_samples import SampleBatches
from qubix_tui.hub.peer_wants import RENEW_SECONDS, ForeignWants, OwnWants
from qubix_tui.hub.provider_state import Entry
from qubix_tui.hub.registry import Registry
from qubix_tui.hub.snapshots import Past
from qubix_tui.protocol import channels, events

ROUND_SECONDS: Final = HEARD_SECONDS
"""How often it looks at what is new."""

STALL_SECONDS: Final = 2.0
"""A round that comes so long after the last was held up with the whole hub."""

EXPIRY_SECONDS: Final = 1.0
"""How often it looks at what others have not said for long."""

_logger = logging.getLogger("qubix.hub.peers")


class Traffic:
    """What went to other hubs and came from them, beside the log."""

    __slots__ = ("bytes_received", "bytes_sent", "messages_received", "messages_sent")

    def __init__(self) -> None:
        self.messages_sent = 0
        self.messages_received = 0
        self.bytes_sent = 0
        self.bytes_received = 0


def show_past(fanout: Fanout, entry: Entry, past: Past) -> None:
    """Send what is remembered of a provider to those who watch it here."""
    for frame in snapshots.provider(entry.id, entry, past):
        fanout.publish(events.MARKETPLACE_UPDATE, entry.channel, frame)


class Peers:
    """The other hubs, as one of them talks with them.

    Args:
        cluster: Which there are, and how they are reached; its engine is not open yet.
        registry: The providers of all of them.
        fanout: Who hears what here.
        history: The last minutes of the providers that were here.
        clock: When things happen.
        spawn: Runs something that nobody waits for.
    """

    def __init__(
        self,
        *,
        cluster: Cluster,
        registry: Registry,
        fanout: Fanout,
        history: History,
        clock: Clock,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._cluster = cluster
        self._registry = registry
        self._fanout = fanout
        self._history = history
        self._clock = clock
        self._spawn = spawn
        self.traffic = Traffic()
        self._foreign = ForeignWants()
        self._batches = SampleBatches(self._send)
        self._questions = Questions(self.recall, self._send)
        self._feed = HeadlineFeed(registry, cluster, clock, self._foreign.hears_marketplace, self._send)
        self._own: OwnWants | None = None
        self._renewed_at = self._expired_at = self._round_at = float("-inf")
        self._awake = asyncio.Event()
        self._rounds: asyncio.Task[None] | None = None
        self._warned: set[str] = set()
        cluster.receive(self.received)

    def start(self) -> None:
        """Begin, once the engine is open; a hub that nobody else can find does not."""
        if self._cluster.node is not None:
            self._own = OwnWants(self._fanout, self._places, self._others, self._send)
            self._rounds = asyncio.get_running_loop().create_task(self._run(), name="hub peers")

    async def close(self) -> None:
        """Say no more, and listen no more; nobody waits for an answer any more."""
        self._own = None
        if self._rounds is not None:
            self._rounds.cancel()
            await asyncio.gather(self._rounds, return_exceptions=True)
        self._questions.close()

    # What this hub's own parts use

    def wanting(self, provider_id: str) -> Collection[str]:
        """Give the hubs that want the samples of a provider of this one."""
        return self._foreign.wanting(provider_id)

    def send_sample(self, nodes: Collection[str], provider_id: str, data: bytes) -> None:
        """Send a sample to some hubs: the ``data`` of its GPU_METRICS_UPDATE, as JSON."""
        self._batches.add(nodes, provider_id, data)

    def moved(self, provider_id: str) -> None:
        """A provider has another hub than before, or none."""
        if self._own is not None:
            self._own.moved(provider_id)

    def filled(self, provider_id: str) -> None:
        """A gap in the past of a provider of this hub was filled: who watches it elsewhere is to see that."""
        for node in self._foreign.wanting(provider_id):
            self._send(node, Filled(provider_id))

    def holder(self, provider_id: str) -> str | None:
        """Give the hub that remembers a provider's last minutes; None where that is this one, or gone."""
        entry = self._registry.get(provider_id)
        if entry is None or entry.stored.node == self._cluster.node:
            return None
        for node in (entry.stored.node, entry.told_by):
            if node is not None and node != self._cluster.node and self._cluster.is_live(node):
                return node
        return None

    def recall(self, provider_id: str, with_points: bool = True) -> Past:
        """Give what this hub remembers of a provider."""
        entry = self._registry.get(provider_id)
        return Past(
            last=None if entry is None else entry.last_sample(),
            points=self._history.points(provider_id) if with_points else [],
        )

    async def ask(self, node: str, provider_id: str, *, with_points: bool = True) -> Past | None:
        """Give what another hub remembers of a provider; None where it does not say within a second."""
        return await self._questions.ask(node, provider_id, with_points=with_points)

    async def past(self, provider_id: str, *, with_points: bool = True) -> Past:
        """Give what is remembered of a provider where it is; what is known here if that can't be had."""
        node = self.holder(provider_id)
        told = None if node is None else await self.ask(node, provider_id, with_points=with_points)
        return told or self.recall(provider_id, with_points)

    # What other hubs say

    def received(self, node: str, raw: bytes) -> None:
        """Take a message of another hub. What is none is dropped."""
        self.traffic.messages_received += 1
        self.traffic.bytes_received += len(raw)
        if self._own is None:
            return
        try:
            self._take(node, decode(raw), self._own)
        except ForeignMessage as error:
            self._warn(node, f"what hub {node} says is not understood: {error}")
        except Exception:
            _logger.exception("a message of hub %s was not handled", node)

    def _take(self, node: str, message: Message, own: OwnWants) -> None:
        match message:
            case Batch(samples):
                self._take_samples(node, samples)
            case Headlines(words):
                take_words(self._registry, node, words)
            case Wants():
                self._take_wants(node, message, own)
            case Question():
                self._questions.answer(node, message)
            case Answer():
                self._questions.answered(node, message)
            case Filled(provider_id):
                self._spawn(self._show_filled(node, provider_id))

    def _take_samples(self, node: str, samples: Sequence[tuple[str, bytes]]) -> None:
        for provider_id, data in samples:
            entry = self._registry.get(provider_id)
            # One that has moved on meanwhile has newer samples than those that its old hub still sent.
            if entry is not None and entry.stored.node != node:
                continue
            channel = channels.provider_channel(provider_id) if entry is None else entry.channel
            if self._fanout.is_heard(channel):
                frame = framing.event_frame(events.GPU_METRICS_UPDATE, data, channel)
                self._fanout.publish(events.GPU_METRICS_UPDATE, channel, frame, subject=channel)

    def _take_wants(self, node: str, wants: Wants, own: OwnWants) -> None:
        if not self._foreign.knows(node):
            own.greet(node)
        if self._foreign.take(node, wants, self._clock.monotonic()):
            self._feed.restart(node)
            self._awake.set()

    async def _show_filled(self, node: str, provider_id: str) -> None:
        entry = self._registry.get(provider_id)
        if entry is not None and self._fanout.is_heard(entry.channel):
            past = await self.ask(node, provider_id)
            if past is not None:
                show_past(self._fanout, entry, past)

    def _warn(self, node: str, words: str) -> None:
        if node not in self._warned:
            self._warned.add(node)
            _logger.warning("%s", words)

    # What this hub says

    async def round(self) -> None:
        """Say what is due, and forget what others have not said for long."""
        own = self._own
        if own is None:
            return
        now = self._clock.monotonic()
        if now - self._round_at >= STALL_SECONDS:
            self._foreign.excuse(now)
        self._round_at = now
        if now - self._expired_at >= EXPIRY_SECONDS:
            self._expired_at = now
            self._foreign.expire(now, [node.id for node in self._cluster.nodes])
            self._warned &= set(self._others())
        if now - self._renewed_at >= RENEW_SECONDS:
            self._renewed_at = now
            own.renew()
        await self._feed.tell(self._others())

    async def _run(self) -> None:
        while True:
            self._awake.clear()
            try:
                await self.round()
            except Exception:
                _logger.exception("other hubs were not told what is new")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ROUND_SECONDS):
                    await self._awake.wait()

    def _others(self) -> Collection[str]:
        """Give the other hubs: those that are alive, and those that still speak, or already."""
        known = dict.fromkeys([node.id for node in self._cluster.nodes]) | dict.fromkeys(self._foreign.nodes)
        known.pop(self._cluster.node or "", None)
        return known

    def _places(self, provider_id: str) -> frozenset[str]:
        """Give the other hubs that may have samples of a provider; all of them where it is not known."""
        entry = self._registry.get(provider_id)
        if entry is None:
            return frozenset(self._others())
        node = entry.stored.node
        return frozenset() if node is None or node == self._cluster.node else frozenset({node})

    def _send(self, node: str, message: Message) -> None:
        raw = encode(message)
        self.traffic.messages_sent += 1
        self.traffic.bytes_sent += len(raw)
        self._cluster.send(node, raw)
