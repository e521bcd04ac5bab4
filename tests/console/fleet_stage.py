"""Fleets to put on the console's screen: nobody, three machines with a story each, and a crowd."""

import random
from collections.abc import Sequence
from typing import Any

from qubix_tui.console.app import QubixApp
from qubix_tui.protocol import events
from qubix_tui.protocol.events import StatusChanged
from qubix_tui.protocol.marketplace import FleetDigest, FleetSnapshot
from qubix_tui.protocol.records import Headline, Provider, ProviderState, ProviderStatus
from qubix_tui.protocol.types import to_timestamp
from tests.console.provider_stage import NOW, StandInConnection, console

MINUTE_STEPS = 13
"""Samples, 5 s apart, that fill a row's minute."""

KINDS: Sequence[tuple[str, int, float, int]] = (
    ("NVIDIA GeForce RTX 4090", 24564, 450, 90),
    ("NVIDIA GeForce RTX 3090", 24576, 350, 93),
    ("NVIDIA A100-SXM4-80GB", 81920, 400, 92),
    ("NVIDIA H200", 143771, 700, 87),
    ("NVIDIA RTX 6000 Ada Generation", 49140, 300, 90),
)
"""Model, memory in MiB, power limit in W, slowdown threshold in °C."""

PLACES = ("Lisbon", "New York", "Oslo", "Tokyo", None)


def machine(name: str, state: ProviderState, kind: int, gpus: int, **more: Any) -> Provider:
    """A provider's record."""
    model, memory, _, _ = KINDS[kind]
    known: dict[str, Any] = {
        "id": f"{name}-3f9a1c",
        "worker_id": f"w-{name}",
        "name": name,
        "state": state,
        "is_online": state.is_online,
        "is_available": state.is_available,
        "registered_at": to_timestamp(NOW - 86400),
        "gpu_model": model,
        "gpu_count": gpus,
        "gpu_mem_total_mb": memory * gpus,
        "cpu_model": "AMD EPYC 9354",
        "driver_version": "580.65.06",
        "os": "Ubuntu 24.04",
        "location": PLACES[kind],
        "price_per_hour": round(0.11 * gpus * (kind + 2), 2),
    }
    return Provider(**{**known, **more})


def sample(record: Provider, at: float, use: float, temp: float, **more: Any) -> Headline:
    """Its newest sample: what goes with so much use and heat."""
    _, _, limit, slowdown = next(kind for kind in KINDS if kind[0] == record.gpu_model)
    gpus = record.gpu_count or 0
    known: dict[str, Any] = {
        "gpu_percent": use,
        "gpu_temp": temp,
        "hottest_gpu": gpus - 1,
        "temp_slowdown_c": float(slowdown),
        "gpu_mem_used_mb": int((record.gpu_mem_total_mb or 0) * min(1.0, 0.05 + use / 110)),
        "gpu_mem_total_mb": record.gpu_mem_total_mb,
        "power_w": gpus * limit * (0.15 + 0.0084 * use),
        "power_limit_w": gpus * limit,
        "cpu_percent": use / 3,
        "ram_percent": 20 + use / 3,
    }
    return Headline(provider_id=record.id, timestamp=to_timestamp(at), **{**known, **more})


def three() -> list[tuple[Provider, float, float, dict[str, Any]]]:
    """A hot one at work, one at rest, and one that fell silent: record, use, heat, and what else there is."""
    busy = machine("rig-41", ProviderState.BUSY, 0, 4, current_job_id="train-7f")
    rest = machine("host-a9", ProviderState.AVAILABLE, 2, 2, simulated=True)
    silent = machine("barn-7", ProviderState.UNREACHABLE, 1, 1)
    return [
        (busy, 88.0, 87.0, {"throttle": ["power cap"]}),
        (rest, 1.0, 38.0, {}),
        (silent, 31.0, 61.0, {}),
    ]


def crowd(count: int) -> list[tuple[Provider, float, float, dict[str, Any]]]:
    """So many machines, the same each time: most at work or at rest, a few in each kind of trouble."""
    chance = random.Random(7)
    states = [ProviderState.AVAILABLE] * 30 + [ProviderState.BUSY] * 60
    states += [ProviderState.PAUSED] * 4 + [ProviderState.UNREACHABLE] * 3 + [ProviderState.OFFLINE] * 3
    made = []
    for number in range(count):
        state = chance.choice(states)
        is_busy = state is ProviderState.BUSY
        record = machine(
            f"{chance.choice(('rig', 'atlas', 'barn', 'host', 'lab'))}-{number:03d}",
            state,
            chance.randrange(len(KINDS)),
            chance.choice((1, 1, 2, 4, 8)),
            simulated=chance.random() < 0.2,
            current_job_id=f"{chance.choice(('train', 'render', 'llm'))}-{number:x}" if is_busy else None,
        )
        more: dict[str, Any] = {}
        if is_busy and chance.random() < 0.05:
            more = {"throttle": ["power cap"]}
        if chance.random() < 0.01:
            more = {"gpus_lost": 1}
        use = chance.uniform(60, 100) if is_busy else chance.uniform(0, 3)
        made.append((record, use, chance.uniform(60, 80) if is_busy else chance.uniform(30, 45), more))
    return made


def fill(connection: StandInConnection, count: int) -> None:
    """Let the hub tell of a fleet, and of its last minute; 3 are `three`, more are a `crowd`."""
    fleet = three() if count == 3 else crowd(count)
    records = [record for record, *_ in fleet]
    connection.emit(events.MARKETPLACE_UPDATE, FleetSnapshot(providers=records, page=1, pages=1))
    chance = random.Random(11)
    for step in range(MINUTE_STEPS):
        at = NOW - 5 * (MINUTE_STEPS - 1 - step)
        headlines = []
        for record, use, temp, more in fleet:
            if not record.is_online and step >= MINUTE_STEPS - 4:
                continue
            swing = min(100.0, max(0.0, use + chance.uniform(-8, 8)))
            headlines.append(sample(record, at - 0.4, swing, temp, **more))
        connection.emit(events.MARKETPLACE_UPDATE, FleetDigest(providers=headlines))


def lose(connection: StandInConnection, provider_id: str, reason: str) -> None:
    """Let a provider fall silent, now."""
    state = ProviderState.UNREACHABLE
    status = ProviderStatus(
        is_online=False, is_available=False, state=state, reason=reason, current_job_id=None
    )
    change = StatusChanged(provider_id=provider_id, status=status, timestamp=to_timestamp(connection.now))
    connection.emit(events.PROVIDER_STATUS_CHANGED, change)


def fleet_console(**more: Any) -> tuple[QubixApp, StandInConnection]:
    """A console whose clock stands still, and its stand-in connection; `fill` it once it runs."""
    app, connection = console(**more)
    app.monotonic = lambda: 1000.0
    return app, connection
