"""A fleet to scrape, and what Prometheus reads then, by the parsers of prometheus-client."""

from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from qubix_tui.hub import exposition
from qubix_tui.hub.exposition import Picture, take_picture
from qubix_tui.hub.registry import Registry
from qubix_tui.hub.store_metrics import SharedStore
from qubix_tui.hub.telemetry import Telemetry
from qubix_tui.protocol.job_records import JobState
from qubix_tui.protocol.records import AgentCost, GpuMetrics, Metrics
from qubix_tui.protocol.requests import Register
from tests.hub.manual_clock import ManualClock

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
"""Values by name and sorted labels."""


def read(text: bytes, *, openmetrics: bool = True) -> Samples:
    """Every sample of an answer; fails where one is given twice."""
    samples: Samples = {}
    for family in (read_openmetrics if openmetrics else read_text)(text.decode()):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in samples, f"{key} is given twice"
            samples[key] = sample.value
    return samples


def scrape(picture: Picture, *, openmetrics: bool = True) -> Samples:
    """What a picture shows of the hub and its fleet; the process's own figures are left out."""
    parts: list[bytes] = []
    exposition.write(picture, openmetrics=openmetrics, emit=parts.append)
    samples = read(b"".join(parts), openmetrics=openmetrics)
    return {key: value for key, value in samples.items() if not key[0].startswith("process_")}


GPU = GpuMetrics(
    index=1,
    uuid="GPU-1",
    name="NVIDIA H200",
    util_percent=80.5,
    mem_util_percent=40,
    mem_used_mb=1_024,
    mem_total_mb=4_096,
    temp_c=61,
    power_w=350.5,
    power_limit_w=700,
    energy_j=12_345.5,
    sm_clock_mhz=1_980,
    throttle=["power cap"],
    xid=79,
)
SAMPLE = Metrics(
    cpu_percent=12.5, ram_percent=50, ram_used_mb=2, gpus=[GPU], agent=AgentCost(cpu_percent=0.2, rss_mb=30)
)


class Fleet:
    """Providers in a registry, and what a scrape shows of them."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.registry = Registry(self.clock)
        self.telemetry = Telemetry()
        self.ready = self.stores = True
        self.shared_store: SharedStore | None = None
        self.queue_age: float | None = None
        self.jobs: dict[JobState, int] = {}
        self.attempts: dict[tuple[str, str], int] = {}

    def add(self, name: str, sample: Metrics | None = SAMPLE, **said: object) -> str:
        """One more provider that has sent a sample, or none."""
        request = Register(worker_id=name, instance="i", name=name, **said)  # type: ignore[arg-type]
        entry = self.registry.registered(self.registry.register(request))
        if sample is not None:
            self.registry.sampled(entry, sample)
        return entry.id

    def picture(self) -> Picture:
        """What a scrape shows."""
        return take_picture(
            self.telemetry,
            list(self.registry),
            self.clock.time(),
            ready=self.ready,
            stores=self.stores,
            shared_store=self.shared_store,
            connections=0,
            subscriptions=0,
            queue_age=self.queue_age,
            jobs=self.jobs,
            attempts=self.attempts,
        )

    def scrape(self) -> Samples:
        """What Prometheus reads."""
        return scrape(self.picture())

    def named(self, prefix: str) -> dict[str, float]:
        """The values whose names begin so."""
        return {name: value for (name, _), value in self.scrape().items() if name.startswith(prefix)}
