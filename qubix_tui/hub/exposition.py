"""What `/metrics` shows, for Prometheus: the hub itself, and the fleet as it is now.

A scrape takes a picture on the event loop, of counters and of records that nobody changes, and writes it on
a thread, compressed where the client takes that: tens of megabytes for 10,000 providers, and the loop goes on
meanwhile. Scrapes that come at the same time share one writing.

Names are in base units, as Prometheus asks for. What is not known is left out, and so are the values of a
provider that is not heard, or whose last sample is older than `FRESH_SECONDS`. No client or channel is ever
a label: their number has no bound.
"""

import asyncio
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as PROMETHEUS_TYPE
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.exposition import generate_latest as prometheus_text
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS_TYPE
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_text
from prometheus_client.registry import Collector

import qubix_tui
from qubix_tui.hub import dcgm, fleet_metrics
from qubix_tui.hub.fleet_metrics import Sampled, Shown
from qubix_tui.hub.metric_text import MetricText
from qubix_tui.hub.provider_state import Entry
from qubix_tui.hub.store_metrics import SharedStore, store_families
from qubix_tui.hub.telemetry import BROADCAST_BOUNDS, Telemetry
from qubix_tui.protocol.job_records import JobState

FRESH_SECONDS = 15.0
"""The age up to which a sample is shown: a provider that is silent for so long counts as out of reach."""

_END: Final = b"# EOF\n"
"""The last line of OpenMetrics."""

_GZIP: Final = 16
"""Added to zlib's window bits, it makes gzip's header and trailer."""


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """A hub at one moment."""

    ready: bool
    stores: bool
    shared_store: SharedStore | None
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
    queue_age: float | None
    """Seconds since the oldest job that waits was submitted."""
    jobs: Mapping[JobState, int]
    attempts: Mapping[tuple[str, str], int]
    """Attempts that ended since the hub's start, by status and first word of the reason."""


def take_picture(
    telemetry: Telemetry,
    providers: Sequence[Entry],
    now: float,
    *,
    ready: bool,
    stores: bool,
    shared_store: SharedStore | None = None,
    connections: int,
    subscriptions: int,
    queue_age: float | None,
    jobs: Mapping[JobState, int],
    attempts: Mapping[tuple[str, str], int],
) -> Picture:
    """Note what is to be shown.

    Args:
        telemetry: The hub's counters.
        providers: Those that it looks after.
        now: Seconds since the epoch (`Clock.time`).
        ready: Whether it serves, as `/readyz` says.
        stores: Whether its store took the newest change.
        shared_store: How that is, where several hubs may share it.
        connections: Open connections.
        subscriptions: Subscriptions that they hold, each counted.
        queue_age: Seconds since the oldest job that waits was submitted; None where none waits.
        jobs: How many jobs are in each state.
        attempts: How many attempts at jobs have ended, by status and first word of the reason.
    """
    return Picture(
        ready=ready,
        stores=stores,
        shared_store=shared_store,
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
        queue_age=queue_age,
        jobs=dict(jobs),
        attempts=dict(attempts),
    )


def _shown(entry: Entry, now: float) -> Shown:
    provider = entry.stored.provider
    if entry.metrics is None:
        return Shown(provider, None, None)
    age = max(0.0, now - entry.metrics_at)
    fresh = provider.is_online and age <= FRESH_SECONDS
    return Shown(provider, entry.metrics if fresh else None, age)


class HubCollector(Collector):
    """Gives the hub's own counters in a picture to prometheus-client.

    Args:
        picture: What is shown.
    """

    def __init__(self, picture: Picture) -> None:
        self._picture = picture

    def collect(self) -> Iterator[Metric]:
        """Give all families, each once."""
        return _hub_families(self._picture)


def _hub_families(picture: Picture) -> Iterator[Metric]:
    yield InfoMetricFamily("qubix_build", "What runs here.", {"version": qubix_tui.__version__})
    yield GaugeMetricFamily("qubix_ready", "1 if it serves, as /readyz says.", int(picture.ready))
    yield GaugeMetricFamily("qubix_store_up", "1 if its store took the newest change.", int(picture.stores))
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
    yield from _job_families(picture)
    if picture.shared_store is not None:
        yield from store_families(picture.shared_store)
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


