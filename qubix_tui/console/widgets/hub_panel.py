"""A hub in numbers: what goes in and out, who hears it, and how that went over time."""

from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

from qubix_tui.console import hub_watch
from qubix_tui.console.format import (
    UNKNOWN,
    format_bytes,
    format_count,
    format_duration,
    format_latency,
    safe,
)
from qubix_tui.console.hub_watch import Flushes, HubWatch, Traffic
from qubix_tui.console.widgets.graph import GrowingScale, Trace, axis_label
from qubix_tui.console.widgets.hub_nodes import node_lines
from qubix_tui.console.widgets.line_panel import Line, LinePanel
from qubix_tui.console.widgets.tiles import GAP, MIN_HEIGHT, beside, cut, tiles, widen
from qubix_tui.protocol.answers import HubStatistics

SIDE_WIDTH: Final = 110
"""From here on the tables stand beside the graphs, else below them."""

TABLE_WIDTH: Final = 46
NUMBER_WIDTH: Final = 7

GRAPHS_SHARE: Final = 0.5
"""Of the lines, where the tables are below."""

NODES_SHARE: Final = 0.25
LEAST_NODES: Final = 4
"""Of the lines, and of them at least so many, are for the hubs of one store."""

BETWEEN: Final = "   "


class Span(NamedTuple):
    """The time that the graphs show."""

    end: float
    """The right edge, hub time."""
    seconds: float
    label: str


class _Curve(NamedTuple):
    metric: str
    name: str
    """At most five cells."""
    least: float
    """Top of the axis of a quiet hub."""


_CURVES: Final = (
    _Curve(hub_watch.SENT, "↑ /s", 10.0),
    _Curve(hub_watch.RECEIVED, "↓ /s", 10.0),
    _Curve(hub_watch.SENT_BYTES, "↑ B/s", 1000.0),
    _Curve(hub_watch.RECEIVED_BYTES, "↓ B/s", 1000.0),
    _Curve(hub_watch.CONNECTIONS, "conns", 10.0),
    _Curve(hub_watch.FLUSH, "fan", 0.001),
)
"""In the order of their worth."""


