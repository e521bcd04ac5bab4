"""The fleet as Prometheus metrics, under names of our own and in base units.

Labels: ``provider``; of a GPU also ``gpu`` (its index) and ``uuid``; of a MIG instance also ``parent``, the
UUID of the GPU that it is a part of; ``simulated="true"`` on what is simulated, and on nothing else. What is
not known is left out.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from qubix_tui.hub.metric_text import MetricText, labels, with_label
from qubix_tui.protocol.records import GpuMetrics, Metrics, Provider, ProviderState

_MIB: Final = 1024 * 1024
_MHZ: Final = 1_000_000


class Shown(msgspec.Struct, frozen=True, gc=False):
    """One provider at the moment of a scrape; ``metrics`` is None where there is no sample that is of now."""

    provider: Provider
    metrics: Metrics | None
    age: float | None
    """Seconds since its newest sample came, of now or not; None without one."""


class Sampled(msgspec.Struct, frozen=True, gc=False):
    """One provider with a sample that is of now."""

    provider: Provider
    metrics: Metrics


_HOST: Final[dict[str, tuple[str, Callable[[Metrics], float | None]]]] = {
    "cpu_usage_ratio": ("CPU in use, over all cores.", lambda m: _ratio(m.cpu_percent)),
    "cpu_temperature_celsius": ("Temperature of the CPU.", lambda m: m.cpu_temp),
    "load1": ("Processes that run or wait to, over one minute.", lambda m: m.load1),
    "memory_usage_ratio": ("Memory not available to a new program.", lambda m: _ratio(m.ram_percent)),
    "memory_used_bytes": ("Memory in use.", lambda m: _times(m.ram_used_mb, _MIB)),
    "memory_size_bytes": ("Memory of the machine.", lambda m: _times(m.ram_total_mb, _MIB)),
    "disk_usage_ratio": ("How full the disk is that jobs work on.", lambda m: _ratio(m.disk_percent)),
    "network_receive_bytes_per_second": ("Bytes received.", lambda m: m.net_rx_bytes_per_sec),
    "network_transmit_bytes_per_second": ("Bytes sent.", lambda m: m.net_tx_bytes_per_sec),
    "uptime_seconds": ("Time since the machine started.", lambda m: m.uptime_seconds),
    "agent_cpu_usage_ratio": (
        "What the agent takes of one core.",
        lambda m: _ratio(m.agent.cpu_percent) if m.agent else None,
    ),
    "agent_resident_memory_bytes": (
        "Memory of the agent.",
        lambda m: _times(m.agent.rss_mb, _MIB) if m.agent else None,
    ),
}

_GPU: Final[dict[str, tuple[str, Callable[[GpuMetrics], float | None]]]] = {
    "utilization_ratio": ("Part of the time in which a kernel ran.", lambda g: _ratio(g.util_percent)),
    "memory_utilization_ratio": (
        "Part of the time in which memory was read or written.",
        lambda g: _ratio(g.mem_util_percent),
    ),
    "memory_used_bytes": ("Memory in use.", lambda g: _times(g.mem_used_mb, _MIB)),
    "memory_size_bytes": ("Memory of the GPU.", lambda g: _times(g.mem_total_mb, _MIB)),
    "temperature_celsius": ("Temperature.", lambda g: g.temp_c),
    "slowdown_temperature_celsius": (
        "Temperature from which on it is held back.",
        lambda g: g.temp_slowdown_c,
    ),
    "memory_temperature_celsius": ("Temperature of the memory.", lambda g: g.mem_temp_c),
    "power_watts": ("Power drawn.", lambda g: g.power_w),
    "power_limit_watts": ("Power that it may draw.", lambda g: g.power_limit_w),
    "sm_clock_hertz": ("Clock of the multiprocessors.", lambda g: _times(g.sm_clock_mhz, _MHZ)),
    "memory_clock_hertz": ("Clock of the memory.", lambda g: _times(g.mem_clock_mhz, _MHZ)),
    "fan_speed_ratio": ("Speed of the fan.", lambda g: _ratio(g.fan_percent)),
    "pcie_receive_bytes_per_second": ("Bytes received over PCIe.", lambda g: g.pcie_rx_bytes_per_sec),
    "pcie_transmit_bytes_per_second": ("Bytes sent over PCIe.", lambda g: g.pcie_tx_bytes_per_sec),
    "pcie_link_generation": ("Generation of the PCIe link as it runs.", lambda g: g.pcie_link_gen),
    "pcie_link_width_lanes": ("Lanes of the PCIe link in use.", lambda g: g.pcie_link_width),
    "row_remap_pending": ("1 if a row of memory waits to be replaced.", lambda g: flag(g.row_remap_pending)),
    "row_remap_failure": ("1 if a row of memory could not be replaced.", lambda g: flag(g.row_remap_failure)),
    "last_xid": ("The driver's newest error report on it.", lambda g: g.xid),
}

_GPU_COUNTERS: Final[dict[str, tuple[str, Callable[[GpuMetrics], float | None]]]] = {
    "energy_joules": ("Energy since the driver was loaded.", lambda g: g.energy_j),
    "ecc_corrected_errors": (
        "Corrected memory errors since the driver was loaded.",
        lambda g: g.ecc_corrected,
    ),
    "ecc_uncorrected_errors": (
        "Uncorrected memory errors since the driver was loaded.",
        lambda g: g.ecc_uncorrected,
    ),
}


_FACTS: Final = ("name", "gpu_model", "location", "driver_version", "agent_version")
"""Members of a provider's record that say what it is, and rarely change."""


