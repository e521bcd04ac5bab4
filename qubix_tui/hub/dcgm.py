"""The fleet's GPUs under the names and units of NVIDIA's DCGM exporter: dashboards made for that one work.

A fact of that exporter, not of ours: memory is in MiB, clocks in MHz, utilisation in percent, energy in
millijoules, and the names have no suffix. ``Hostname`` is the provider's id, which begins with ``sim-`` where
it is simulated.
"""

from collections.abc import Callable, Sequence
from typing import Final

from qubix_tui.hub.fleet_metrics import Sampled, current_gpus, flag
from qubix_tui.hub.metric_text import MetricText, labels
from qubix_tui.protocol.records import GpuMetrics


def _free(gpu: GpuMetrics) -> float | None:
    if gpu.mem_total_mb is None or gpu.mem_used_mb is None:
        return None
    return max(0, gpu.mem_total_mb - gpu.mem_used_mb)


def _whole(gpu: GpuMetrics) -> int:
    """Index of the GPU that it is, or that it is a MIG instance of."""
    return gpu.index if gpu.parent_index is None else gpu.parent_index


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
    "CORRECTABLE_REMAPPED_ROWS": (
        "Number of remapped rows for correctable errors.",
        lambda g: g.row_remaps_correctable,
    ),
    "UNCORRECTABLE_REMAPPED_ROWS": (
        "Number of remapped rows for uncorrectable errors.",
        lambda g: g.row_remaps_uncorrectable,
    ),
    "ROW_REMAP_FAILURE": ("Whether remapping of rows has failed.", lambda g: flag(g.row_remap_failure)),
    "XID_ERRORS": ("Value of the last XID error encountered.", lambda g: g.xid),
}


def write(text: MetricText, fresh: Sequence[Sampled]) -> None:
    """Write the view's families; one without a value is left out."""
    gpus = {
        labels(
            {
                "gpu": str(_whole(gpu)),
                "UUID": gpu.uuid or "",
                "device": f"nvidia{_whole(gpu)}",
                "modelName": gpu.name or provider.gpu_model or "",
                "Hostname": provider.id,
            }
        ): gpu
        for provider, gpu in current_gpus(fresh)
    }
    for name, (words, value_of) in _FIELDS.items():
        text.family(f"DCGM_FI_DEV_{name}", "gauge", words, gpus, value_of)
    # A counter there, without the suffix that a counter has to have in OpenMetrics.
    text.family(
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        "unknown",
        "Total energy consumption since boot (in mJ).",
        gpus,
        lambda gpu: None if gpu.energy_j is None else gpu.energy_j * 1_000,
    )
