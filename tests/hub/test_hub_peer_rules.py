"""What hubs tell one another, and when: without sockets, with a clock that is moved by hand."""

import asyncio
from collections.abc import Sequence

import pytest

from qubix_tui.hub import peer_questions, peer_samples
from qubix_tui.hub.engine.cluster import Node, Receiver
from qubix_tui.hub.fanout import Fanout, Subscriber
from qubix_tui.hub.outbox import Outbox
from qubix_tui.hub.peer_headlines import UNHEARD_SECONDS, WHOLE_SECONDS, HeadlineFeed, take_words
from qubix_tui.hub.peer_messages import (
    ANSWER_BYTES,
    PIECE_BYTES,
    Answer,
    Batch,
    Headlines,
    Message,
    Question,
    Wants,
    Word,
    encode,
)
from qubix_tui.hub.peer_questions import Questions
from qubix_tui.hub.peer_samples import SampleBatches
from qubix_tui.hub.peer_wants import FORGET_SECONDS, GONE_SECONDS, PIECE, ForeignWants, OwnWants
from qubix_tui.hub.provider_state import Entry
from qubix_tui.hub.registry import Registry
from qubix_tui.hub.snapshots import Past
from qubix_tui.hub.telemetry import Telemetry
from qubix_tui.protocol.records import HistoryPoint, Metrics
from qubix_tui.protocol.requests import Register
from tests.hub.frames import FakeSocket
from tests.hub.manual_clock import ManualClock
from tests.hub.wire import eventually


class Post:
    """What was sent to which hub."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Message]] = []

    def send(self, node: str, message: Message) -> None:
        assert len(encode(message)) <= max(PIECE_BYTES, ANSWER_BYTES) + 64
        self.sent.append((node, message))

    def take(self) -> list[tuple[str, Message]]:
        taken, self.sent = self.sent, []
        return taken


@pytest.fixture
def post() -> Post:
    """A post with nothing sent."""
    return Post()


class Listeners:
    """Clients of a hub, and what it tells other hubs of them."""

    def __init__(self, post: Post) -> None:
        self.fanout = Fanout(Telemetry())
        self.places: dict[str, str] = {}
        self.own = OwnWants(
            self.fanout,
            lambda provider_id: frozenset({self.places[provider_id]} if provider_id in self.places else ()),
            lambda: ["b", "c"],
            post.send,
        )

    def client(self, *channels: str) -> Subscriber:
        subscriber = Subscriber(Outbox(FakeSocket()))
        for channel in channels:
            self.fanout.subscribe(subscriber, channel)
        return subscriber


async def turn() -> None:
    """Let what was scheduled happen."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_a_want_is_told_once_to_the_hub_that_has_the_provider(post: Post) -> None:
    """However many hear it; it is taken back with the last of them. Changes of one turn go together."""
    here = Listeners(post)
    here.places = {"p": "b", "q": "b", "r": "c"}
    clients = [here.client("provider:p", "provider:q", "provider:r", "job:p", "provider:s") for _ in range(3)]
    await turn()
    assert sorted(post.take(), key=str) == [
        ("b", Wants(False, False, ["p", "q"], [])),
        ("c", Wants(False, False, ["r"], [])),
    ]
    here.fanout.leave(clients[0])
    here.fanout.unsubscribe(clients[1], "provider:p")
    await turn()
    assert post.take() == []
    here.fanout.unsubscribe(clients[2], "provider:p")
    await turn()
    assert post.take() == [("b", Wants(False, False, [], ["p"]))]
    here.fanout.unsubscribe(clients[2], "provider:q")
    here.fanout.subscribe(clients[2], "provider:q")
    await turn()
    assert post.take() == []


async def test_wildcard_and_marketplace_are_told_to_all_hubs(post: Post) -> None:
    """When they begin and when they end."""
    here = Listeners(post)
    client = here.client("provider:*", "marketplace")
    await turn()
    assert post.take() == [(node, Wants(True, True, [], [])) for node in "bc"]
    here.fanout.unsubscribe(client, "provider:*")
    await turn()
    assert post.take() == [(node, Wants(False, True, [], [])) for node in "bc"]


