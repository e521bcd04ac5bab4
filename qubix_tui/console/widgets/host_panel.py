"""The machine itself: processor, memory, network, disk, and what the agent costs it."""

from collections.abc import Sequence
from typing import Final

from qubix_tui.console.format import UNKNOWN, format_duration, format_percent, format_rate, safe
from qubix_tui.console.gpu_words import Fact
from qubix_tui.console.provider_history import CPU, NET_RX, NET_TX, RAM
from qubix_tui.console.widgets.graph import GrowingScale, Trace, axis_label
from qubix_tui.console.widgets.line_panel import Line, LinePanel
from qubix_tui.console.widgets.tiles import MIN_HEIGHT, cut, tiles, widen
from qubix_tui.console.widgets.timeline import Timeline
from qubix_tui.protocol.records import Metrics, Provider

LEAST_RATE: Final = 1000.0
"""Top of a quiet network's axis, bytes per second: a few packets are no peak."""

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
            words = " · ".join(safe(part) for part in parts if part)
            line.append(self.text(f"  {cut(words, max(0, width - 8))}" if words else "", "label"))
        used = sum(segment.cell_length for segment in line)
        rule = ("-" if self.ascii_only else "─") * max(0, width - used - 1)
        return widen(self, [*line, self.text(f" {rule}", "rule")], width)

    def _numbers(self, metrics: Metrics, width: int) -> list[Line]:
        """Give the numbers in as many lines as they take, never breaking one."""
        lines: list[Line] = [[]]
        room = width
        for fact in _facts(metrics, self._record):
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


def _facts(metrics: Metrics, record: Provider | None) -> list[Fact]:
    """Give everything a machine says of itself, in fixed widths; unknown values are ``—``."""
    cores = f" of {record.cpu_cores}" if record is not None and record.cpu_cores else ""
    total = metrics.ram_total_mb or (record.ram_total_mb if record is not None else None)
    of_ram = f" of {total / 1024:.0f}G" if total else ""
    load = UNKNOWN if metrics.load1 is None else f"{metrics.load1:.1f}"
    agent = metrics.agent
    cost = UNKNOWN
    if agent is not None and agent.cpu_percent is not None and agent.rss_mb is not None:
        cost = f"{agent.cpu_percent:.1f}% {agent.rss_mb:.0f}M"
    received, sent = format_rate(metrics.net_rx_bytes_per_sec), format_rate(metrics.net_tx_bytes_per_sec)
    return [
        Fact("CPU", f"{format_percent(metrics.cpu_percent):>4}{cores}"),
        Fact("RAM", f"{format_percent(metrics.ram_percent):>4}{of_ram}"),
        Fact("load", f"{load:>5}"),
        Fact("net", f"↓{received:>8} ↑{sent:>8}"),
        Fact("disk", f"{format_percent(metrics.disk_percent):>4}"),
        Fact("up", f"{format_duration(metrics.uptime_seconds)}"),
        Fact("agent", cost),
    ]
