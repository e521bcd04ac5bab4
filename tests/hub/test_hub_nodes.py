"""The hubs that share a store, as each of them shows them all."""

import os
import socket

import msgspec
import pytest

import qubix_tui
from qubix_tui.hub.engine.base import Engine
from qubix_tui.hub.engine.cluster import Node
from qubix_tui.hub.engine.memory import MemoryEngine
from qubix_tui.hub.nodes import MAX_NODES, RATE_SECONDS, Nodes
from qubix_tui.hub.telemetry import Telemetry
from qubix_tui.protocol import codec
from tests.hub.manual_clock import ManualClock
from tests.hub.shared_store import SharedCluster, SharedEngine, SharedStore


class Told(SharedCluster):
    """A cluster of which the engine tells when a test says so."""

    def __init__(self, store: SharedStore, node: str) -> None:
        super().__init__(store, node)
        self.told: list[Node] | None = None

    @property
    def nodes(self) -> list[Node]:
        return self.told if self.told is not None else list(super().nodes)


class Hub:
    """The parts of a hub that are told of."""

    def __init__(self, store: SharedStore, node: str, clock: ManualClock) -> None:
        self.engine = SharedEngine(store, node)
        self.engine.cluster = self.cluster = Told(store, node)
        self.telemetry = Telemetry()
        self.nodes = nodes_of(self.engine, self.telemetry, clock, connections=7, providers=3)


def nodes_of(
    engine: Engine, telemetry: Telemetry, clock: ManualClock, *, connections: int = 0, providers: int = 0
) -> Nodes:
    """What shows the hubs of an engine."""
    return Nodes(
        engine=engine,
        telemetry=telemetry,
        clock=clock,
        connections=lambda: connections,
        providers=lambda: providers,
    )


@pytest.fixture
def clock() -> ManualClock:
    """A clock moved by hand."""
    return ManualClock()


@pytest.fixture
async def hubs(clock: ManualClock) -> tuple[Hub, Hub]:
    """Two hubs of one store, the first the older one; each has told of itself once."""
    store = SharedStore()
    made = Hub(store, "a", clock), Hub(store, "b", clock)
    for hub in made:
        hub.nodes.describe()
        await hub.engine.open()
    return made


async def test_a_hub_with_a_store_of_its_own_has_no_others(clock: ManualClock) -> None:
    """It does not show itself either: there is nothing to tell apart."""
    engine = MemoryEngine()
    nodes = nodes_of(engine, Telemetry(), clock)
    await engine.open()
    nodes.describe()
    assert nodes.listing() == []


async def test_each_hub_shows_all_and_which_it_is_itself(hubs: tuple[Hub, Hub]) -> None:
    """Machine and process, version, start, connections, providers; the oldest first."""
    for number, hub in enumerate(hubs):
        shown = hub.nodes.listing()
        assert [node.id for node in shown] == ["a", "b"]
        assert [node.is_this for node in shown] == [number == 0, number == 1]
        for node in shown:
            assert node.name == f"{socket.gethostname()}/{os.getpid()}"
            assert node.version == qubix_tui.__version__
            assert node.started_at == "2027-01-15T08:00:00.000Z"
            assert (node.connections, node.providers) == (7, 3)


async def test_rates_are_those_of_the_last_seconds(hubs: tuple[Hub, Hub], clock: ManualClock) -> None:
    """Not known at first; what was long ago does not count."""
    hub, other = hubs
    assert hub.nodes.listing()[0].received_per_second is None
    for second in range(20):
        hub.telemetry.messages_received["ping"] += 1000 if second < 10 else 20
        hub.telemetry.messages_sent["pong"] += 40
        clock.advance(1)
        hub.nodes.describe()
    for shown in (hub.nodes.listing()[0], other.nodes.listing()[0]):
        assert (shown.received_per_second, shown.sent_per_second) == (20, 40)
    assert RATE_SECONDS < 10


async def test_how_far_behind_a_hub_is_and_how_wrong_its_clock(hubs: tuple[Hub, Hub]) -> None:
    """As it measured it; not known while it can't reach the store."""
    hub, other = hubs
    hub.engine.telemetry.lag, hub.engine.telemetry.clock_skew = 0.25, 1.5
    hub.nodes.describe()
    shown = other.nodes.listing()[0]
    assert (shown.lag_seconds, shown.clock_skew_seconds) == (0.25, -1.5)
    hub.engine.away = True
    shown = hub.nodes.listing()[0]
    assert (shown.lag_seconds, shown.clock_skew_seconds) == (None, None)


async def test_a_word_gets_older_while_the_store_tells_nothing_new(
    hubs: tuple[Hub, Hub], clock: ManualClock
) -> None:
    """Its age goes on from what the store said; this hub's own word is of now."""
    hub = hubs[0]
    hub.cluster.told = [msgspec.structs.replace(node, age=0.5) for node in hub.cluster.nodes]
    assert [node.age_seconds for node in hub.nodes.listing()] == [0.0, 0.5]
    clock.advance(7)
    assert [node.age_seconds for node in hub.nodes.listing()] == [0.0, 7.5]
    hub.cluster.told = list(hub.cluster.told)
    assert [node.age_seconds for node in hub.nodes.listing()] == [0.0, 0.5]


async def test_what_can_not_be_read_is_left_out(hubs: tuple[Hub, Hub]) -> None:
    """A hub that has told nothing yet, or of a form that this one does not know; never this one."""
    hub = hubs[0]
    mine, other = hub.cluster.nodes
    for words in (b"", b"{}", b"[", b'{"id": "b", "name": 3}'):
        hub.cluster.told = [
            msgspec.structs.replace(mine, words=words),
            msgspec.structs.replace(other, words=words),
        ]
        assert [node.id for node in hub.nodes.listing()] == ["a"]
    hub.cluster.told = [other]
    assert [(node.id, node.is_this) for node in hub.nodes.listing()] == [("b", False), ("a", True)]


async def test_very_many_hubs_fit_into_an_answer(hubs: tuple[Hub, Hub]) -> None:
    """The oldest, and this one; in less than what a message may have."""
    hub = hubs[1]
    other = hub.cluster.nodes[0]
    hub.cluster.told = [msgspec.structs.replace(other, id=f"{number:064d}") for number in range(500)]
    shown = hub.nodes.listing()
    assert len(shown) == MAX_NODES
    assert shown[-1].is_this
    widest = [msgspec.structs.replace(node, name="n" * 128) for node in shown]
    assert len(codec.encode_record(widest)) < 56 * 1024
