"""The selected provider in short, beside or below the table."""

from collections import Counter
from collections.abc import Sequence

from qubix_tui.console.columns import bar, sparkline, state_piece
from qubix_tui.console.fleet import Row
from qubix_tui.console.format import (
    UNKNOWN,
    format_age,
    format_gpus,
    format_mem,
    format_percent,
    format_power,
    format_price,
    format_temp,
    safe,
)
from qubix_tui.console.gpu_words import temperature_style
from qubix_tui.console.widgets.line_panel import Line, LinePanel
from qubix_tui.console.widgets.tiles import cut
from qubix_tui.protocol.records import Provider

LABEL_WIDTH = 10
BAR_WIDTH = 20


class Preview(LinePanel):
    """Headline numbers and the record of one provider."""

    DEFAULT_CSS = "Preview { padding: 0 1; }"

    def __init__(self, *, ascii_only: bool = False) -> None:
        super().__init__(ascii_only=ascii_only)
        self._row: Row | None = None
        self._now = 0.0

    def show(self, row: Row | None, now: float, *, stale: bool) -> None:
        """Show a provider, or none.

        Args:
            row: Which.
            now: Hub time, seconds since the epoch.
            stale: Whether the hub is gone.
        """
        self._row, self._now = row, now
        self.changed(stale=stale or (row is not None and row.is_stale(now)))

    def make_lines(self, width: int, height: int) -> Sequence[Line]:
        """Give the lines: one under the other where the panel is tall, else in two columns."""
        row = self._row
        if row is None:
            return []
        title = self._title(row, width)
        facts = self._facts(row)
        if height >= len(facts) + 2:
            return [title, [], *(self._fact(fact, width) for fact in facts)]
        half = width // 2
        rows = max(1, height - 1)
        left, right = facts[:rows], facts[rows : 2 * rows]
        lines = [title]
        for number, fact in enumerate(left):
            line = self._fact(fact, half - 2)
            if number < len(right):
                used = sum(segment.cell_length for segment in line)
                line = [*line, self.text(" " * max(1, half - used)), *self._fact(right[number], half - 2)]
            lines.append(line)
        return lines

    def _title(self, row: Row, width: int) -> Line:
        glyph, style = state_piece(row.record.state, ascii_only=self.ascii_only)
        line = [self.text(cut(safe(row.name), max(8, width - 26)), "title")]
        if row.record.simulated:
            line.append(self.text(" SIM", "label"))
        line.append(self.text(f"  {glyph} {row.record.state.value}", style))
        trouble = row.trouble()
        if trouble is not None:
            line.append(self.text(f"  {trouble.word}", trouble.style))
        return line

    def _fact(self, fact: tuple[str, Line], width: int) -> Line:
        label, pieces = fact
        line: Line = [self.text(f"{label:<{LABEL_WIDTH}}", "label")]
        room = width - LABEL_WIDTH
        for piece in pieces:
            text = cut(piece.text, room)
            line.append(type(piece)(text, piece.style))
            room -= len(text)
        return line

    def _facts(self, row: Row) -> list[tuple[str, Line]]:
        record, sample = row.record, row.headline
        reason = [("why", [self.text(safe(row.reason), "warn")])] if row.reason else []
        use = row.use
        use_line = [self.text(f"{format_percent(use):>4} ")]
        if use is None and record.gpu_count == 0:
            use_line = [self.text("no NVIDIA GPU", "label")]
        elif use is not None:
            use_line.append(self.text(bar(use, BAR_WIDTH, ascii_only=self.ascii_only), "fill"))
        temperature = sample.gpu_temp if sample else None
        slowdown = sample.temp_slowdown_c if sample else None
        held_back = [reason for reason in (sample.throttle or () if sample else ()) if reason != "idle"]
        facts: list[tuple[str, Line]] = [
            *reason,
            ("use", use_line),
            ("60s", [self.text(sparkline(row.minute(self._now), ascii_only=self.ascii_only), "fill")]),
            (
                "memory",
                [
                    self.text(
                        format_mem(
                            sample.gpu_mem_used_mb if sample else None,
                            sample.gpu_mem_total_mb if sample else record.gpu_mem_total_mb,
                        )
                    )
                ],
            ),
            ("hottest", [self.text(format_temp(temperature), temperature_style(temperature, slowdown))]),
            (
                "power",
                [
                    self.text(
                        format_power(
                            sample.power_w if sample else None, sample.power_limit_w if sample else None
                        )
                    )
                ],
            ),
            (
                "host",
                [
                    self.text(
                        f"CPU {format_percent(sample.cpu_percent if sample else None)}  "
                        f"RAM {format_percent(sample.ram_percent if sample else None)}"
                    )
                ],
            ),
            ("job", [self.text(safe(record.current_job_id) if record.current_job_id else UNKNOWN)]),
            *(("" if number else "GPUs", [self.text(gpus)]) for number, gpus in enumerate(gpus_of(record))),
            ("price", [self.text(f"{format_price(record.price_per_hour)}/h")]),
            ("location", [self.text(safe(record.location or UNKNOWN))]),
            ("CPU", [self.text(safe(record.cpu_model or UNKNOWN))]),
            ("driver", [self.text(safe(record.driver_version or UNKNOWN))]),
            ("os", [self.text(safe(record.os or UNKNOWN))]),
            ("sample", [self.text(f"{format_age(row.age(self._now))} ago")]),
            ("id", [self.text(record.id, "label")]),
        ]
        if held_back:
            facts.insert(len(reason), ("slow", [self.text(safe(", ".join(held_back)), "warn")]))
        return facts


def gpus_of(record: Provider) -> list[str]:
    """Give a machine's GPUs, those of a kind together: ``["2× RTX 4090", "1× A100 80GB"]``."""
    kinds = Counter(gpu.name for gpu in record.gpus)
    if len(kinds) < 2:
        return [format_gpus(record.gpu_count, record.gpu_model)]
    return [format_gpus(count, name) for name, count in kinds.items()]
