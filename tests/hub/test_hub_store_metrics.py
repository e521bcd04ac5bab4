"""What Prometheus is shown of a store that several hubs share."""

import pytest

from qubix_tui.hub.engine.memory import MemoryEngine
from qubix_tui.hub.store_metrics import look_at
from tests.hub.scrapes import Fleet
from tests.hub.shared_store import SharedEngine, SharedStore


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
    fleet.shared_store = look_at(engine)
    script = (("script", "commit"),)
    assert {key: value for key, value in fleet.scrape().items() if key[0].startswith("qubix_engine")} == {
        ("qubix_engine_nodes", ()): 2,
        ("qubix_engine_lag_seconds", ()): 0.25,
        ("qubix_engine_clock_skew_seconds", ()): -1.5,
        ("qubix_engine_reconnects_total", ()): 3,
        ("qubix_engine_script_seconds_count", script): 4,
        ("qubix_engine_script_seconds_sum", script): 2,
    }


async def test_a_store_that_is_away_has_no_lag(engine: SharedEngine) -> None:
    """What is not known is left out; counters go on."""
    engine.away = True
    fleet = Fleet()
    fleet.shared_store = look_at(engine)
    names = set(fleet.named("qubix_engine"))
    assert "qubix_engine_reconnects_total" in names
    assert not names & {"qubix_engine_lag_seconds", "qubix_engine_clock_skew_seconds"}


async def test_a_hub_with_a_store_of_its_own_shows_none() -> None:
    """There is nobody to be behind."""
    engine = MemoryEngine()
    await engine.open()
    fleet = Fleet()
    fleet.shared_store = look_at(engine)
    assert fleet.named("qubix_engine") == {}
