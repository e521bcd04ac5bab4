"""The fleet as Prometheus sees it: names, units, labels, and nothing that is not known."""

import math

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from qubix_tui.hub.exposition import FRESH_SECONDS, PictureCollector, take_picture
from qubix_tui.hub.registry import Registry
from qubix_tui.hub.telemetry import Telemetry
from qubix_tui.protocol.records import AgentCost, GpuMetrics, Metrics
from qubix_tui.protocol.requests import Register
from tests.hub.manual_clock import ManualClock
from tests.hub.test_hub_telemetry import Samples
from tests.hub.wire import running

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

    def add(self, name: str, sample: Metrics | None = SAMPLE, **said: object) -> str:
        """One more provider that has sent a sample, or none."""
        request = Register(worker_id=name, instance="i", name=name, **said)  # type: ignore[arg-type]
        entry = self.registry.registered(self.registry.register(request), request)
        if sample is not None:
            self.registry.sampled(entry, sample)
        return entry.id

    def text(self) -> str:
        picture = take_picture(
            Telemetry(), list(self.registry), self.clock.time(), connections=0, subscriptions=0
        )
        registry = CollectorRegistry()
        registry.register(PictureCollector(picture))
        return str(generate_latest(registry), "utf-8")

    def scrape(self) -> Samples:
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(self.text())
            for sample in family.samples
        }

    def named(self, prefix: str) -> dict[str, float]:
        return {name: value for (name, _), value in self.scrape().items() if name.startswith(prefix)}


@pytest.fixture
def fleet() -> Fleet:
    """A fleet without providers."""
    return Fleet()


def test_a_gpu_is_shown_in_base_units(fleet: Fleet) -> None:
    """Bytes, ratios, hertz; labelled by provider, index and UUID; counters end in ``_total``."""
    provider = fleet.add("rig")
    samples = fleet.scrape()
    labels = (("gpu", "1"), ("provider", provider), ("uuid", "GPU-1"))
    for name, value in {
        "qubix_gpu_utilization_ratio": 0.805,
        "qubix_gpu_memory_used_bytes": 1_024 * 1024 * 1024,
        "qubix_gpu_memory_size_bytes": 4_096 * 1024 * 1024,
        "qubix_gpu_temperature_celsius": 61,
        "qubix_gpu_power_watts": 350.5,
        "qubix_gpu_energy_joules_total": 12_345.5,
        "qubix_gpu_sm_clock_hertz": 1.98e9,
        "qubix_gpu_last_xid": 79,
    }.items():
        assert samples[name, labels] == pytest.approx(value)
    assert samples["qubix_gpu_throttled", tuple(sorted((*labels, ("reason", "power cap"))))] == 1
    assert samples["qubix_gpu_state", tuple(sorted((*labels, ("state", "ok"))))] == 1
    assert samples["qubix_provider_cpu_usage_ratio", (("provider", provider),)] == 0.125
    assert samples["qubix_provider_agent_resident_memory_bytes", (("provider", provider),)] == 30 * 2**20


def test_dashboards_made_for_dcgm_find_their_names(fleet: Fleet) -> None:
    """The names, units and labels of that exporter."""
    provider = fleet.add("rig")
    samples = fleet.scrape()
    labels = (
        ("Hostname", provider),
        ("UUID", "GPU-1"),
        ("device", "nvidia1"),
        ("gpu", "1"),
        ("modelName", "NVIDIA H200"),
    )
    for name, value in {
        "GPU_UTIL": 80.5,
        "FB_USED": 1_024,
        "FB_FREE": 3_072,
        "GPU_TEMP": 61,
        "POWER_USAGE": 350.5,
        "TOTAL_ENERGY_CONSUMPTION": 12_345_500,
        "SM_CLOCK": 1_980,
    }.items():
        assert samples[f"DCGM_FI_DEV_{name}", labels] == value


def test_what_is_not_known_is_left_out(fleet: Fleet) -> None:
    """No NaN and no zero in its place: not for a member, a GPU, a sample."""
    fleet.add("silent", None)
    fleet.add("bare", Metrics(gpus=[GpuMetrics(index=0)]))
    samples = fleet.scrape()
    assert not any(math.isnan(value) for value in samples.values())
    assert {name for name, _ in samples if "gpu" in name.lower()} == {"qubix_gpu_state"}
    assert not [name for name, _ in samples if name.startswith("DCGM")]
    assert [name for name, _ in samples if name == "qubix_provider_sample_age_seconds"] == [
        "qubix_provider_sample_age_seconds"
    ]


def test_old_values_are_no_values(fleet: Fleet) -> None:
    """A sample that is too old is left out, and its age is told."""
    provider = fleet.add("rig")
    fleet.clock.advance(FRESH_SECONDS)
    assert fleet.named("DCGM")
    fleet.clock.advance(1)
    assert not fleet.named("DCGM")
    assert not fleet.named("qubix_gpu")
    assert fleet.scrape()["qubix_provider_sample_age_seconds", (("provider", provider),)] == FRESH_SECONDS + 1


def test_the_values_of_a_provider_that_is_gone_are_left_out(fleet: Fleet) -> None:
    """However young its last sample is; its state is told."""
    provider = fleet.add("rig")
    entry = fleet.registry.get(provider)
    assert entry is not None
    fleet.registry.disconnected(entry)
    outcome = fleet.registry.goodbye(entry)
    assert outcome is not None
    fleet.registry.apply(outcome)
    assert not fleet.named("qubix_gpu")
    samples = fleet.scrape()
    assert samples["qubix_provider_state", (("provider", provider), ("state", "offline"))] == 1
    assert samples["qubix_providers", (("state", "offline"),)] == 1
    assert samples["qubix_providers", (("state", "available"),)] == 0


def test_what_is_simulated_says_so(fleet: Fleet) -> None:
    """By a label, by the provider's facts, and in DCGM's view by its name."""
    provider = fleet.add("a", simulated=True)
    assert provider == "sim-a"
    for name, labels in fleet.scrape():
        if name.startswith("qubix_gpu_"):
            assert ("simulated", "true") in labels
        if name.startswith("DCGM"):
            assert ("Hostname", "sim-a") in labels
        if name == "qubix_provider_info":
            assert ("simulated", "true") in labels


def test_names_from_outside_stay_within_their_label(fleet: Fleet) -> None:
    """Quotes, backslashes and what looks like a metric."""
    name = 'x"} 1 \\ qubix_connections 99 {a="'
    fleet.add("rig", Metrics(gpus=[GpuMetrics(index=0, uuid=name, name=name, temp_c=1)]), gpu_model=name)
    samples = fleet.scrape()
    assert samples["qubix_connections", ()] == 0
    assert ("uuid", name) in next(labels for at, labels in samples if at == "qubix_gpu_temperature_celsius")


async def test_a_hub_answers_a_scrape() -> None:
    """Over its socket, with the process's own figures beside the fleet's."""
    async with running() as hub, await hub.agent() as agent:
        await agent.register("w", name="rig")
        await agent.send("GPU_METRICS_UPDATE", {"metrics": {"gpus": [{"index": 0, "tempC": 50}]}})
        await agent.heard()
        picture = hub.hub.picture()
        assert [shown.metrics is not None for shown in picture.providers] == [True]
        async with await hub.client():
            assert hub.hub.picture().connections == 2
