"""The fleet's GPUs under the names and units of NVIDIA's DCGM exporter: dashboards made for that one work.

A fact of that exporter, not of ours: memory is in MiB, clocks in MHz, utilisation in percent, energy in
millijoules, and the names have no suffix. ``Hostname`` is the provider's id, which begins with ``sim-`` where
it is simulated.
"""

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric, UnknownMetricFamily

from qubix_tui.hub.fleet_metrics import Fresh
from qubix_tui.protocol.records import GpuMetrics

LABELS: Final = ("gpu", "UUID", "device", "modelName", "Hostname")


def _free(gpu: GpuMetrics) -> float | None:
    if gpu.mem_total_mb is None or gpu.mem_used_mb is None:
        return None
    return max(0, gpu.mem_total_mb - gpu.mem_used_mb)


_FIELDS: Final[dict[str, tuple[str, Callable[[GpuMetrics], float | None]]]] = {
    "GPU_UTIL": ("GPU utilization (in %).", lambda g: g.util_percent),
    "MEM_COPY_UTIL": ("Memory utilization (in %).", lambda g: g.mem_util_percent),
    "FB_USED": ("Framebuffer memory used (in MiB).", lambda g: g.mem_used_mb),
    "FB_FREE": ("Framebuffer memory free (in MiB).", _free),
    "GPU_TEMP": ("GPU temperature (in C).", lambda g: g.temp_c),
    "MEMORY_TEMP": ("Memory temperature (in C).", lambda g: g.mem_temp_c),
    "POWER_USAGE": ("Power draw (in W).", lambda g: g.power_w),
    "SM_CLOCK": ("SM clock frequency (in MHz).", lambda g: g.sm_clock_mhz),
    "MEM_CLOCK": ("Memory clock frequency (in MHz).", lambda g: g.mem_clock_mhz),
    "XID_ERRORS": ("Value of the last XID error encountered.", lambda g: g.xid),
}


def families(fresh: Fresh) -> Iterator[Metric]:
    """Give the view's families; one without a value is left out."""
    gpus = [
        (
            [
                str(gpu.index),
                gpu.uuid or "",
                f"nvidia{gpu.index}",
                gpu.name or provider.gpu_model or "",
                provider.id,
            ],
            gpu,
        )
        for provider, metrics in fresh
        for gpu in metrics.gpus
    ]
    for name, (words, value_of) in _FIELDS.items():
        family = GaugeMetricFamily(f"DCGM_FI_DEV_{name}", words, labels=LABELS)
        for labels, gpu in gpus:
            value = value_of(gpu)
            if value is not None:
                family.add_metric(labels, value)
        if family.samples:
            yield family
    # A counter there, without the suffix that a counter has to have here.
    energy = UnknownMetricFamily(
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        "Total energy consumption since boot (in mJ).",
        labels=LABELS,
    )
    for labels, gpu in gpus:
        if gpu.energy_j is not None:
            energy.add_metric(labels, gpu.energy_j * 1_000)
    if energy.samples:
        yield energy
