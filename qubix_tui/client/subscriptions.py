"""What a connection is subscribed to and how far each channel has been heard. Pure: no sockets, no clock."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from qubix_tui.protocol import channels
from qubix_tui.protocol.events import Event, Subscribed
from qubix_tui.protocol.marketplace import FleetSnapshot, JobSnapshot, JobsSnapshot, ProviderSnapshot
from qubix_tui.protocol.requests import (
    SUBSCRIBE_JOB,
    SUBSCRIBE_MARKETPLACE,
    SUBSCRIBE_PROVIDER,
    SubscribeOptions,
)


class Position(NamedTuple):
    """How far a channel was heard. ``offset`` is None on a channel that counts none."""

    epoch: str | None
    offset: int | None


@dataclass(slots=True)
class Subscription:
    """One channel: what its watchers want of it, and how far it was heard."""

    channel: str
    watchers: int = 0
    snapshot: bool = False
    digest: float | None = None
    recover: bool = False
    position: Position | None = None
    """None until the hub has confirmed it once."""
    confirmed: bool = False
    """Whether the hub confirmed it on the connection of now."""
    snapshots_due: int = 0
    """How many snapshots were asked for and have not come whole."""


class Ask(NamedTuple):
    """One ``subscribe:…`` to send: its type, subscriptionId and data."""

    type: str
    subscription_id: str | None
    options: SubscribeOptions


class Subscriptions:
    """Counts watchers per channel, and knows what to ask for now and after a reconnect.

    Watchers of one channel share one subscription, with what any of them wanted: a snapshot if one did, the
    finest digest. It ends when the last one leaves.
    """

    def __init__(self) -> None:
        self._by_channel: dict[str, Subscription] = {}

    def __contains__(self, channel: str) -> bool:
        return channel in self._by_channel

    def __iter__(self) -> Iterator[Subscription]:
        return iter(tuple(self._by_channel.values()))

    def add(self, channel: str, *, snapshot: bool, digest: float | None, recover: bool) -> Ask | None:
        """Count one watcher more.

        Gives what has to be sent for it on an open connection: None where the subscription that is there
        serves it too. A watcher that wants a snapshot always needs one of its own.

        Raises:
            ValueError: ``channel`` is no channel key, or a digest was asked of one that has none.
        """
        if not channels.is_channel(channel):
            raise ValueError(
                f"{channel!r} is no channel; "
                "expected marketplace, provider:<id>, job:<id>, provider:* or job:*"
            )
        if digest is not None and channel != channels.MARKETPLACE:
            raise ValueError(f"only marketplace has a digest, {channel} has none")
        entry = self._by_channel.get(channel)
        is_new = entry is None
        if entry is None:
            entry = self._by_channel[channel] = Subscription(channel)
        entry.watchers += 1
        finer = digest is not None and (entry.digest is None or digest < entry.digest)
        if finer:
            entry.digest = digest
        entry.snapshot |= snapshot
        entry.recover |= recover
        if not (is_new or snapshot or finer):
            return None
        return self._ask(entry, snapshot=snapshot, resume=False)

    def remove(self, channel: str) -> bool:
        """Count one watcher less; True where it was the last one and ``unsubscribe`` has to be sent."""
        entry = self._by_channel.get(channel)
        if entry is None:
            return False
        entry.watchers -= 1
        if entry.watchers:
            return False
        del self._by_channel[channel]
        return True

    def again(self, channel: str) -> Ask | None:
        """Give what to send for one channel on a new connection; None where nobody watches it any more."""
        entry = self._by_channel.get(channel)
        if entry is None:
            return None
        # A snapshot that was cut off is asked for anew: beside `since` the hub would not send it again.
        resume = entry.recover and not entry.snapshots_due
        entry.snapshots_due = 0
        return self._ask(entry, snapshot=entry.snapshot, resume=resume)

    def _ask(self, entry: Subscription, *, snapshot: bool, resume: bool) -> Ask:
        position = entry.position if resume else None
        resumable = position is not None and position.epoch is not None and position.offset is not None
        if snapshot:
            entry.snapshots_due += 1
        options = SubscribeOptions(
            snapshot=snapshot,
            digest=entry.digest,
            epoch=position.epoch if position is not None and resumable else None,
            since=position.offset if position is not None and resumable else None,
        )
        if entry.channel == channels.MARKETPLACE:
            return Ask(SUBSCRIBE_MARKETPLACE, None, options)
        kind, _, subject = entry.channel.partition(":")
        return Ask(SUBSCRIBE_PROVIDER if kind == "provider" else SUBSCRIBE_JOB, subject, options)

    def lost(self, *, fresh: bool) -> None:
        """Take note that the connection is gone.

        Args:
            fresh: Whether the next one must not ask for what was missed.
        """
        for entry in self._by_channel.values():
            entry.confirmed = False
            if fresh and entry.position is not None:
                entry.position = Position(None, None)

    def confirm(self, reply: Subscribed) -> bool:
        """Take note of ``subscribed``; True where events of the channel were missed for good."""
        entry = self._by_channel.get(reply.subscription)
        if entry is None:
            return False
        before, now = entry.position, Position(reply.epoch, reply.offset)
        is_repeat, entry.confirmed = entry.confirmed, True
        if reply.recovered:
            # The replay follows and moves the position; a snapshot does not come.
            entry.snapshots_due = max(0, entry.snapshots_due - 1)
            return False
        if is_repeat and before is not None and before.epoch == now.epoch:
            return False
        entry.position = now
        return before is not None and (now.offset is None or before != now)

    def heard(self, event: Event) -> bool:
        """Take note of a published event; False where it was heard before and is to be dropped."""
        entry = self._by_channel.get(event.channel) if event.channel is not None else None
        if entry is None:
            return True
        if event.offset is None:
            if entry.snapshots_due and _ends_snapshot(event):
                entry.snapshots_due -= 1
            return True
        position = entry.position
        if position is None:
            return True
        if position.offset is not None and event.offset <= position.offset:
            return False
        entry.position = Position(position.epoch, event.offset)
        return True


def _ends_snapshot(event: Event) -> bool:
    data = event.data
    if isinstance(data, FleetSnapshot | ProviderSnapshot | JobsSnapshot):
        return data.page >= data.pages
    return isinstance(data, JobSnapshot)
