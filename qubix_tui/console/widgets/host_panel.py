"""The machine itself: processor, memory, network, disk, and what the agent costs it."""

from collections.abc import Sequence
from typing import Final

from qubix_tui.console.columns import sparkline
from qubix_tui.console.format import (
    MIB_PER_GIB,
    UNKNOWN,
    format_bytes,
    format_duration,
    format_mem,
    format_percent,
    format_rate,
    format_temp,
    safe,
)
from qubix_tui.console.gpu_words import Fact
from qubix_tui.console.provider_history import CPU, NET_RX, NET_TX, RAM
from qubix_tui.console.widgets.graph import GrowingScale, Trace, axis_label
from qubix_tui.console.widgets.line_panel import Line, LinePanel
from qubix_tui.console.widgets.tiles import MIN_HEIGHT, cut, tiles, widen
from qubix_tui.console.widgets.timeline import Timeline
from qubix_tui.protocol.records import Metrics, Provider

LEAST_RATE: Final = 1000.0
"""Top of a quiet network's axis, bytes per second: a few packets are no peak."""

MOST_CORES: Final = 32
"""Columns for cores; of more cores each column has several."""

BYTES_PER_MIB: Final = 1024 * 1024

BETWEEN: Final = "   "
"""What keeps two values of a line apart."""


class HostPanel(LinePanel):
    """A provider's machine: one or two lines of numbers, and graphs where there is room for them."""

    def __init__(self, *, ascii_only: bool = False) -> None:
        super().__init__(ascii_only=ascii_only)
        self._metrics: Metrics | None = None
        self._record: Provider | None = None
        self._timeline: Timeline | None = None
        self._scales = {metric: GrowingScale(LEAST_RATE) for metric in (NET_RX, NET_TX)}

    def show(
        self,
        metrics: Metrics | None,
        record: Provider | None,
        timeline: Timeline,
        *,
        stale: bool = False,
    ) -> None:
        """Show a machine's present and past.

        Args:
            metrics: The newest sample; None before the first.
            record: What the provider says of its machine.
            timeline: The past.
            stale: Whether the sample is no longer of now.
        """
        self._metrics, self._record, self._timeline = metrics, record, timeline
        self.changed(stale=stale)

    def least_height(self, width: int) -> int:
        """Give the lines that its title and numbers take at a width."""
        return 1 + len(self._numbers(self._metrics or Metrics(), width))

    def make_lines(self, width: int, height: int) -> Sequence[Line]:
        """Give the panel's lines: title, numbers, graphs."""
        if self._timeline is None or not width:
            return []
        lines = [self._title(width), *self._numbers(self._metrics or Metrics(), width)]
        room = height - len(lines)
        if room >= MIN_HEIGHT:
            lines += tiles(self, self._traces(self._timeline), width, room)
        return lines

    def _title(self, width: int) -> Line:
        record = self._record
        line = [self.text("host", "title")]
        if record is not None:
            parts = [record.cpu_model, record.os, record.agent_version and f"agent {record.agent_version}"]
            if "cgroup" in {record.limit, self._metrics.limit if self._metrics is not None else None}:
                parts.append("within a container's limits")
            words = " · ".join(safe(part) for part in parts if part)
            line.append(self.text(f"  {cut(words, max(0, width - 8))}" if words else "", "label"))
        used = sum(segment.cell_length for segment in line)
        rule = ("-" if self.ascii_only else "─") * max(0, width - used - 1)
        return widen(self, [*line, self.text(f" {rule}", "rule")], width)

    def _numbers(self, metrics: Metrics, width: int) -> list[Line]:
        """Give the numbers in as many lines as they take, never breaking one."""
        lines: list[Line] = [[]]
        room = width
        for fact in _facts(metrics, self._record, ascii_only=self.ascii_only):
            length = len(fact.label) + 1 + len(fact.value) + len(BETWEEN)
            if length - len(BETWEEN) > room and lines[-1]:
                lines.append([])
                room = width
            lines[-1] += [self.text(f"{fact.label} ", "label"), self.text(fact.value + BETWEEN, fact.style)]
            room -= length
        return lines

    def _traces(self, timeline: Timeline) -> list[Trace]:
        traces = [
            timeline.trace(CPU, "CPU", 100, "100%", tells_marks=True),
            timeline.trace(RAM, "RAM", 100, "100%"),
        ]
        down, up = ("in", "out") if self.ascii_only else ("↓", "↑")
        for name, metric in ((f"net{down:>2}", NET_RX), (f"net{up:>2}", NET_TX)):
            top = self._scales[metric].fit(timeline.history.highest(metric))
            traces.append(timeline.trace(metric, name, top, axis_label(top)))
        return traces


