"""One GPU: its numbers, its curves, and why it is slow."""

from collections.abc import Sequence
from typing import Final

from rich.style import Style

from qubix_tui.console import gpu_words
from qubix_tui.console.format import UNKNOWN, format_mem, format_percent, format_power, format_temp
from qubix_tui.console.gpu_words import Condition
from qubix_tui.console.provider_history import Metric
from qubix_tui.console.widgets.graph import MIN_LABELLED_HEIGHT, GrowingScale, Trace, draw
from qubix_tui.console.widgets.line_panel import Line, LinePanel, LineWidget
from qubix_tui.console.widgets.tiles import GAP, beside, cut, tiles, widen
from qubix_tui.console.widgets.timeline import Timeline
from qubix_tui.protocol.records import GpuInfo, GpuMetrics

TABLE_WIDTH: Final = 31
"""Cells of the table of numbers at the left of a tall panel."""

LABEL_WIDTH: Final = 9

MIN_TALL_WIDTH: Final = 72
MIN_TALL_HEIGHT: Final = 9
"""From these on the numbers stand in a table beside the graphs, else in one line above them."""

FULL_LINE_WIDTH: Final = 76
"""From here on a line of numbers has the GPU's model and the rarer values."""

TWO_AXES_WIDTH: Final = 56
"""From here on both curves of a flat panel have an axis, else the first alone."""

CAPTION_WIDTH: Final = 4

RESERVED_WIDTH: Final = 9
"""Cells that the numbers leave for words about what is out of the ordinary."""


