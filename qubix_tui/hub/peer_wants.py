"""Which hub wants to hear what of which other: said when it changes, and again every few seconds.

A want that is not said again is forgotten, and so are those of a hub that is gone. Nothing here depends on a
message to arrive: what gets lost is made up for by the next renewal.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import Final

from qubix_tui.hub.fanout import Fanout
from qubix_tui.hub.peer_messages import Send, Wants
from qubix_tui.protocol import channels

RENEW_SECONDS: Final = 3.0
"""How often a hub says again what it wants."""

FORGET_SECONDS: Final = 10.0
"""A want that was not said again for so long is none any more."""

GONE_SECONDS: Final = 2 * RENEW_SECONDS
"""A hub that is not alive, or not any more, and has said nothing for so long, is gone."""

PIECE: Final = 800
"""Ids in one message: not more than 64 KiB."""

_NOBODY: Final[frozenset[str]] = frozenset()
_PROVIDER: Final = channels.ALL_PROVIDERS.removesuffix("*")


class OwnWants:
    """What this hub's clients want to hear of other hubs.

    Args:
        fanout: Who hears what here.
        places: Gives the other hubs that may have samples of a provider.
        others: Gives the ids of all other hubs.
        send: Sends a message to one of them.
    """

    def __init__(
        self,
        fanout: Fanout,
        places: Callable[[str], frozenset[str]],
        others: Callable[[], Collection[str]],
        send: Send,
    ) -> None:
        self._fanout = fanout
        self._places = places
        self._others = others
        self._send = send
        self._told: dict[str, frozenset[str]] = {}
        """For each provider that somebody hears here, the hubs that were told so."""
        self._changed: dict[str, None] = {}
        self._told_all = False, False
        self._scheduled = False
        fanout.watch(self._heard_or_not)

    def moved(self, provider_id: str) -> None:
        """A provider's samples come from somewhere else from now on."""
        if provider_id in self._told:
            self._note(provider_id)

    def renew(self) -> None:
        """Say all of it again, to all hubs."""
        wanted: dict[str, list[str]] = {node: [] for node in self._others()}
        for provider_id in self._told:
            places = self._told[provider_id] = self._places(provider_id)
            for node in places:
                wanted.setdefault(node, []).append(provider_id)
        for node, providers in wanted.items():
            self._tell(node, providers, [])

    def greet(self, node: str) -> None:
        """Say all of it to a hub that is new."""
        providers = [provider_id for provider_id, places in self._told.items() if node in places]
        self._tell(node, providers, [])

    def _heard_or_not(self, channel: str) -> None:
        """Note that a channel has its first subscriber, or no subscriber any more."""
        if channel.startswith(_PROVIDER) and channel != channels.ALL_PROVIDERS:
            self._note(channel.removeprefix(_PROVIDER))
        elif channel in {channels.ALL_PROVIDERS, channels.MARKETPLACE}:
            self._schedule()

    def _note(self, provider_id: str) -> None:
        self._changed[provider_id] = None
        self._schedule()

    def _schedule(self) -> None:
        """Tell what has changed once this turn of the loop is over."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._tell_changes)

    def _tell_changes(self) -> None:
        self._scheduled = False
        changed, self._changed = self._changed, {}
        added: dict[str, list[str]] = {}
        dropped: dict[str, list[str]] = {}
        for provider_id in changed:
            told = self._told.pop(provider_id, _NOBODY)
            places = _NOBODY
            if self._fanout.subscribers(channels.provider_channel(provider_id)):
                places = self._told[provider_id] = self._places(provider_id)
            for node in places - told:
                added.setdefault(node, []).append(provider_id)
            for node in told - places:
                dropped.setdefault(node, []).append(provider_id)
        nodes = dict.fromkeys([*added, *dropped])
        if self._wants_all() != self._told_all:
            self._told_all = self._wants_all()
            nodes |= dict.fromkeys(self._others())
        for node in nodes:
            self._tell(node, added.get(node, []), dropped.get(node, []))

    def _wants_all(self) -> tuple[bool, bool]:
        return (
            self._fanout.subscribers(channels.ALL_PROVIDERS) > 0,
            self._fanout.subscribers(channels.MARKETPLACE) > 0,
        )

    def _tell(self, node: str, added: list[str], dropped: list[str]) -> None:
        everything, marketplace = self._wants_all()
        for start in range(0, max(len(added), len(dropped), 1), PIECE):
            end = start + PIECE
            self._send(node, Wants(everything, marketplace, added[start:end], dropped[start:end]))


class _Wishes:
    """What one other hub wants."""

    __slots__ = ("all_providers", "marketplace", "providers", "said")

    def __init__(self) -> None:
        self.said = 0.0
        self.all_providers = False
        self.marketplace = False
        self.providers: dict[str, float] = {}
        """When each was said last (monotonic)."""


class ForeignWants:
    """What other hubs want to hear of this one."""

    def __init__(self) -> None:
        self._wishes: dict[str, _Wishes] = {}
        self._by_provider: dict[str, frozenset[str]] = {}
        self._everything: frozenset[str] = _NOBODY

    def wanting(self, provider_id: str) -> Collection[str]:
        """Give the hubs that want the samples of a provider."""
        some = self._by_provider.get(provider_id)
        return self._everything if some is None else some | self._everything

    @property
    def nodes(self) -> Collection[str]:
        """The hubs that have said anything."""
        return self._wishes.keys()

    def knows(self, node: str) -> bool:
        """Whether a hub has said anything."""
        return node in self._wishes

    def hears_marketplace(self, node: str) -> bool:
        """Whether a hub wants headlines as soon as there are any."""
        wishes = self._wishes.get(node)
        return wishes is not None and wishes.marketplace

    def take(self, node: str, wants: Wants, now: float) -> bool:
        """Note what a hub wants.

        Args:
            node: The hub.
            wants: What it said.
            now: Monotonic time.

        Returns:
            Whether it is a new hub, or hears the marketplace and did not before.
        """
        wishes = self._wishes.get(node)
        new = wishes is None or (wants.marketplace and not wishes.marketplace)
        if wishes is None:
            wishes = self._wishes[node] = _Wishes()
        wishes.said = now
        wishes.marketplace = wants.marketplace
        if wishes.all_providers != wants.all_providers:
            wishes.all_providers = wants.all_providers
            self._everything ^= {node}
        for provider_id in wants.providers:
            if provider_id not in wishes.providers:
                self._by_provider[provider_id] = self._by_provider.get(provider_id, _NOBODY) | {node}
            wishes.providers[provider_id] = now
        self._drop(node, wishes, wants.dropped)
        return new

    def expire(self, now: float, live: Collection[str]) -> None:
        """Forget what was not said again, and what hubs wanted that are not alive."""
        for node, wishes in tuple(self._wishes.items()):
            if now - wishes.said >= (FORGET_SECONDS if node in live else GONE_SECONDS):
                self.forget(node)
            else:
                long_ago = now - FORGET_SECONDS
                old = [provider_id for provider_id, said in wishes.providers.items() if said <= long_ago]
                self._drop(node, wishes, old)

    def excuse(self, now: float) -> None:
        """This hub was held up until now: what others said meanwhile is yet to be read."""
        for wishes in self._wishes.values():
            wishes.said = now
            wishes.providers = dict.fromkeys(wishes.providers, now)

    def forget(self, node: str) -> None:
        """Forget all that a hub wanted."""
        wishes = self._wishes.pop(node, None)
        if wishes is not None:
            self._drop(node, wishes, tuple(wishes.providers))
            self._everything -= {node}

    def _drop(self, node: str, wishes: _Wishes, provider_ids: Iterable[str]) -> None:
        for provider_id in provider_ids:
            if wishes.providers.pop(provider_id, None) is not None:
                rest = self._by_provider[provider_id] - {node}
                if rest:
                    self._by_provider[provider_id] = rest
                else:
                    del self._by_provider[provider_id]