def _job_families(picture: Picture) -> Iterator[Metric]:
    jobs = GaugeMetricFamily(
        "qubix_jobs", "Jobs by state; the finished ones are those kept.", labels=["state"]
    )
    for state in JobState:
        jobs.add_metric([state.value], picture.jobs.get(state, 0))
    yield jobs
    if picture.queue_age is not None:
        yield GaugeMetricFamily(
            "qubix_job_queue_age_seconds",
            "Time since the oldest job that waits was submitted.",
            picture.queue_age,
        )
    attempts = CounterMetricFamily(
        "qubix_job_attempts", "Attempts at jobs that have ended.", labels=["status", "reason"]
    )
    for (status, reason), count in sorted(picture.attempts.items()):
        attempts.add_metric([status, reason], count)
    yield attempts


def write(picture: Picture, *, openmetrics: bool, emit: Callable[[bytes], object]) -> None:
    """Write a picture.

    Args:
        picture: What is shown.
        openmetrics: Whether OpenMetrics is written, or Prometheus's own text.
        emit: Takes the text, some at a time.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(HubCollector(picture))
    emit(openmetrics_text(registry).removesuffix(_END) if openmetrics else prometheus_text(registry))
    text = MetricText(openmetrics=openmetrics, emit=emit)
    fresh = [
        Sampled(shown.provider, shown.metrics) for shown in picture.providers if shown.metrics is not None
    ]
    fleet_metrics.write_providers(text, picture.providers)
    fleet_metrics.write_samples(text, fresh)
    dcgm.write(text, fresh)
    if openmetrics:
        emit(_END)


class Answer(msgspec.Struct, frozen=True):
    """The answer to a scrape."""

    body: bytes
    content_type: str
    compressed: bool
    """With gzip."""


class Exposition:
    """Answers scrapes of one hub.

    Args:
        picture: Takes the picture, on the event loop.
    """

    def __init__(self, picture: Callable[[], Picture]) -> None:
        self._picture = picture
        self._under_way: dict[tuple[bool, bool], asyncio.Task[bytes]] = {}

    async def render(self, accept: str, accept_encoding: str) -> Answer:
        """Write what is so now.

        Args:
            accept: The ``Accept`` header: OpenMetrics where it asks for it, else Prometheus's own text.
            accept_encoding: The ``Accept-Encoding`` header.
        """
        openmetrics = _asks_for_openmetrics(accept)
        compressed = gzip_accepted(accept_encoding)
        form = openmetrics, compressed
        task = self._under_way.get(form)
        if task is None:
            encode = _encode_compressed if compressed else _encode
            task = asyncio.create_task(asyncio.to_thread(encode, self._picture(), openmetrics), name="scrape")
            self._under_way[form] = task
            task.add_done_callback(lambda _: self._under_way.pop(form))
        # Who hangs up does not take it from the others.
        body = await asyncio.shield(task)
        return Answer(body, OPENMETRICS_TYPE if openmetrics else PROMETHEUS_TYPE, compressed)


def _asks_for_openmetrics(accept: str) -> bool:
    """Whether prometheus-client would choose it; its version is ours to say, not the client's."""
    try:
        _, content_type = choose_encoder(accept)
    except (ValueError, TypeError):  # a version that is no number
        return False
    return content_type.startswith("application/openmetrics-text")


def _encode(picture: Picture, openmetrics: bool) -> bytes:
    parts: list[bytes] = []
    write(picture, openmetrics=openmetrics, emit=parts.append)
    return b"".join(parts)


def _encode_compressed(picture: Picture, openmetrics: bool) -> bytes:
    parts: list[bytes] = []
    # Level 1 makes a sixteenth of it; the levels above take several times as long for little more.
    gzip = zlib.compressobj(level=1, wbits=zlib.MAX_WBITS | _GZIP)
    write(picture, openmetrics=openmetrics, emit=lambda part: parts.append(gzip.compress(part)))
    return b"".join((*parts, gzip.flush()))
