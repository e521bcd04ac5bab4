"""A sample for people: what `qubix-agent sample` prints without ``--json``."""

from collections.abc import Iterator
from typing import Final

from qubix_tui.protocol.records import GpuMetrics, Metrics

UNKNOWN: Final = "—"

_LABEL_WIDTH: Final = 10


def lines(metrics: Metrics) -> Iterator[str]:
    """Give the lines of one sample; `—` stands for what is not known."""
    yield _line("sample", f"{_text(metrics.seq)}  {_text(metrics.sampled_at)}")
    yield _line(
        "cpu",
        f"{_text(metrics.cpu_percent, '%')}  {_text(metrics.cpu_temp, '°C')}  "
        f"{_text(metrics.cpu_mhz, ' MHz')}  load {_text(metrics.load1)}",
    )
    if metrics.cpu_core_percents is not None:
        yield _line("cores", " ".join(f"{core}%" for core in metrics.cpu_core_percents))
    yield _line("ram", _memory(metrics.ram_used_mb, metrics.ram_total_mb, metrics.ram_percent))
    yield _line("swap", _memory(metrics.swap_used_mb, metrics.swap_total_mb, None))
    if metrics.limit is not None:
        yield _line("limit", f"CPU and memory as far as the {metrics.limit} allows")
    rx, tx = metrics.net_rx_bytes_per_sec, metrics.net_tx_bytes_per_sec
    yield _line("network", f"in {_text(rx, ' B/s')}  out {_text(tx, ' B/s')}")
    read, written = metrics.disk_read_bytes_per_sec, metrics.disk_write_bytes_per_sec
    yield _line(
        "disk",
        f"{_memory(metrics.disk_used_mb, metrics.disk_total_mb, metrics.disk_percent)}  "
        f"read {_text(read, ' B/s')}  written {_text(written, ' B/s')}",
    )
    yield _line("uptime", _text(metrics.uptime_seconds, " s"))
    yield _line(
        "gpus",
        f"{_text(metrics.gpu_percent, '%')}  {_text(metrics.gpu_temp, '°C')}  "
        + _memory(metrics.gpu_mem_used_mb, metrics.gpu_mem_total_mb, None),
    )
    if metrics.gpu_note is not None:
        yield _line("", metrics.gpu_note)
    for gpu in metrics.gpus:
        yield from _gpu_lines(gpu)
    if metrics.agent is not None:
        cost = metrics.agent
        yield _line(
            "agent",
            f"{_text(cost.cpu_percent, '% of a core')}  {_text(cost.rss_mb, ' MiB')}  "
            f"{_text(cost.sample_ms, ' ms a sample')}",
        )


def _gpu_lines(gpu: GpuMetrics) -> Iterator[str]:
    yield _line(f"gpu {gpu.index}", f"{_text(gpu.name)}  {gpu.state}  {_text(gpu.uuid)}")
    yield _line(
        "",
        f"{_text(gpu.util_percent, '%')}  {_text(gpu.temp_c, '°C')}  "
        f"{_memory(gpu.mem_used_mb, gpu.mem_total_mb, None)}  "
        f"{_text(gpu.power_w, ' W')} of {_text(gpu.power_limit_w, ' W')}  fan {_text(gpu.fan_percent, '%')}  "
        f"{_text(gpu.sm_clock_mhz, ' MHz')}",
    )
    if (gpu.pcie_rx_bytes_per_sec, gpu.pcie_tx_bytes_per_sec) != (None, None):
        rx, tx = gpu.pcie_rx_bytes_per_sec, gpu.pcie_tx_bytes_per_sec
        yield _line("", f"PCIe in {_text(rx, ' B/s')}  out {_text(tx, ' B/s')}")
    held_back = [reason for reason in gpu.throttle or () if reason != "idle"]
    if held_back:
        yield _line("", "held back by " + ", ".join(held_back))
    for process in gpu.processes or ():
        yield _line("", f"{process.pid} {_text(process.name)}  {_text(process.mem_used_mb, ' MiB')}")


def _line(label: str, text: str) -> str:
    return f"{label:<{_LABEL_WIDTH}}{text}"


def _memory(used: int | None, total: int | None, percent: float | None) -> str:
    amount = f"{_text(used)} of {_text(total, ' MiB')}"
    return amount if percent is None else f"{amount}  {_text(percent, '%')}"


def _text(value: float | str | None, unit: str = "") -> str:
    return UNKNOWN if value is None else f"{value}{unit}"