def _facts(metrics: Metrics, record: Provider | None, *, ascii_only: bool) -> list[Fact]:
    """Give everything a machine says of itself, in fixed widths; unknown values are ``—``."""
    total = metrics.ram_total_mb or (record.ram_total_mb if record is not None else None)
    of_ram = f" of {total / MIB_PER_GIB:.0f}G" if total else ""
    load = UNKNOWN if metrics.load1 is None else f"{metrics.load1:.1f}"
    received, sent = format_rate(metrics.net_rx_bytes_per_sec), format_rate(metrics.net_tx_bytes_per_sec)
    return [
        Fact("CPU", f"{format_percent(metrics.cpu_percent):>4}{_processor(metrics, record)}"),
        *_cores(metrics, ascii_only=ascii_only),
        Fact("RAM", f"{format_percent(metrics.ram_percent):>4}{of_ram}"),
        *_swap(metrics),
        Fact("load", f"{load:>5}"),
        Fact("net", f"↓{received:>8} ↑{sent:>8}"),
        *_disk(metrics),
        Fact("up", f"{format_duration(metrics.uptime_seconds)}"),
        Fact("agent", _agent_cost(metrics)),
    ]


def _processor(metrics: Metrics, record: Provider | None) -> str:
    cores = f" of {record.cpu_cores}" if record is not None and record.cpu_cores else ""
    clock = "" if metrics.cpu_mhz is None else f" {metrics.cpu_mhz / 1000:.1f}GHz"
    heat = "" if metrics.cpu_temp is None else f" {format_temp(metrics.cpu_temp):>4}"
    return f"{cores}{clock}{heat}"


def _cores(metrics: Metrics, *, ascii_only: bool) -> list[Fact]:
    """Give each core as a column; where there are many, the busiest of each few."""
    cores = metrics.cpu_core_percents
    if not cores:
        return []
    each = -(-len(cores) // MOST_CORES)
    peaks = [float(max(cores[start : start + each])) for start in range(0, len(cores), each)]
    return [Fact("cores", sparkline(peaks, ascii_only=ascii_only), "fill")]


def _swap(metrics: Metrics) -> list[Fact]:
    if not metrics.swap_total_mb:
        return []
    return [Fact("swap", f"{format_mem(metrics.swap_used_mb, metrics.swap_total_mb):>8}")]


def _disk(metrics: Metrics) -> list[Fact]:
    total = metrics.disk_total_mb
    of_disk = "" if total is None else f" of {format_bytes(total * BYTES_PER_MIB)}"
    facts = [Fact("disk", f"{format_percent(metrics.disk_percent):>4}{of_disk}")]
    read, written = metrics.disk_read_bytes_per_sec, metrics.disk_write_bytes_per_sec
    if (read, written) != (None, None):
        facts.append(Fact("disk r/w", f"{format_rate(read):>8} {format_rate(written):>8}"))
    return facts


def _agent_cost(metrics: Metrics) -> str:
    agent = metrics.agent
    if agent is None or agent.cpu_percent is None or agent.rss_mb is None:
        return UNKNOWN
    return f"{agent.cpu_percent:.1f}% {agent.rss_mb:.0f}M"
