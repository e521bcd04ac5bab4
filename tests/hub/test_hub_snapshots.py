"""The present, in pages no longer than a frame."""

from collections.abc import Iterator
from typing import Any

import pytest

from qubix_tui.hub import snapshots
from qubix_tui.hub.provider_state import Entry
from qubix_tui.hub.registry import Registry
from qubix_tui.hub.snapshots import Past
from qubix_tui.protocol import MAX_FRAME_BYTES, codec
from qubix_tui.protocol.records import (
    GpuHistoryPoint,
    GpuMetrics,
    HistoryPoint,
    Metrics,
    Workload,
)
from qubix_tui.protocol.requests import Register
from tests.hub.frames import messages
from tests.hub.manual_clock import ManualClock


def registered(registry: Registry, number: int, **members: Any) -> Entry:
    """One more provider."""
    request = Register(worker_id=f"w{number:05}", name=f"rig-{number}", instance="i", **members)
    return registry.registered(registry.register(request))


def pages(frames: Iterator[bytes]) -> list[dict[str, Any]]:
    """The data of all pages, each checked to be a frame of its own that a client can decode."""
    found = []
    for frame in frames:
        (message,) = messages(frame)
        codec.decode_event(codec.encode_record(message))
        found.append(message["data"])
    assert [page["page"] for page in found] == list(range(1, len(found) + 1))
    assert {page["pages"] for page in found} == {len(found)}
    return found


def points(count: int, gpus: int) -> list[HistoryPoint]:
    """A past of some steps."""
    gpu = GpuHistoryPoint(util_percent=99.5, mem_used_mb=80_000, temp_c=61.5, power_w=401.25)
    return [
        HistoryPoint(timestamp=f"2026-01-31T12:00:{n % 60:02}.000Z", cpu_percent=1.5, gpus=[gpu] * gpus)
        for n in range(count)
    ]


def past(entry: Entry, some: list[HistoryPoint]) -> Past:
    """What a hub remembers of a provider."""
    return Past(last=entry.last_sample(), points=some)


def test_an_empty_fleet_is_one_page() -> None:
    """A client learns that there is nobody, and that it has seen all."""
    assert pages(snapshots.fleet(Registry(ManualClock()), "marketplace")) == [
        {"kind": "snapshot", "providers": [], "page": 1, "pages": 1}
    ]


def test_three_thousand_providers_come_in_frames_of_64_kib() -> None:
    """Every provider once, in order, with its last heartbeat; pages are reasonably full."""
    clock = ManualClock()
    registry = Registry(clock)
    for number in range(3_000):
        registered(registry, number, gpu_model="NVIDIA H200", location="Lisbon" * (number % 10))
    frames = list(snapshots.fleet(registry, "marketplace"))
    assert all(len(frame) <= MAX_FRAME_BYTES for frame in frames)
    assert all(len(frame) > MAX_FRAME_BYTES * 0.9 for frame in frames[:-1])
    providers = [provider for page in pages(iter(frames)) for provider in page["providers"]]
    assert [provider["workerId"] for provider in providers] == [f"w{n:05}" for n in range(3_000)]
    assert {provider["lastHeartbeat"] for provider in providers} == {"2027-01-15T08:00:00.000Z"}


def test_a_snapshot_shows_what_was_true_when_it_was_asked_for() -> None:
    """Providers that grow while it is read change neither the number nor the size of its pages."""
    registry = Registry(ManualClock())
    for number in range(200):
        registered(registry, number)
    frames = snapshots.fleet(registry, "marketplace")
    for number in range(200):
        registered(registry, number, workloads=[Workload(name="x", description="y" * 1_000)])
    registered(registry, 200)
    providers = [provider for page in pages(frames) for provider in page["providers"]]
    assert len(providers) == 200
    assert all(provider["workloads"] == [] for provider in providers)


def test_a_record_of_the_longest_kind_fits() -> None:
    """With what the hub adds to it later."""
    registry = Registry(ManualClock())
    workloads = [Workload(name="x", description="y" * 1_000) for _ in range(45)]
    registered(registry, 1, workloads=workloads)
    registered(registry, 2, workloads=workloads)
    assert [len(page["providers"]) for page in pages(snapshots.fleet(registry, "marketplace"))] == [1, 1]


def test_one_providers_snapshot_holds_record_sample_and_past() -> None:
    """All on one page where they fit."""
    registry = Registry(ManualClock())
    entry = registered(registry, 1)
    registry.sampled(entry, Metrics(cpu_percent=4.5))
    (page,) = pages(snapshots.provider(entry.id, entry, past(entry, points(120, 1))))
    assert page["kind"] == "provider_snapshot"
    assert page["provider"]["id"] == entry.id
    assert page["metrics"]["cpuPercent"] == 4.5
    assert page["metricsTimestamp"] == "2027-01-15T08:00:00.000Z"
    assert len(page["history"]) == 120


def test_a_long_past_takes_more_pages() -> None:
    """Oldest first; record and sample on the first page only."""
    registry = Registry(ManualClock())
    entry = registered(registry, 1)
    registry.sampled(entry, Metrics(cpu_percent=4.5))
    told = points(120, 16)
    found = pages(snapshots.provider(entry.id, entry, past(entry, told)))
    assert len(found) > 2
    assert [page["provider"] is None for page in found] == [False] + [True] * (len(found) - 1)
    assert [page["metrics"] is None for page in found] == [False] + [True] * (len(found) - 1)
    assert [point["timestamp"] for page in found for point in page["history"]] == [
        point.timestamp for point in told
    ]


@pytest.mark.parametrize("steps", [0, 1, 120])
def test_a_record_and_a_sample_too_long_for_one_page_take_two(steps: int) -> None:
    """Whatever follows them."""
    registry = Registry(ManualClock())
    entry = registered(registry, 1, workloads=[Workload(name="x", description="y" * 1_000)] * 40)
    gpus = [GpuMetrics(index=n, name="z" * 100) for n in range(60)]
    registry.sampled(entry, Metrics(gpus=gpus))
    found = pages(snapshots.provider(entry.id, entry, past(entry, points(steps, 16))))
    assert (found[0]["provider"] is None, found[0]["metrics"]) == (False, None)
    assert (found[1]["provider"], len(found[1]["metrics"]["gpus"])) == (None, 60)
    assert sum(len(page["history"]) for page in found) == steps


def test_a_provider_that_is_not_known_is_one_page_of_nulls() -> None:
    """A watcher may come before its provider."""
    (page,) = pages(snapshots.provider("rig-9", None, Past()))
    assert (page["providerId"], page["provider"], page["metrics"], page["metricsTimestamp"]) == (
        "rig-9",
        None,
        None,
        None,
    )


def test_history_replies_in_pages_with_the_id() -> None:
    """Each page is a direct reply; no past is one empty page."""
    frames = list(snapshots.history("rig-9", points(120, 16), "q"))
    assert len(frames) > 2
    assert {messages(frame)[0]["id"] for frame in frames} == {"q"}
    assert sum(len(page["points"]) for page in pages(iter(frames))) == 120
    assert pages(snapshots.history("rig-9", [], None)) == [
        {"providerId": "rig-9", "points": [], "page": 1, "pages": 1}
    ]
