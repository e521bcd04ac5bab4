"""The newest of each provider, told to all other hubs: what a fleet's table shows, and when it was heard.

Each hub tells of the providers whose connections it has: what is newer than what it told that hub before,
some times a second where the marketplace is heard there, and else every five seconds. All of it goes to a hub
that is new, and from time to time to all of them, for a message may have got lost.

The lines are those of the fleet digest, encoded once per sample whoever asks.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final

import msgspec

from qubix_tui.hub.clock import Clock
from qubix_tui.hub.digest import encoded_headline
from qubix_tui.hub.engine.cluster import Cluster
from qubix_tui.hub.peer_messages import PIECE_BYTES, Headlines, Send, Word
from qubix_tui.hub.provider_state import Entry
from qubix_tui.hub.registry import Registry

HEARD_SECONDS: Final = 0.25
"""How often a hub is told whose clients hear the marketplace: soon enough for a digest each second."""

UNHEARD_SECONDS: Final = 5.0
"""How often any other hub is told."""

WHOLE_SECONDS: Final = 60.0
"""How often all is told, new or not."""

EARLY_SECONDS: Final = 0.1
"""A round that comes so much too early is not left out."""

_WORD_BYTES: Final = 90
"""What a word takes beside its headline, at the most."""


class _Since(msgspec.Struct, frozen=True):
    """Up to where a hub was told."""

    sample: int
    heard: float


_EVERYTHING: Final = _Since(0, float("-inf"))


class _Told:
    """What one hub was told."""

    __slots__ = ("at", "since", "whole_at")

    def __init__(self) -> None:
        self.since = _EVERYTHING
        self.at = float("-inf")
        self.whole_at = float("-inf")


class HeadlineFeed:
    """Tells other hubs of this hub's providers.

    Args:
        registry: Its providers.
        cluster: Says which hub it is.
        clock: When they were heard.
        hears: Whether a hub's clients hear the marketplace.
        send: Sends a message to a hub.
    """

    def __init__(
        self, registry: Registry, cluster: Cluster, clock: Clock, hears: Callable[[str], bool], send: Send
    ) -> None:
        self._registry = registry
        self._cluster = cluster
        self._clock = clock
        self._hears = hears
        self._send = send
        self._told: dict[str, _Told] = {}

    def restart(self, node: str) -> None:
        """Tell a hub everything, with the next round."""
        self._told.pop(node, None)

    async def tell(self, nodes: Collection[str]) -> None:
        """Tell those of some hubs whose time has come; all others are forgotten."""
        now = self._clock.monotonic()
        for gone in self._told.keys() - set(nodes):
            del self._told[gone]
        alike: dict[_Since, list[str]] = {}
        upto = _Since(self._registry.newest_sample, now)
        for node in nodes:
            told = self._told.setdefault(node, _Told())
            every = HEARD_SECONDS if self._hears(node) else UNHEARD_SECONDS
            if now - told.at < every - EARLY_SECONDS:
                continue
            if now - told.whole_at >= WHOLE_SECONDS:
                told.since, told.whole_at = _EVERYTHING, now
            alike.setdefault(told.since, []).append(node)
            told.since, told.at = upto, now
        for since, some in alike.items():
            for message in self._messages(since):
                for node in some:
                    self._send(node, message)
                # Ten thousand providers must not hold up the fan-out.
                await asyncio.sleep(0)

    def _messages(self, since: _Since) -> Iterator[Headlines]:
        words: list[Word] = []
        size = 0
        for entry in tuple(self._registry):
            if entry.stored.node != self._cluster.node or not (
                entry.sample > since.sample or (entry.heard_here and entry.heard > since.heard)
            ):
                continue
            word = self._word(entry, since)
            size += len(word.headline) + _WORD_BYTES
            if words and size > PIECE_BYTES:
                yield Headlines(words)
                words, size = [], len(word.headline) + _WORD_BYTES
            words.append(word)
        if words:
            yield Headlines(words)

    def _word(self, entry: Entry, since: _Since) -> Word:
        heard = _milliseconds(self._clock.monotonic() - entry.heard)
        if entry.sample <= since.sample:
            return Word(entry.id, heard, None, b"")
        return Word(
            entry.id,
            heard,
            _milliseconds(self._clock.time() - entry.metrics_at),
            encoded_headline(entry),
        )


def take_words(registry: Registry, node: str, words: Sequence[Word]) -> None:
    """Note what another hub has told of its providers; what it says of anybody else's is passed over."""
    for word in words:
        entry = registry.get(word.provider_id)
        if entry is not None and entry.stored.node == node:
            registry.heard_elsewhere(entry, word.heard / 1000)
            if word.sampled is not None:
                registry.sampled_elsewhere(entry, node, word.headline, word.sampled / 1000)


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))