def current_gpus(fresh: Sequence[Sampled]) -> Iterator[tuple[Provider, GpuMetrics]]:
    """Give the GPUs whose values are of now, each with its provider."""
    for sampled in fresh:
        for gpu in sampled.metrics.gpus:
            if gpu.state != "stale":
                yield sampled.provider, gpu


def write_providers(text: MetricText, providers: Sequence[Shown]) -> None:
    """Write what is known of the providers without a sample."""
    counts = Counter(shown.provider.state for shown in providers)
    by_state = {labels({"state": state.value}): counts[state] for state in ProviderState}
    text.family("qubix_providers", "gauge", "Providers by state.", by_state, _as_it_is)
    named = {_provider_labels(shown.provider): shown for shown in providers}
    states = {with_label(own, "state", shown.provider.state.value): 1 for own, shown in named.items()}
    text.family("qubix_provider_state", "gauge", "1 for the state that it is in.", states, _as_it_is)
    facts = {_with_facts(own, shown.provider): 1 for own, shown in named.items()}
    text.family("qubix_provider", "info", "What it is.", facts, _as_it_is)
    text.family(
        "qubix_provider_sample_age_seconds",
        "gauge",
        "Time since its newest sample came.",
        named,
        lambda shown: shown.age,
    )


def write_samples(text: MetricText, fresh: Sequence[Sampled]) -> None:
    """Write the newest samples of machines and of their GPUs."""
    hosts = {_provider_labels(sampled.provider): sampled.metrics for sampled in fresh}
    for name, (words, value_of) in _HOST.items():
        text.family(f"qubix_provider_{name}", "gauge", words, hosts, value_of)
    # Keyed by their labels: a sample that has a GPU twice must not make the whole scrape invalid.
    gpus = {_gpu_labels(provider, gpu): gpu for provider, gpu in current_gpus(fresh)}
    for name, (words, gpu_value_of) in _GPU.items():
        text.family(f"qubix_gpu_{name}", "gauge", words, gpus, gpu_value_of)
    for name, (words, gpu_value_of) in _GPU_COUNTERS.items():
        text.family(f"qubix_gpu_{name}", "counter", words, gpus, gpu_value_of)
    held_back = {
        with_label(own, "reason", reason): 1 for own, gpu in gpus.items() for reason in gpu.throttle or ()
    }
    text.family("qubix_gpu_throttled", "gauge", "1 for each reason it is held back.", held_back, _as_it_is)
    known = {_gpu_labels(sampled.provider, gpu): gpu for sampled in fresh for gpu in sampled.metrics.gpus}
    states = {with_label(own, "state", gpu.state): 1 for own, gpu in known.items()}
    text.family("qubix_gpu_state", "gauge", "1 for the state that it is in.", states, _as_it_is)


def _provider_labels(provider: Provider) -> str:
    own = {"provider": provider.id}
    return labels({**own, "simulated": "true"} if provider.simulated else own)


def _gpu_labels(provider: Provider, gpu: GpuMetrics) -> str:
    own = with_label(_provider_labels(provider), "gpu", str(gpu.index))
    if gpu.uuid is not None:
        own = with_label(own, "uuid", gpu.uuid)
    return own if gpu.parent_uuid is None else with_label(own, "parent", gpu.parent_uuid)


def _with_facts(own: str, provider: Provider) -> str:
    for name in _FACTS:
        value = getattr(provider, name)
        if value is not None:
            own = with_label(own, name, value)
    return own


def flag(truth: bool | None) -> int | None:
    """Give 1 for yes, 0 for no, None for not known."""
    return None if truth is None else int(truth)


def _as_it_is(value: int) -> int:
    return value


def _ratio(percent: float | None) -> float | None:
    return None if percent is None else percent / 100


def _times(value: float | None, unit: int) -> float | None:
    return None if value is None else value * unit