async def test_a_want_follows_its_provider(post: Post) -> None:
    """From the hub that had it to the one that has it; one that nobody hears moves nothing."""
    here = Listeners(post)
    here.places = {"p": "b"}
    here.client("provider:p", "provider:new")
    await turn()
    post.take()
    here.places = {"p": "c", "new": "b", "unheard": "b"}
    for provider_id in here.places:
        here.own.moved(provider_id)
    await turn()
    assert sorted(post.take(), key=str) == [
        ("b", Wants(False, False, ["new"], ["p"])),
        ("c", Wants(False, False, ["p"], [])),
    ]


async def test_renewals_say_all_of_it_to_all_hubs_in_pieces(post: Post) -> None:
    """Also to those of which nothing is wanted: they know then that this one is there."""
    here = Listeners(post)
    ids = [f"rig-{number:061}" for number in range(2 * PIECE + 1)]
    here.places = dict.fromkeys(ids, "b")
    here.client(*(f"provider:{one}" for one in ids))
    await turn()
    post.take()
    here.own.renew()
    sent = post.take()
    assert [node for node, _ in sent] == ["b", "b", "b", "c"]
    said = [one for _, wants in sent if isinstance(wants, Wants) for one in wants.providers]
    assert said == ids


def test_wants_that_are_not_said_again_are_forgotten() -> None:
    """Each for itself; those of a hub that is gone sooner than those of one that is there."""
    foreign = ForeignWants()
    assert foreign.take("b", Wants(True, False, ["p", "q"], []), 0.0)
    assert not foreign.take("b", Wants(True, False, ["q"], []), FORGET_SECONDS - 1)
    assert foreign.take("c", Wants(False, True, ["q"], []), FORGET_SECONDS - 1)
    assert set(foreign.wanting("q")) == {"b", "c"}
    assert set(foreign.wanting("p")) == set(foreign.wanting("z")) == {"b"}
    foreign.expire(FORGET_SECONDS, ["b", "c"])
    assert set(foreign.wanting("p")) == {"b"}
    foreign.take("b", Wants(False, False, [], []), FORGET_SECONDS)
    assert not foreign.wanting("p")
    assert set(foreign.wanting("q")) == {"b", "c"}
    foreign.expire(FORGET_SECONDS - 1 + GONE_SECONDS, ["b"])
    assert set(foreign.wanting("q")) == {"b"}
    assert not foreign.hears_marketplace("c")
    foreign.expire(2 * FORGET_SECONDS, ["b"])
    assert not foreign.wanting("q")
    assert list(foreign.nodes) == []


def test_who_begins_to_hear_the_marketplace_is_noticed() -> None:
    """And a hub that was not known."""
    foreign = ForeignWants()
    assert foreign.take("b", Wants(False, False, [], []), 0.0)
    assert not foreign.take("b", Wants(False, False, [], []), 1.0)
    assert foreign.take("b", Wants(False, True, [], []), 2.0)
    assert not foreign.take("b", Wants(False, True, [], []), 3.0)
    assert not foreign.take("b", Wants(False, False, [], []), 4.0)
    assert foreign.take("b", Wants(False, True, [], []), 5.0)


