"""The hubs that share a store, one to a line."""

from collections.abc import Sequence
from typing import Final

from rich.cells import cell_len

from qubix_tui.console.format import (
    UNKNOWN,
    format_age,
    format_count,
    format_duration,
    format_latency,
    safe,
)
from qubix_tui.console.widgets.line_panel import Line, LineWidget
from qubix_tui.console.widgets.tiles import cut
from qubix_tui.protocol.answers import HubNode
from qubix_tui.protocol.types import from_timestamp

SILENT_SECONDS: Final = 3.0
"""What a hub said is of the past when it is older; it says something each second."""

LAG_SECONDS: Final = 1.0
SKEW_SECONDS: Final = 1.0
"""Longer than these is worth a colour."""

_COLUMNS: Final = (
    ("version", 9),
    ("conns", 8),
    ("provs", 7),
    ("↓ /s", 7),
    ("↑ /s", 7),
    ("lag", 7),
    ("clock", 8),
    ("up", 8),
)
"""Behind the name, right-aligned, each with its width."""

_NUMBERS_WIDTH: Final = sum(width for _, width in _COLUMNS)

MAX_NAME: Final = 40
"""Cells of a name that are worth their room."""


def node_lines(panel: LineWidget, nodes: Sequence[HubNode], now: float, width: int, most: int) -> list[Line]:
    """Give a head and a line for each hub; none where there are no hubs.

    Args:
        panel: Lends its styles.
        nodes: The hubs, in the order in which they are shown; where there is no room for all, the one that
            answers comes first.
        now: The time of the hub that answers, seconds since the epoch.
        width: Cells to fill.
        most: Lines to fill at the most, the head included.
    """
    if not nodes:
        return []
    shown = len(nodes)
    if shown >= most:
        shown, nodes = max(1, most - 2), sorted(nodes, key=lambda node: not node.is_this)
    mark = ">" if panel.ascii_only else "▸"
    room = max(8, min(MAX_NAME, width - _NUMBERS_WIDTH - 2))
    names = [short_name(safe(node.name), room) for node in nodes]
    title = f"hubs {len(nodes)}, {mark} this"
    room = max(len(title) - 2, *(cell_len(name) for name in names))
    head = "".join(f"{title:>{cells}}" for title, cells in _COLUMNS)
    lines: list[Line] = [[panel.text(f"{title:<{room + 2}}", "title"), panel.text(head, "label")]]
    for node, name in list(zip(nodes, names, strict=True))[:shown]:
        lines.append(_node_line(panel, node, name + " " * (room - cell_len(name)), now, mark))
    if shown < len(nodes):
        lines.append([panel.text(f"  and {len(nodes) - shown} more", "label")])
    return lines


def short_name(name: str, width: int) -> str:
    """Shorten ``host/process`` at its host: what tells hubs of one machine apart stands behind it."""
    host, slash, process = name.rpartition("/")
    kept = width - cell_len(slash + process)
    return f"{cut(host, kept)}{slash}{process}" if host and kept >= 2 else cut(name, width)


def _node_line(panel: LineWidget, node: HubNode, name: str, now: float, mark: str) -> Line:
    is_silent = node.age_seconds > SILENT_SECONDS
    plain = "label" if is_silent else "value"
    lag, skew = node.lag_seconds, node.clock_skew_seconds
    cells = (
        (safe(node.version), plain),
        (format_count(node.connections), plain),
        (format_count(node.providers), plain),
        (format_count(node.received_per_second), plain),
        (format_count(node.sent_per_second), plain),
        (format_latency(lag), "warn" if lag is not None and lag > LAG_SECONDS else plain),
        (_skew(skew), "warn" if skew is not None and abs(skew) > SKEW_SECONDS else plain),
        (f"{format_age(node.age_seconds)} ago", "warn")
        if is_silent
        else (format_duration(now - from_timestamp(node.started_at)), plain),
    )
    line: Line = [
        panel.text(f"{mark} " if node.is_this else "  ", "key"),
        panel.text(name, "title" if node.is_this else plain),
    ]
    for (text, style), (_, cells_wide) in zip(cells, _COLUMNS, strict=True):
        line.append(panel.text(f" {cut(text, cells_wide - 1):>{cells_wide - 1}}", style))
    return line


def _skew(seconds: float | None) -> str:
    """Give how far a clock is ahead, or behind: ``+0.1s``, ``-12s``."""
    if seconds is None:
        return UNKNOWN
    if abs(seconds) < 10:
        return f"{seconds:+.1f}s"
    return f"{'+' if seconds > 0 else '-'}{format_duration(abs(seconds))}"
