"""What `/metrics` shows, for Prometheus: the hub itself, and the fleet as it is now.

A scrape takes a picture on the event loop, of counters and of records that nobody changes, and writes it on
a thread: for 10,000 providers that takes seconds, and the loop goes on meanwhile. Scrapes that come at the
same time share one picture.

Names are in base units, as Prometheus asks for. What is not known is left out, and so are the values of a
provider that is not heard, or whose last sample is older than `FRESH_SECONDS`. No client or channel is ever
a label: their number has no bound.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

import qubix_tui
from qubix_tui.hub import dcgm, fleet_metrics
from qubix_tui.hub.provider_state import Entry
from qubix_tui.hub.telemetry import BROADCAST_BOUNDS, Telemetry
from qubix_tui.protocol.records import Metrics, Provider, ProviderState

FRESH_SECONDS = 15.0
"""The age up to which a sample is shown: after that its provider counts as out of reach."""


class Shown(msgspec.Struct, frozen=True):
    """One provider in a picture; ``metrics`` is None where there is no sample that is fresh."""

    provider: Provider
    metrics: Metrics | None
    age: float | None
    """Seconds since its newest sample came, fresh or not; None without one."""


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """A hub at one moment."""

    connections: int
    subscriptions: int
    messages_sent: dict[str, int]
    messages_received: dict[str, int]
    slow_client_aborts: int
    rate_limited: int
    auth_failures: int
    broadcast_counts: Sequence[int]
    broadcast_seconds: float
    providers: Sequence[Shown]


def take_picture(
    telemetry: Telemetry, providers: Sequence[Entry], now: float, *, connections: int, subscriptions: int
) -> Picture:
    """Note what is to be shown.

    Args:
        telemetry: The hub's counters.
        providers: All that it knows.
        now: Seconds since the epoch (`Clock.time`).
        connections: Open connections.
        subscriptions: Subscriptions that they hold, each counted.
    """
    return Picture(
        connections=connections,
        subscriptions=subscriptions,
        messages_sent=dict(telemetry.messages_sent),
        messages_received=dict(telemetry.messages_received),
        slow_client_aborts=telemetry.slow_client_aborts,
        rate_limited=telemetry.rate_limited,
        auth_failures=telemetry.auth_failures,
        broadcast_counts=tuple(telemetry.broadcast_counts),
        broadcast_seconds=telemetry.broadcast_seconds,
        providers=[_shown(entry, now) for entry in providers],
    )


def _shown(entry: Entry, now: float) -> Shown:
    provider = entry.stored.provider
    if entry.metrics is None:
        return Shown(provider, None, None)
    age = max(0.0, now - entry.metrics_at)
    fresh = provider.is_online and age <= FRESH_SECONDS
    return Shown(provider, entry.metrics if fresh else None, age)


class PictureCollector(Collector):
    """Gives a picture to prometheus-client.

    Args:
        picture: What is shown.
    """

    def __init__(self, picture: Picture) -> None:
        self._picture = picture

    def collect(self) -> Iterator[Metric]:
        """Give all families, each once."""
        picture = self._picture
        yield from _hub_families(picture)
        yield from _provider_families(picture.providers)
        fresh = [(shown.provider, shown.metrics) for shown in picture.providers if shown.metrics is not None]
        yield from fleet_metrics.families(fresh)
        yield from dcgm.families(fresh)


def _hub_families(picture: Picture) -> Iterator[Metric]:
    yield InfoMetricFamily("qubix_build", "What runs here.", {"version": qubix_tui.__version__})
    yield GaugeMetricFamily("qubix_connections", "Open WebSocket connections.", picture.connections)
    yield GaugeMetricFamily(
        "qubix_subscriptions", "Subscriptions held by all connections together.", picture.subscriptions
    )
    for name, words, counts in (
        ("qubix_messages_sent", "Messages delivered to clients.", picture.messages_sent),
        ("qubix_messages_received", "Messages from clients.", picture.messages_received),
    ):
        family = CounterMetricFamily(name, words, labels=["type"])
        for kind, count in sorted(counts.items()):
            family.add_metric([kind], count)
        yield family
    for name, words, value in (
        ("qubix_slow_client_aborts", "Clients cut: they did not read.", picture.slow_client_aborts),
        ("qubix_rate_limited", "Requests refused by a limit.", picture.rate_limited),
        ("qubix_auth_failures", "Tokens refused.", picture.auth_failures),
    ):
        yield CounterMetricFamily(name, words, value)
    buckets: list[tuple[str, float]] = []
    total = 0
    for bound, count in zip((*map(str, BROADCAST_BOUNDS), "+Inf"), picture.broadcast_counts, strict=True):
        total += count
        buckets.append((bound, total))
    yield HistogramMetricFamily(
        "qubix_broadcast_duration_seconds",
        "How long one flush of the fan-out took.",
        buckets=buckets,
        sum_value=picture.broadcast_seconds,
    )


def _provider_families(providers: Sequence[Shown]) -> Iterator[Metric]:
    counts = Counter(shown.provider.state for shown in providers)
    family = GaugeMetricFamily("qubix_providers", "Providers by state.", labels=["state"])
    for state in ProviderState:
        family.add_metric([state.value], counts[state])
    yield family
    state_of = GaugeMetricFamily(
        "qubix_provider_state", "1 for the state that a provider is in.", labels=["provider", "state"]
    )
    facts = InfoMetricFamily("qubix_provider", "What a provider is.", labels=["provider"])
    age = GaugeMetricFamily(
        "qubix_provider_sample_age_seconds", "Age of a provider's newest sample.", labels=["provider"]
    )
    for shown in providers:
        provider = shown.provider
        state_of.add_metric([provider.id, provider.state.value], 1)
        known = {
            "name": provider.name,
            "gpu_model": provider.gpu_model,
            "location": provider.location,
            "driver_version": provider.driver_version,
            "agent_version": provider.agent_version,
            "simulated": "true" if provider.simulated else None,
        }
        facts.add_metric([provider.id], {label: value for label, value in known.items() if value is not None})
        if shown.age is not None:
            age.add_metric([provider.id], shown.age)
    yield from (state_of, facts, age)


class Exposition:
    """Answers scrapes of one hub.

    Args:
        picture: Takes the picture, on the event loop.
    """

    def __init__(self, picture: Callable[[], Picture]) -> None:
        self._picture = picture
        self._under_way: dict[str, asyncio.Task[bytes]] = {}

    async def render(self, accept: str) -> tuple[bytes, str]:
        """Write what is so now.

        Args:
            accept: The ``Accept`` header: OpenMetrics where it asks for it, else Prometheus's own text.

        Returns:
            The text, and its content type.
        """
        try:
            encoder, content_type = choose_encoder(accept)
        except (ValueError, TypeError):  # a version that is no number
            encoder, content_type = choose_encoder("")
        task = self._under_way.get(content_type)
        if task is None:
            task = asyncio.create_task(asyncio.to_thread(_encode, encoder, self._picture()), name="scrape")
            self._under_way[content_type] = task
            task.add_done_callback(lambda _: self._under_way.pop(content_type))
        # Who hangs up does not take it from the others.
        return await asyncio.shield(task), content_type


def _encode(encoder: Callable[[Collector], bytes], picture: Picture) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    registry.register(PictureCollector(picture))
    return encoder(registry)