class HubPanel(LinePanel):
    """Everything that the hub tells of itself."""

    def __init__(self, *, ascii_only: bool = False) -> None:
        super().__init__(ascii_only=ascii_only)
        self._watch: HubWatch | None = None
        self._span: Span | None = None
        self._scales = {curve.metric: GrowingScale(curve.least) for curve in _CURVES}

    def show(self, watch: HubWatch, span: Span, *, stale: bool) -> None:
        """Show a hub's present and past.

        Args:
            watch: What is known of it.
            span: The time that the graphs show.
            stale: Whether the newest numbers are no longer of now.
        """
        self._watch, self._span = watch, span
        self.changed(stale=stale)

    def make_lines(self, width: int, height: int) -> Sequence[Line]:
        """Give the lines: facts, then tables and graphs as there is room."""
        watch, span = self._watch, self._span
        if watch is None or span is None or watch.newest is None or not width:
            return []
        head = [*self._facts(watch.newest, width), *self._troubles(watch, watch.newest, width)]
        rule = [self.text(("-" if self.ascii_only else "─") * width, "rule")]
        head.append(rule)
        most = max(LEAST_NODES, int(NODES_SHARE * (height - len(head))))
        nodes = node_lines(self, watch.newest.nodes, watch.newest_at or span.end, width, most)
        head += [*nodes, rule] if nodes else []
        room = height - len(head)
        traces = self._traces(watch, span)
        if width >= SIDE_WIDTH:
            graphs_width = width - TABLE_WIDTH - 2 * GAP
            tables = self._stacked(watch, TABLE_WIDTH)[:room]
            graphs = tiles(self, traces, graphs_width, room)
            return [*head, *beside(self, [(tables, TABLE_WIDTH + GAP), (graphs, graphs_width)])]
        graphs_height = max(2 * MIN_HEIGHT, int(GRAPHS_SHARE * room))
        half = (width - GAP) // 2
        columns = self._columns(watch, half)
        below = beside(self, [(column[: room - graphs_height - 1], half) for column in columns])
        return [*head, *tiles(self, traces, width, graphs_height), [], *below]

    def _facts(self, stats: HubStatistics, width: int) -> list[Line]:
        used = f"{stats.connections} of {stats.max_connections}"
        held = sum(entry.subscriptions for entry in stats.subscriptions)
        return self._numbers(
            [
                ("connections", used, "value"),
                ("subscriptions", str(held), "value"),
                ("providers", str(stats.providers), "value"),
                ("store", *_store_state(stats)),
                ("up", format_duration(stats.uptime_seconds), "value"),
                ("version", safe(stats.version), "value"),
                ("epoch", safe(stats.epoch), "label"),
            ],
            width,
        )

    def _troubles(self, watch: HubWatch, stats: HubStatistics, width: int) -> list[Line]:
        grown = watch.grown()

        def count(label: str, name: str, value: int) -> tuple[str, str, str]:
            more = grown.get(name, 0)
            return label, f"{value} (+{more} now)" if more else str(value), "warn" if more else "value"

        return self._numbers(
            [
                count("slow readers cut", "slow_clients", stats.slow_clients),
                count("limits hit", "rate_limited", stats.rate_limited),
                count("tokens refused", "auth_failures", stats.auth_failures),
            ],
            width,
        )

    def _numbers(self, facts: Sequence[tuple[str, str, str]], width: int) -> list[Line]:
        """Give facts in one line, as many as there is room for."""
        line: Line = []
        room = width
        for label, value, style in facts:
            length = len(label) + 1 + len(value)
            if length > room:
                break
            line += [self.text(f"{label} ", "label"), self.text(value + BETWEEN, style)]
            room -= length + len(BETWEEN)
        return [widen(self, line, width)]

    def _stacked(self, watch: HubWatch, width: int) -> list[Line]:
        return [line for table in self._tables(watch, width) for line in (*table, [])]

    def _columns(self, watch: HubWatch, width: int) -> tuple[list[Line], list[Line]]:
        sent, received, held, flushes = self._tables(watch, width)
        return [*sent, [], *held], [*received, [], *flushes]

    def _tables(self, watch: HubWatch, width: int) -> list[list[Line]]:
        assert watch.newest is not None
        return [
            self._table(("↑ messages out", "/s", "total"), _rows(watch.sent()), width),
            self._table(("↓ messages in", "/s", "total"), _rows(watch.received()), width),
            self._table(
                ("who hears what", "chans", "subs"),
                [
                    (safe(entry.kind), format_count(entry.channels), format_count(entry.subscriptions))
                    for entry in watch.newest.subscriptions
                ],
                width,
            ),
            self._table(("fan-out", "", ""), _flush_rows(watch.flushes()), width),
        ]

    def _table(
        self, head: tuple[str, str, str], rows: Sequence[tuple[str, str, str]], width: int
    ) -> list[Line]:
        room = width - 2 * (NUMBER_WIDTH + 1)

        def line(cells: tuple[str, str, str], style: str) -> Line:
            name, *numbers = cells
            shown = "".join(f" {number:>{NUMBER_WIDTH}}" for number in numbers)
            return [
                self.text(f"{cut(name, room):<{room}}", "title" if style == "label" else "value"),
                self.text(shown, style),
            ]

        none = [[self.text("none", "label")]] if not rows else []
        return [line(head, "label"), *(line(row, "value") for row in rows), *none]

    def _traces(self, watch: HubWatch, span: Span) -> list[Trace]:
        traces = []
        for curve in _CURVES:
            top = self._scales[curve.metric].fit(watch.series.highest(curve.metric))
            label = format_latency(top) if curve.metric == hub_watch.FLUSH else axis_label(top)
            traces.append(
                Trace(
                    name=curve.name,
                    peaks=partial(watch.series.peaks, curve.metric),
                    end=span.end,
                    span=span.seconds,
                    top=top,
                    top_label=label,
                    span_label=span.label,
                )
            )
        return traces


def _rows(traffic: Sequence[Traffic]) -> list[tuple[str, str, str]]:
    return [(safe(one.type), format_count(one.rate), format_count(one.total)) for one in traffic]


def _flush_rows(flushes: Flushes | None) -> list[tuple[str, str, str]]:
    if flushes is None:
        return [("flushes /s", UNKNOWN, "")]
    return [
        ("flushes /s", format_count(flushes.rate), ""),
        ("mean", format_latency(flushes.mean), ""),
        ("99 of 100 below", format_latency(flushes.tail), ""),
    ]


def _store_state(stats: HubStatistics) -> tuple[str, str]:
    """Give what is said of the store, and how."""
    if stats.store_up is False:
        return "away, nothing new is kept", "warn"
    if stats.store_up and stats.store_bytes is None:
        return "ok", "value"
    return format_bytes(stats.store_bytes), "value"
