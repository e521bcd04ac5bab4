"""The fleet's samples as Prometheus metrics, under names of our own and in base units.

Labels: ``provider``; of a GPU also ``gpu`` (its index) and ``uuid``; ``simulated="true"`` on what is
simulated, and on nothing else.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from qubix_tui.protocol.records import GpuMetrics, Metrics, Provider

Fresh = Sequence[tuple[Provider, Metrics]]

_MIB: Final = 1024 * 1024
_MHZ: Final = 1_000_000

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
    "memory_temperature_celsius": ("Temperature of the memory.", lambda g: g.mem_temp_c),
    "power_watts": ("Power drawn.", lambda g: g.power_w),
    "power_limit_watts": ("Power that it may draw.", lambda g: g.power_limit_w),
    "sm_clock_hertz": ("Clock of the multiprocessors.", lambda g: _times(g.sm_clock_mhz, _MHZ)),
    "memory_clock_hertz": ("Clock of the memory.", lambda g: _times(g.mem_clock_mhz, _MHZ)),
    "fan_speed_ratio": ("Speed of the fan.", lambda g: _ratio(g.fan_percent)),
    "pcie_receive_bytes_per_second": ("Bytes received over PCIe.", lambda g: g.pcie_rx_bytes_per_sec),
    "pcie_transmit_bytes_per_second": ("Bytes sent over PCIe.", lambda g: g.pcie_tx_bytes_per_sec),
    "last_xid": ("The driver's newest error report on it.", lambda g: g.xid),
}

_GPU_COUNTERS: Final[dict[str, tuple[str, Callable[[GpuMetrics], float | None]]]] = {
    "energy_joules": ("Energy since the driver was loaded.", lambda g: g.energy_j),
    "ecc_uncorrected_errors": (
        "Uncorrected memory errors since the driver was loaded.",
        lambda g: g.ecc_uncorrected,
    ),
}


def families(fresh: Fresh) -> Iterator[Metric]:
    """Give the families of all providers' machines and GPUs; one without a value is left out."""
    hosts = [(_labels(provider), metrics) for provider, metrics in fresh]
    gpus = [
        ({**labels, "gpu": str(gpu.index), **({"uuid": gpu.uuid} if gpu.uuid else {})}, gpu)
        for labels, metrics in hosts
        for gpu in metrics.gpus
    ]
    for name, (words, value_of) in _HOST.items():
        yield from _family(GaugeMetricFamily(f"qubix_provider_{name}", words), "", hosts, value_of)
    for name, (words, gpu_value_of) in _GPU.items():
        yield from _family(GaugeMetricFamily(f"qubix_gpu_{name}", words), "", gpus, gpu_value_of)
    for name, (words, gpu_value_of) in _GPU_COUNTERS.items():
        yield from _family(CounterMetricFamily(f"qubix_gpu_{name}", words), "_total", gpus, gpu_value_of)
    state = GaugeMetricFamily("qubix_gpu_state", "1 for the state that a GPU is in.")
    throttled = GaugeMetricFamily("qubix_gpu_throttled", "1 for each reason that holds a GPU back.")
    for labels, gpu in gpus:
        state.add_sample(state.name, {**labels, "state": gpu.state}, 1)
        for reason in gpu.throttle or ():
            throttled.add_sample(throttled.name, {**labels, "reason": reason}, 1)
    yield from (one for one in (state, throttled) if one.samples)


def _family(
    family: Metric,
    suffix: str,
    things: Sequence[tuple[dict[str, str], object]],
    value_of: Callable[..., float | None],
) -> Iterator[Metric]:
    for labels, thing in things:
        value = value_of(thing)
        if value is not None:
            family.add_sample(family.name + suffix, labels, value)
    if family.samples:
        yield family


def _labels(provider: Provider) -> dict[str, str]:
    labels = {"provider": provider.id}
    if provider.simulated:
        labels["simulated"] = "true"
    return labels


def _ratio(percent: float | None) -> float | None:
    return None if percent is None else percent / 100


def _times(value: float | None, unit: int) -> float | None:
    return None if value is None else value * unit
