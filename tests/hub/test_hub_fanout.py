"""Who hears what, in which order, by how many writes."""

import asyncio
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from qubix_tui.hub.fanout import FLUSH_BYTES, FLUSH_SECONDS, SHARED_CHANNELS, Fanout, Subscriber
from qubix_tui.hub.outbox import Outbox
from qubix_tui.hub.telemetry import Telemetry
from tests.hub.frames import FakeSocket


@dataclass(eq=False)
class Reader:
    """A subscriber with its socket."""

    socket: FakeSocket = field(default_factory=FakeSocket)

    def __post_init__(self) -> None:
        self.subscriber = Subscriber(Outbox(self.socket))

    @property
    def got(self) -> bytes:
        return self.socket.sent


def hearing(fanout: Fanout, *channels: str) -> Reader:
    """A reader of some channels."""
    reader = Reader()
    for channel in channels:
        fanout.subscribe(reader.subscriber, channel)
    return reader


async def test_an_event_reaches_exactly_those_who_hear_its_channel() -> None:
    """By its own key, by its wildcard, and nobody else."""
    fanout = Fanout(Telemetry())
    one, two = hearing(fanout, "provider:a"), hearing(fanout, "provider:b")
    every, jobs = hearing(fanout, "provider:*"), hearing(fanout, "job:*", "marketplace")
    fanout.publish("T", "provider:a", b"A")
    fanout.flush()
    assert (one.got, two.got, every.got, jobs.got) == (b"A", b"", b"A", b"")


async def test_an_event_comes_once_however_subscriptions_overlap() -> None:
    """A channel and its wildcard, subscribed both, are heard once; another channel's event comes as well."""
    fanout = Fanout(Telemetry())
    both = hearing(fanout, "provider:a", "provider:*", "marketplace")
    fanout.subscribe(both.subscriber, "provider:a")
    fanout.publish("T", "provider:a", b"A")
    fanout.publish("T", "marketplace", b"M")
    fanout.flush()
    assert both.got == b"AM"


async def test_events_of_a_flush_are_joined_and_shared_by_the_set_of_channels() -> None:
    """Subscribers of the same set, however they subscribed, get the very same bytes by one write."""
    fanout = Fanout(Telemetry())
    one, two = hearing(fanout, "provider:a", "marketplace"), hearing(fanout, "marketplace", "provider:a")
    for number in range(50):
        fanout.publish("T", "provider:a" if number % 2 else "marketplace", b"%02d" % number)
    fanout.flush()
    assert one.socket.written == two.socket.written == [b"".join(b"%02d" % number for number in range(50))]
    assert one.socket.written[0] is two.socket.written[0]


async def test_a_lone_event_is_not_delayed_and_those_after_it_are_joined() -> None:
    """The first flush is at once; what follows within 10 ms comes by one write when these are over."""
    fanout = Fanout(Telemetry())
    reader = hearing(fanout, "marketplace")
    loop = asyncio.get_running_loop()
    fanout.publish("T", "marketplace", b"1")
    await asyncio.sleep(0)
    assert reader.socket.written == [b"1"]
    started = loop.time()
    fanout.publish("T", "marketplace", b"2")
    await asyncio.sleep(0)
    fanout.publish("T", "marketplace", b"3")
    async with asyncio.timeout(2):
        while len(reader.socket.written) < 2:  # noqa: ASYNC110 - the flush has no event to wait for
            await asyncio.sleep(0)
    assert reader.socket.written == [b"1", b"23"]
    # The first flush was a moment before `started`.
    assert loop.time() - started >= FLUSH_SECONDS * 0.8


async def test_a_burst_does_not_pile_up_until_the_flush() -> None:
    """What waits for a flush is bounded."""
    fanout = Fanout(Telemetry())
    reader = hearing(fanout, "marketplace")
    for _ in range(200):
        fanout.publish("T", "marketplace", b"x" * 1_000)
    assert len(reader.got) >= 200_000 - FLUSH_BYTES - 1_000
    fanout.close()
    assert len(reader.got) == 200_000


async def test_catching_up_keeps_a_reply_in_its_place() -> None:
    """What was published before a reply comes before it, and not again with the others' flush."""
    fanout = Fanout(Telemetry())
    one, two = hearing(fanout, "marketplace"), hearing(fanout, "marketplace")
    fanout.publish("T", "marketplace", b"1")
    fanout.catch_up(one.subscriber)
    one.subscriber.outbox.send(b"R")
    fanout.publish("T", "marketplace", b"2")
    fanout.catch_up(one.subscriber)
    fanout.catch_up(one.subscriber)
    fanout.publish("T", "marketplace", b"3")
    fanout.flush()
    assert one.got == b"1R23"
    assert two.got == b"123"


async def test_who_subscribes_hears_from_then_on_and_who_leaves_no_more() -> None:
    """Events that wait for the flush are those of their own time."""
    fanout = Fanout(Telemetry())
    early, late, leaving = hearing(fanout, "marketplace"), Reader(), hearing(fanout, "marketplace")
    fanout.publish("T", "marketplace", b"1")
    fanout.subscribe(late.subscriber, "marketplace")
    fanout.unsubscribe(leaving.subscriber, "marketplace")
    fanout.unsubscribe(leaving.subscriber, "marketplace")
    fanout.publish("T", "marketplace", b"2")
    fanout.flush()
    assert (early.got, late.got, leaving.got) == (b"12", b"2", b"1")
    fanout.leave(early.subscriber)
    fanout.publish("T", "marketplace", b"3")
    fanout.flush()
    assert (early.got, late.got) == (b"12", b"23")


