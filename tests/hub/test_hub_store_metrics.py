"""What Prometheus is shown of a store that several hubs share."""

import pytest

from qubix_tui.hub.engine.memory import MemoryEngine
from qubix_tui.hub.peers import Traffic
from qubix_tui.hub.store_metrics import look_at
from tests.hub.scrapes import Fleet
from tests.hub.shared_store import SharedEngine, SharedStore

TRAFFIC = Traffic()
TRAFFIC.messages_sent, TRAFFIC.bytes_sent = 5, 600
TRAFFIC.messages_received, TRAFFIC.bytes_received = 7, 800


@pytest.fixture
async def engine() -> SharedEngine:
    """One of two hubs' engine, which has measured something."""
    store = SharedStore()
    made, other = SharedEngine(store, "a"), SharedEngine(store, "b")
    await made.open()
    await other.open()
    made.telemetry.lag, made.telemetry.clock_skew, made.telemetry.reconnects = 0.25, -1.5, 3
    made.telemetry.called("commit", 4, 0.5)
    return made


async def test_what_a_hub_has_measured_of_its_store(engine: SharedEngine) -> None:
    """How far it is behind, clocks, reconnects, hubs that are alive, and how long scripts took."""
    fleet = Fleet()
    fleet.shared_store = look_at(engine, TRAFFIC)
    script = (("script", "commit"),)
    assert {key: value for key, value in fleet.scrape().items() if key[0].startswith("qubix_engine")} == {
        ("qubix_engine_nodes", ()): 2,
        ("qubix_engine_lag_seconds", ()): 0.25,
        ("qubix_engine_clock_skew_seconds", ()): -1.5,
        ("qubix_engine_reconnects_total", ()): 3,
        ("qubix_engine_script_seconds_count", script): 4,
        ("qubix_engine_script_seconds_sum", script): 2,
    }


async def test_what_hubs_say_beside_the_store_is_counted(engine: SharedEngine) -> None:
    """Messages and bytes, those sent and those received."""
    fleet = Fleet()
    fleet.shared_store = look_at(engine, TRAFFIC)
    sent, received = (("direction", "sent"),), (("direction", "received"),)
    assert {key: value for key, value in fleet.scrape().items() if key[0].startswith("qubix_peer")} == {
        ("qubix_peer_messages_total", sent): 5,
        ("qubix_peer_messages_total", received): 7,
        ("qubix_peer_bytes_total", sent): 600,
        ("qubix_peer_bytes_total", received): 800,
    }


async def test_a_store_that_is_away_has_no_lag(engine: SharedEngine) -> None:
    """What is not known is left out; counters go on."""
    engine.away = True
    fleet = Fleet()
    fleet.shared_store = look_at(engine, TRAFFIC)
    names = set(fleet.named("qubix_engine"))
    assert names == {
        "qubix_engine_reconnects_total",
        "qubix_engine_script_seconds_count",
        "qubix_engine_script_seconds_sum",
    }


async def test_a_hub_with_a_store_of_its_own_shows_none() -> None:
    """There is nobody to be behind."""
    engine = MemoryEngine()
    await engine.open()
    fleet = Fleet()
    fleet.shared_store = look_at(engine, TRAFFIC)
    assert fleet.named("qubix_engine") == fleet.named("qubix_peer") == {}
