"""Who hears what: each event framed once, joined once, and written once to each subscriber.

Events that are published within one flush are joined for all subscribers that have the same set of channels,
a `_Group`, and each of these gets them by one write. A flush comes at once when the last one is 10 ms ago or
longer, else when those 10 ms are over: a lone event is not delayed, and under load a subscriber costs at most
100 writes a second. Sharing by the *set* of channels, and not per channel, keeps every subscriber's events in
the order in which they were published, whatever their channels.

An event reaches a subscriber once, however its subscriptions overlap: a group hears a channel by its own key
or by its wildcard, and is asked once.

A direct reply must not overtake events that were published before it and wait for the flush.
`Fanout.catch_up` writes these to its one subscriber ahead of the others; the group remembers how far that one
has got.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping

from qubix_tui.hub.outbox import Outbox
from qubix_tui.hub.telemetry import Telemetry
from qubix_tui.protocol import channels

FLUSH_SECONDS = 0.010
"""How far flushes are apart, at the least."""

FLUSH_BYTES = 64 * 1024
"""A group with more than this to write does not wait for the flush."""

SHARED_CHANNELS = 8
"""Subscribers with more channels than this have a group of their own: to look for others with the very same
set would cost more, at each of their subscriptions, than sharing would save."""


class Subscriber:
    """One reader's place in the fan-out.

    Args:
        outbox: Where its frames go.
    """

    __slots__ = ("channels", "group", "outbox")

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.channels: frozenset[str] | set[str] = frozenset()
        """The channel keys that it has subscribed to."""
        self.group: _Group | None = None


class _Group:
    """The subscribers that share one set of channels, and what is to be written to them.

    A group of one subscriber's own has a set that changes with its subscriptions.
    """

    __slots__ = ("bytes", "channels", "early", "members", "pending")

    def __init__(self, channel_keys: frozenset[str] | set[str]) -> None:
        self.channels = channel_keys
        self.members: dict[Subscriber, None] = {}
        self.pending: list[tuple[bytes, str | None]] = []
        self.bytes = 0
        self.early: dict[Subscriber, int] = {}
        """How many of ``pending`` a member already has, or must not get: it joined later."""


class Held:
    """How many hear the channels of one kind."""

    __slots__ = ("channels", "subscriptions")

    def __init__(self) -> None:
        self.channels = 0
        """Different ones that somebody hears."""
        self.subscriptions = 0


class Fanout:
    """Publishes frames to subscribers. Made on, and used from, one event loop.

    Args:
        telemetry: Where deliveries and flushes are counted.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self._loop = asyncio.get_running_loop()
        self._telemetry = telemetry
        self._shared: dict[frozenset[str], _Group] = {}
        self._hearing: dict[str, dict[_Group, None]] = {}
        self._counts: dict[str, int] = {}
        self._held: dict[str, Held] = {}
        self._dirty: dict[_Group, None] = {}
        self._flush_handle: asyncio.Handle | None = None
        self._flushed_at = -FLUSH_SECONDS
        self._watcher: Callable[[str], None] | None = None

    def watch(self, watcher: Callable[[str], None]) -> None:
        """Have somebody told which channel has got its first subscriber, or lost its last; once."""
        self._watcher = watcher

    def subscribers(self, channel: str) -> int:
        """Give how many have subscribed to a channel by its own key."""
        return self._counts.get(channel, 0)

    def subscriptions(self) -> list[tuple[str, int]]:
        """Give each channel key that has subscribers, with their number."""
        return list(self._counts.items())

    @property
    def held(self) -> Mapping[str, "Held"]:
        """The subscriptions by kind of channel (`channels.kind_of`), counted as they come and go."""
        return self._held

    def is_heard(self, channel: str) -> bool:
        """Whether anybody would get an event of ``channel``."""
        return channel in self._hearing or channels.wildcard_of(channel) in self._hearing

    def subscribe(self, subscriber: Subscriber, channel: str) -> None:
        """Let a subscriber hear a channel, from the next event on. Again is no error."""
        if channel in subscriber.channels:
            return
        self._count_up(channel)
        group = subscriber.group
        if group is not None and isinstance(group.channels, set):
            group.channels.add(channel)
            self._hearing.setdefault(channel, {})[group] = None
        else:
            self._move(subscriber, subscriber.channels | {channel})

    def unsubscribe(self, subscriber: Subscriber, channel: str) -> None:
        """Let a subscriber hear a channel no longer. What is not subscribed is no error."""
        if channel not in subscriber.channels:
            return
        self._count_down(channel)
        group = subscriber.group
        if (
            group is not None
            and isinstance(group.channels, set)
            and len(group.channels) > SHARED_CHANNELS + 1
        ):
            group.channels.remove(channel)
            self._forget(group, channel)
        else:
            self._move(subscriber, subscriber.channels - {channel})

    def leave(self, subscriber: Subscriber) -> None:
        """Take a subscriber out; nothing more is written to it."""
        for channel in subscriber.channels:
            self._count_down(channel)
        self._leave_group(subscriber)
        subscriber.channels = frozenset()

    def publish(
        self, kind: str, channel: str, frame: bytes, subject: str | None = None, *, to_all: bool = True
    ) -> None:
        """Publish one event to whoever hears its channel.

        Args:
            kind: The message type, to count it.
            channel: The event's own channel.
            frame: The event.
            subject: Whom it is the newest value of, where an unread older one may be left out.
            to_all: Whether who hears the channel by its wildcard alone gets it, too.
        """
        entry = (frame, subject)
        deliveries = 0
        full: list[_Group] = []
        for group in self._groups_for(channel) if to_all else tuple(self._hearing.get(channel, ())):
            deliveries += len(group.members)
            if self._append(group, entry):
                full.append(group)
        # Not before: a reader that turns out to be too slow leaves, and changes who hears the channel.
        for group in full:
            self._dirty.pop(group, None)
            self._flush_group(group)
        if deliveries:
            self._telemetry.sent(kind, deliveries)

    def catch_up(self, subscriber: Subscriber) -> None:
        """Write to one subscriber what was published for it and waits for the flush."""
        group = subscriber.group
        if group is None or not group.pending:
            return
        start = group.early.get(subscriber, 0)
        frames = group.pending[start:]
        if frames:
            group.early[subscriber] = len(group.pending)
            self._deliver_alone(subscriber, frames)

    def flush(self) -> None:
        """Write all that was published to its subscribers."""
        if self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush_handle = None
        started = self._flushed_at = self._loop.time()
        dirty, self._dirty = self._dirty, {}
        for group in dirty:
            self._flush_group(group)
        if dirty:
            self._telemetry.broadcast_took(self._loop.time() - started)

    def close(self) -> None:
        """Write what waits, and leave no timer behind."""
        self.flush()

    def _groups_for(self, channel: str) -> Iterator[_Group]:
        """Give the groups that hear a channel, by its key or by its wildcard, each once."""
        yield from self._hearing.get(channel, ())
        wildcard = channels.wildcard_of(channel)
        if wildcard in self._hearing:
            for group in self._hearing[wildcard]:
                if channel not in group.channels:
                    yield group

    def _append(self, group: _Group, entry: tuple[bytes, str | None]) -> bool:
        """Add an event to what is to be written to a group; True when that is too much to wait."""
        group.pending.append(entry)
        group.bytes += len(entry[0])
        if group.bytes > FLUSH_BYTES:
            return True
        self._dirty[group] = None
        if self._flush_handle is None:
            wait = self._flushed_at + FLUSH_SECONDS - self._loop.time()
            # Not within this very call: what is published in the same turn of the loop goes along.
            self._flush_handle = (
                self._loop.call_later(wait, self.flush) if wait > 0 else self._loop.call_soon(self.flush)
            )
        return False

    def _flush_group(self, group: _Group) -> None:
        frames, group.pending = group.pending, []
        early, group.early = group.early, {}
        group.bytes = 0
        joined = frames[0][0] if len(frames) == 1 else b"".join([data for data, _ in frames])
        written = 0
        # A copy: a reader that turns out to be too slow leaves the group here.
        for subscriber in tuple(group.members):
            if subscriber in early:
                rest = frames[early[subscriber] :]
                if rest:
                    self._deliver_alone(subscriber, rest)
            else:
                written += subscriber.outbox.deliver(joined, frames)
        self._telemetry.bytes_sent += written * len(joined)

    def _deliver_alone(self, subscriber: Subscriber, frames: list[tuple[bytes, str | None]]) -> None:
        joined = b"".join([data for data, _ in frames])
        if subscriber.outbox.deliver(joined, frames):
            self._telemetry.bytes_sent += len(joined)

    def _move(self, subscriber: Subscriber, channel_keys: frozenset[str] | set[str]) -> None:
        """Put a subscriber into the group for a set of channels."""
        self.catch_up(subscriber)
        self._leave_group(subscriber)
        subscriber.channels = channel_keys
        if not channel_keys:
            return
        group = self._group_for(channel_keys)
        subscriber.group = group
        subscriber.channels = group.channels
        group.members[subscriber] = None
        if group.pending:
            group.early[subscriber] = len(group.pending)

    def _group_for(self, channel_keys: frozenset[str] | set[str]) -> _Group:
        if len(channel_keys) > SHARED_CHANNELS:
            group = _Group(set(channel_keys))
        else:
            key = frozenset(channel_keys)
            found = self._shared.get(key)
            if found is not None:
                return found
            group = self._shared[key] = _Group(key)
        for channel in channel_keys:
            self._hearing.setdefault(channel, {})[group] = None
        return group

    def _leave_group(self, subscriber: Subscriber) -> None:
        group, subscriber.group = subscriber.group, None
        if group is None:
            return
        del group.members[subscriber]
        group.early.pop(subscriber, None)
        if group.members:
            return
        if isinstance(group.channels, frozenset):
            del self._shared[group.channels]
        for channel in group.channels:
            self._forget(group, channel)
        self._dirty.pop(group, None)

    def _forget(self, group: _Group, channel: str) -> None:
        hearing = self._hearing[channel]
        del hearing[group]
        if not hearing:
            del self._hearing[channel]

    def _count_up(self, channel: str) -> None:
        count = self._counts[channel] = self._counts.get(channel, 0) + 1
        held = self._held.setdefault(channels.kind_of(channel), Held())
        held.subscriptions += 1
        held.channels += count == 1
        if count == 1 and self._watcher is not None:
            self._watcher(channel)

    def _count_down(self, channel: str) -> None:
        self._counts[channel] -= 1
        held = self._held[channels.kind_of(channel)]
        held.subscriptions -= 1
        if not self._counts[channel]:
            del self._counts[channel]
            held.channels -= 1
            if self._watcher is not None:
                self._watcher(channel)