async def test_subscriptions_are_counted_by_distinct_key() -> None:
    """Each key with its subscribers; a key without any is gone."""
    fanout = Fanout(Telemetry())
    one, two = hearing(fanout, "marketplace", "provider:a"), hearing(fanout, "marketplace")
    fanout.subscribe(two.subscriber, "marketplace")
    assert dict(fanout.subscriptions()) == {"marketplace": 2, "provider:a": 1}
    assert fanout.is_heard("provider:a")
    assert not fanout.is_heard("provider:b")
    fanout.leave(one.subscriber)
    fanout.unsubscribe(two.subscriber, "marketplace")
    assert fanout.subscriptions() == []
    assert not fanout.is_heard("provider:a")


async def test_wildcards_make_a_channel_heard() -> None:
    """Somebody would get it."""
    fanout = Fanout(Telemetry())
    hearing(fanout, "provider:*")
    assert fanout.is_heard("provider:a")
    assert not fanout.is_heard("marketplace")


async def test_a_reader_cut_in_mid_flush_does_not_disturb_the_others() -> None:
    """It leaves its group while that group is being written to."""
    fanout = Fanout(Telemetry())

    class Cut(FakeSocket):
        def too_slow(self) -> None:
            super().too_slow()
            fanout.leave(reader.subscriber)

    reader = Reader(Cut())
    reader.subscriber.outbox = Outbox(reader.socket, 0)
    fanout.subscribe(reader.subscriber, "marketplace")
    reader.subscriber.outbox.hold()
    other = hearing(fanout, "marketplace")
    fanout.publish("T", "marketplace", b"1")
    fanout.flush()
    assert reader.socket.cut
    assert other.got == b"1"
    assert dict(fanout.subscriptions()) == {"marketplace": 1}


async def test_a_reader_cut_by_a_burst_does_not_disturb_the_others() -> None:
    """Its group, the only one of its set, is gone before the burst is over."""
    fanout = Fanout(Telemetry())

    class Cut(FakeSocket):
        def too_slow(self) -> None:
            super().too_slow()
            fanout.leave(slow.subscriber)

    slow = Reader(Cut())
    fanout.subscribe(slow.subscriber, "marketplace")
    fanout.subscribe(slow.subscriber, "job:x")
    slow.subscriber.outbox.hold()
    others = [hearing(fanout, "marketplace"), hearing(fanout, "marketplace", "job:y")]
    for _ in range(500):
        fanout.publish("T", "marketplace", b"x" * 1_000)
    fanout.flush()
    assert slow.socket.cut
    assert [len(other.got) for other in others] == [500_000, 500_000]


async def test_deliveries_are_counted_by_type() -> None:
    """One per subscriber that gets it."""
    telemetry = Telemetry()
    fanout = Fanout(telemetry)
    hearing(fanout, "provider:a"), hearing(fanout, "provider:*"), hearing(fanout, "marketplace")
    fanout.publish("GPU_METRICS_UPDATE", "provider:a", b"x")
    fanout.flush()
    assert telemetry.messages_sent["GPU_METRICS_UPDATE"] == 2


CHANNELS = [f"provider:{number}" for number in range(SHARED_CHANNELS + 4)]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["subscribe", "subscribe_all", "unsubscribe", "publish", "publish", "flush", "catch_up", "leave"]
        ),
        st.integers(0, 3),
        st.sampled_from([*CHANNELS, "provider:*", "marketplace"]),
    ),
    max_size=120,
)


@settings(max_examples=150)
@given(STEPS)
def test_grouping_changes_nothing_of_what_each_reader_gets(steps: list[tuple[str, int, str]]) -> None:
    """Against a model that keeps a plain list per reader: same events, same order, each once."""

    async def run() -> None:
        fanout = Fanout(Telemetry())
        readers = [Reader() for _ in range(4)]
        channels: list[set[str]] = [set() for _ in readers]
        expected = [b"" for _ in readers]
        for number, (step, who, channel) in enumerate(steps):
            reader = readers[who]
            match step:
                case "subscribe":
                    fanout.subscribe(reader.subscriber, channel)
                    channels[who].add(channel)
                case "subscribe_all":
                    for key in CHANNELS:
                        fanout.subscribe(reader.subscriber, key)
                    channels[who].update(CHANNELS)
                case "unsubscribe":
                    fanout.unsubscribe(reader.subscriber, channel)
                    channels[who].discard(channel)
                case "publish" if channel != "provider:*":
                    event = b"%03d;" % number
                    fanout.publish("T", channel, event)
                    for index, held in enumerate(channels):
                        if channel in held or (channel != "marketplace" and "provider:*" in held):
                            expected[index] += event
                case "flush":
                    fanout.flush()
                case "catch_up":
                    fanout.catch_up(reader.subscriber)
                    assert reader.got == expected[who]
                case "leave":
                    fanout.catch_up(reader.subscriber)
                    fanout.leave(reader.subscriber)
                    channels[who].clear()
        fanout.close()
        assert [reader.got for reader in readers] == expected
        counted = {key: sum(key in held for held in channels) for held in channels for key in held}
        assert dict(fanout.subscriptions()) == counted

    asyncio.run(run())


async def test_bytes_are_counted_once_however_they_are_written() -> None:
    """Joined for many readers, early for one, and not yet for one whose socket is full."""
    telemetry = Telemetry()
    fanout = Fanout(telemetry)
    early, late, full = (hearing(fanout, "marketplace") for _ in range(3))
    full.subscriber.outbox.hold()
    fanout.publish("T", "marketplace", b"12345")
    fanout.catch_up(early.subscriber)
    fanout.publish("T", "marketplace", b"678")
    fanout.flush()
    assert telemetry.bytes_sent == len(early.got) + len(late.got) == 16
    assert full.got == b""