async def test_samples_go_together_and_only_the_newest_of_a_provider(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lone one goes out with its turn; what comes soon after waits, and is one message for each hub."""
    monkeypatch.setattr(peer_samples, "FLUSH_SECONDS", 60.0)
    batches = SampleBatches(post.send)
    batches._flushed_at = float("-inf")
    batches.add(["b"], "p", b"1")
    assert post.sent == []
    await turn()
    assert post.take() == [("b", Batch([("p", b"1")]))]
    batches.add(["b", "c"], "p", b"2")
    batches.add(["b"], "q", b"1")
    batches.add(["b"], "p", b"3")
    await turn()
    assert post.sent == []
    batches.flush()
    assert post.take() == [("b", Batch([("q", b"1"), ("p", b"3")])), ("c", Batch([("p", b"2")]))]


async def test_a_message_of_samples_is_bounded(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would make it too long goes before; nothing is left out."""
    monkeypatch.setattr(peer_samples, "FLUSH_SECONDS", 60.0)
    batches = SampleBatches(post.send)
    for number in range(100):
        batches.add(["b"], f"rig-{number}", bytes(10_000))
    batches.flush()
    sizes = [len(message.samples) for _, message in post.take() if isinstance(message, Batch)]
    assert sum(sizes) == 100
    assert max(sizes) == min(sizes[:-1]) == 6


class Cluster:
    """The hubs, as hub ``a`` sees them."""

    node: str | None = "a"
    nodes: Sequence[Node] = ()
    leads = True
    may_renew = True

    def is_live(self, node: str | None) -> bool:
        return node in {"a", "b"}

    def describe(self, words: bytes) -> None:
        raise AssertionError

    def receive(self, receiver: Receiver) -> None:
        raise AssertionError

    def send(self, node: str, message: bytes) -> None:
        raise AssertionError

    async def leave(self) -> None:
        raise AssertionError


class Fleet:
    """The providers that hub ``a`` knows: its own, and those of ``b``."""

    def __init__(self, post: Post) -> None:
        self.clock = ManualClock()
        self.cluster = Cluster()
        self.registry = Registry(self.clock, self.cluster)
        self.hearing: set[str] = set()
        self.feed = HeadlineFeed(
            self.registry, self.cluster, self.clock, lambda node: node in self.hearing, post.send
        )
        self.post = post

    def add(self, name: str, *, node: str = "a") -> Entry:
        self.cluster.node = node
        request = Register(worker_id=name, name=name, instance="i")
        entry = self.registry.registered(self.registry.register(request))
        self.cluster.node = "a"
        return entry

    def sample(self, entry: Entry, seq: int) -> None:
        self.registry.heard(entry)
        self.registry.sampled(entry, Metrics(seq=seq))

    async def told(self, *nodes: str) -> list[tuple[str, list[Word]]]:
        """What a round tells these hubs."""
        await self.feed.tell(nodes)
        return [(node, message.words) for node, message in self.post.take() if isinstance(message, Headlines)]


async def test_headlines_tell_what_is_new_of_ones_own_providers(post: Post) -> None:
    """All at first, with ages; then at once where they are heard, else each five seconds."""
    fleet = Fleet(post)
    own, silent, foreign = fleet.add("own"), fleet.add("silent"), fleet.add("foreign", node="b")
    fleet.sample(own, 1)
    fleet.sample(foreign, 1)
    fleet.clock.advance(2)
    fleet.hearing = {"b"}
    (node, words), (other, same) = await fleet.told("b", "c")
    assert (node, other, words) == ("b", "c", same)
    assert [(word.provider_id, word.heard, word.sampled) for word in words] == [
        (own.id, 2000, 2000),
        (silent.id, 2000, None),
    ]
    assert b'"seq":1' in words[0].headline
    assert words[1].headline == b""
    assert await fleet.told("b", "c") == []
    fleet.clock.advance(1)
    fleet.sample(own, 2)
    ((node, words),) = await fleet.told("b", "c")
    assert (node, [word.provider_id for word in words]) == ("b", [own.id])
    fleet.clock.advance(UNHEARD_SECONDS - 1)
    fleet.registry.heard(silent)
    told = dict(await fleet.told("b", "c"))
    assert [word.provider_id for word in told["b"]] == [silent.id]
    assert [word.provider_id for word in told["c"]] == [own.id, silent.id]


async def test_headlines_come_whole_again_for_who_asks_anew_and_from_time_to_time(post: Post) -> None:
    """A message may have got lost."""
    fleet = Fleet(post)
    own = fleet.add("own")
    fleet.sample(own, 1)
    assert len(await fleet.told("b")) == 1
    fleet.feed.restart("b")
    assert len(await fleet.told("b")) == 1
    assert await fleet.told() == []
    assert len(await fleet.told("b")) == 1
    fleet.clock.advance(WHOLE_SECONDS)
    (_, (word,)) = (await fleet.told("b"))[0]
    assert word.sampled == WHOLE_SECONDS * 1000


async def test_headlines_of_many_providers_take_several_messages(post: Post) -> None:
    """Each provider once."""
    fleet = Fleet(post)
    entries = [fleet.add(f"rig-{number}") for number in range(500)]
    for entry in entries:
        fleet.sample(entry, 1)
    told = await fleet.told("b")
    assert len(told) > 2
    assert [word.provider_id for _, words in told for word in words] == [entry.id for entry in entries]


def test_headlines_are_taken_from_the_provider_s_own_hub_alone(post: Post) -> None:
    """They make it newer for digests; they never touch a provider that is here, or another hub's."""
    fleet = Fleet(post)
    own, foreign = fleet.add("own"), fleet.add("foreign", node="b")
    foreign.heard_here = False
    fleet.sample(own, 7)
    before = own.sample, own.metrics, own.headline, own.heard
    fleet.clock.advance(60)
    words = [Word(entry.id, 4000, 3000, b"{}") for entry in (own, foreign)] + [Word("unknown", 1, 1, b"{}")]
    take_words(fleet.registry, "c", words)
    assert foreign.sample == 0
    take_words(fleet.registry, "b", words)
    assert (own.sample, own.metrics, own.headline, own.heard) == before
    assert foreign.headline == (foreign.sample, b"{}")
    assert foreign.sample == fleet.registry.newest_sample > own.sample
    assert (foreign.told_by, foreign.metrics) == ("b", None)
    assert foreign.metrics_at == fleet.clock.time() - 3
    assert foreign.record().last_heartbeat == "2027-01-15T08:00:56.000Z"
    take_words(fleet.registry, "b", [Word(foreign.id, 0, None, b"")])
    assert foreign.headline == (foreign.sample, b"{}")
    assert foreign.record().last_heartbeat == "2027-01-15T08:01:00.000Z"


PAST = Past(points=[HistoryPoint(timestamp="2026-01-31T12:00:00.000Z", cpu_percent=1.5)])


async def test_one_question_serves_all_who_ask_the_same(post: Post) -> None:
    """An answer comes in pieces, in any order, from the hub that was asked and no other."""
    long = Past(points=[*PAST.points] * 3_000)
    asking = Questions(lambda *_: Past(), post.send)
    answering = Questions(lambda *_: long, post.send)
    tasks = [asyncio.create_task(asking.ask("b", "p", with_points=True)) for _ in range(3)]
    tasks.append(asyncio.create_task(asking.ask("b", "p", with_points=False)))
    await turn()
    questions = [message for _, message in post.take() if isinstance(message, Question)]
    assert [(one.provider_id, one.with_points) for one in questions] == [("p", True), ("p", False)]
    for question in questions:
        answering.answer("a", question)
    answers = [message for _, message in post.take() if isinstance(message, Answer)]
    assert len(answers) > len(questions)
    assert all(len(answer.data) <= ANSWER_BYTES for answer in answers)
    for answer in reversed(answers):
        asking.answered("c", answer)
    assert not any(task.done() for task in tasks)
    for answer in reversed(answers):
        asking.answered("b", answer)
        asking.answered("b", answer)
    assert await asyncio.gather(*tasks) == [long] * 4


async def test_a_question_without_an_answer_ends(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time, or with the hub; and what is no past is as good as none."""
    monkeypatch.setattr(peer_questions, "ANSWER_SECONDS", 0.05)
    asking = Questions(lambda *_: Past(), post.send)
    assert await asking.ask("b", "p", with_points=True) is None
    monkeypatch.setattr(peer_questions, "ANSWER_SECONDS", 60.0)
    task = asyncio.create_task(asking.ask("b", "p", with_points=True))
    await turn()
    asking.close()
    assert await task is None
    monkeypatch.setattr(peer_questions, "MAX_ASKED", 1)
    task = asyncio.create_task(asking.ask("b", "p", with_points=True))
    await turn()
    assert await asking.ask("b", "q", with_points=True) is None
    asking.close()
    await eventually(task.done)