class GpuPanel(LineWidget):
    """One GPU of a provider, in as much detail as its size allows.

    Args:
        index: Which of the provider's GPUs it shows.
        palette: Lends it its styles: Textual would work a dozen of them out for each of many panels.
    """

    def __init__(self, index: int, palette: LinePanel) -> None:
        super().__init__(ascii_only=palette.ascii_only)
        self.index = index
        self._palette = palette
        self._gpu: GpuMetrics | None = None
        self._info: GpuInfo | None = None
        self._timeline: Timeline | None = None
        self._memory_scale = GrowingScale()
        self._power_scale = GrowingScale()

    def show(
        self, gpu: GpuMetrics | None, info: GpuInfo | None, timeline: Timeline, *, stale: bool = False
    ) -> None:
        """Show a GPU's present and past.

        Args:
            gpu: Its newest values; None before the first sample.
            info: What its provider's record says of it.
            timeline: The past.
            stale: Whether the newest values are no longer of now.
        """
        self._gpu, self._info, self._timeline = gpu, info, timeline
        self.changed(stale=stale)

    def component_style(self, component: str) -> Style:
        """Give the style of a component class, which is the palette's."""
        return self._palette.component_style(component)

    def make_lines(self, width: int, height: int) -> Sequence[Line]:
        """Give the panel's lines, tall or flat by the room there is."""
        if self._timeline is None or not width or not height:
            return []
        gpu = self._gpu or GpuMetrics(index=self.index)
        held_back = self._timeline.history.held_back(self.index, self._timeline.end)
        condition = gpu_words.condition(gpu, held_back)
        traces = self._traces(gpu, self._timeline)
        if width >= MIN_TALL_WIDTH and height >= MIN_TALL_HEIGHT:
            return self._tall(gpu, condition, traces, width, height)
        return self._flat(gpu, condition, traces, width, height)

    def _traces(self, gpu: GpuMetrics, timeline: Timeline) -> list[Trace]:
        total = gpu.mem_total_mb or (self._info.mem_total_mb if self._info is not None else None)
        memory, power = Metric("memory", self.index), Metric("power", self.index)
        history = timeline.history
        memory_top = float(total or self._memory_scale.fit(history.highest(memory)))
        power_top = gpu.power_limit_w or self._power_scale.fit(history.highest(power))
        bands = gpu_words.temperature_bands(gpu.temp_slowdown_c)
        return [
            timeline.trace(Metric("util", self.index), "use", 100, "100%", tells_marks=True),
            timeline.trace(memory, "mem", memory_top, _memory_label(memory_top)),
            timeline.trace(Metric("temperature", self.index), "temp", 100, "100°", bands=bands),
            timeline.trace(power, "power", power_top, f"{power_top:.0f}W" if power_top > 1 else UNKNOWN),
        ]

    def _tall(
        self,
        gpu: GpuMetrics,
        condition: Condition | None,
        traces: Sequence[Trace],
        width: int,
        height: int,
    ) -> list[Line]:
        table = [
            [
                self.text(f"{fact.label:<{LABEL_WIDTH}}", "label"),
                self.text(cut(fact.value, TABLE_WIDTH - LABEL_WIDTH), fact.style),
                self.text(f"  {fact.note}", "label"),
            ]
            for fact in gpu_words.facts(gpu)[: height - 1]
        ]
        room = width - TABLE_WIDTH - GAP
        graphs = tiles(self, traces, room, height - 1)
        return [self._title(gpu, condition, width), *beside(self, [(table, TABLE_WIDTH), (graphs, room)])]

    def _title(self, gpu: GpuMetrics, condition: Condition | None, width: int) -> Line:
        line = [self.text(f"GPU {self.index}", "title")]
        model = gpu_words.model_name(gpu, self._info)
        if model:
            line.append(self.text(f"  {cut(model, 40)}"))
        if condition is not None:
            line.append(self.text(f"   {condition.sentence}", condition.style))
        used = sum(segment.cell_length for segment in line)
        rule = ("-" if self.ascii_only else "─") * max(0, width - used - 1)
        return widen(self, [*line, self.text(f" {rule}", "rule")], width)

    def _flat(
        self,
        gpu: GpuMetrics,
        condition: Condition | None,
        traces: Sequence[Trace],
        width: int,
        height: int,
    ) -> list[Line]:
        head = self._numbers(gpu, condition, width)
        if height == 1:
            return [head]
        rows = height - 1
        has_axis = rows >= MIN_LABELLED_HEIGHT
        room = width - GAP
        blocks: list[tuple[Sequence[Line], int]] = []
        for trace, cells, axis in (
            (traces[0], room - room * 3 // 8, has_axis),
            (traces[1], room * 3 // 8, has_axis and width >= TWO_AXES_WIDTH),
        ):
            # A curve that has no axis for its name has it in front.
            caption = 0 if axis else CAPTION_WIDTH
            lines = [
                [self.text(f"{'' if row else trace.name:<{caption}}"[:caption], "label"), *line]
                for row, line in enumerate(draw(self, trace, cells - caption, rows, axis=axis))
            ]
            blocks.append((lines, cells))
        return [head, *beside(self, blocks)]

    def _numbers(self, gpu: GpuMetrics, condition: Condition | None, width: int) -> Line:
        """Give the numbers that are worth most in one line, and in words what is out of the ordinary."""
        is_full = width >= FULL_LINE_WIDTH
        line = [self.text(f"GPU {self.index:<2}" if is_full else f"{self.index:>2} ", "title")]
        if gpu.state in {"lost", "asleep"} and condition is not None:
            words = condition.sentence if is_full else condition.short
            return widen(self, [*line, self.text(f" {words}", condition.style)], width)
        items = [
            self.text(f" {format_percent(gpu.util_percent):>4}"),
            self.text(f" {format_mem(gpu.mem_used_mb, gpu.mem_total_mb):>11}"),
            self.text(
                f" {format_temp(gpu.temp_c):>4}", gpu_words.temperature_style(gpu.temp_c, gpu.temp_slowdown_c)
            ),
            self.text(f" {format_power(gpu.power_w, gpu.power_limit_w):>9}", gpu_words.power_style(gpu)),
        ]
        if is_full:
            fan = f"  fan {format_percent(gpu.fan_percent):>4}"
            items += [self.text(f"  {gpu_words.clocks(gpu):>13}"), self.text(fan)]
            model = gpu_words.model_name(gpu, self._info)
            items.append(self.text(f"  {model}", "label"))
        room = width - line[0].cell_length
        words = "" if condition is None else condition.sentence if is_full else condition.short
        reserved = min(len(condition.short), RESERVED_WIDTH) + GAP if condition is not None else 0
        for item in items:
            if item.cell_length > room - reserved:
                break
            line.append(item)
            room -= item.cell_length
        if condition is not None and words:
            if len(words) + GAP > room:
                words = cut(condition.short, room - GAP)
            line.append(self.text(f"  {words}", condition.style))
        return widen(self, line, width)


def _memory_label(mebibytes: float) -> str:
    if mebibytes <= 1:
        return UNKNOWN
    return f"{mebibytes / 1024:.0f}G" if mebibytes >= 1024 else f"{mebibytes:.0f}M"
