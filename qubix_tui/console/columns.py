"""The columns of the fleet's table: what each shows, how it is sorted, which fit a width.

No Textual in it.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from rich.cells import cell_len, set_cell_size

from qubix_tui.console.braille import ascii_rows, braille_rows
from qubix_tui.console.fleet import SPARK_COLUMNS, Row, measured
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
from qubix_tui.protocol.records import ProviderState

Piece = tuple[str, str]
"""Text and the name of its style."""

ValueKey = tuple[int, float | str]
"""Unknown last, then the value."""

SortKey = tuple[int, float | str, int, float | str, str, str]
"""The value, another, then name and id, so that the order is one and the same each time."""


class SortOrder(NamedTuple):
    """What rows are sorted by."""

    key: str = "trouble"
    """Of a column."""
    reverse: bool = False


GLYPHS: Final[dict[ProviderState, tuple[str, str, str]]] = {
    ProviderState.AVAILABLE: ("●", "o", "ok"),
    ProviderState.BUSY: ("▲", "B", "busy"),
    ProviderState.PAUSED: ("‖", "P", "label"),
    ProviderState.UNREACHABLE: ("◌", "?", "warn"),
    ProviderState.OFFLINE: ("○", "x", "stale"),
}
"""Glyph, its ASCII fallback, and style of each state."""


class Paint(NamedTuple):
    """What a cell is drawn for."""

    row: Row
    now: float
    ascii_only: bool


class Column(NamedTuple):
    """One column."""

    key: str
    title: str
    width: int
    right: bool
    draw: Callable[[Paint, int], Sequence[Piece]]
    """Gives the cell's pieces for a width; they are aligned and cut to it."""
    value: Callable[[Row], float | str | None]
    """What it is sorted by; None is unknown."""
    descending: bool = False
    """Whether the highest comes first."""
    is_settled: bool = False
    """Whether what it is sorted by changes only with the record or the state, and with no sample."""


def state_piece(state: ProviderState, *, ascii_only: bool) -> Piece:
    """Give a state's glyph."""
    glyph, plain, style = GLYPHS[state]
    return (plain if ascii_only else glyph), style


def bar(percent: float, width: int, *, ascii_only: bool) -> str:
    """Give a thin horizontal bar, half a cell exact: many of them below each other stay lines."""
    filled = max(0.0, min(100.0, percent)) / 100 * width
    if ascii_only:
        return ("=" * round(filled)).ljust(width)
    halves = round(filled * 2)
    return ("━" * (halves // 2) + "╸" * (halves % 2)).ljust(width)


def sparkline(values: Sequence[float | None], *, ascii_only: bool) -> str:
    """Give a line for 0 to 100 percent, two values to a cell; blank where nothing is known."""
    columns = [None, *values] if len(values) % 2 else values
    return (ascii_rows if ascii_only else braille_rows)(columns, 1, 100.0)[0]


def _text(row_text: Callable[[Row], str], style: str = "value") -> Callable[[Paint, int], Sequence[Piece]]:
    return lambda paint, _width: [(row_text(paint.row), style)]


def _draw_state(paint: Paint, width: int) -> Sequence[Piece]:
    glyph, style = state_piece(paint.row.record.state, ascii_only=paint.ascii_only)
    if width < 4:
        return [(glyph, style)]
    word = paint.row.record.state.value
    return [(glyph, style), (f" {word}", style if style in {"warn", "stale"} else "value")]


def _draw_trouble(paint: Paint, width: int) -> Sequence[Piece]:
    trouble = paint.row.trouble()
    if trouble is None:
        return []
    return [("!" if width < 4 else f"! {trouble.word}", trouble.style)]


def _draw_name(paint: Paint, width: int) -> Sequence[Piece]:
    name = safe(paint.row.name)
    if not paint.row.record.simulated:
        return [(name, "name")]
    return [(set_cell_size(name, min(cell_len(name), width - 4)), "name"), (" SIM", "label")]


def _draw_use(paint: Paint, width: int) -> Sequence[Piece]:
    use = paint.row.use
    if use is None and paint.row.record.gpu_count == 0:
        return [("no GPU", "label")]
    number = f"{format_percent(use):>4}"
    if use is None or width < 8:
        return [(number.rjust(width), "value")]
    return [(bar(use, width - 5, ascii_only=paint.ascii_only), "bar"), (f" {number}", "value")]


def _draw_minute(paint: Paint, _width: int) -> Sequence[Piece]:
    return [(sparkline(paint.row.minute(paint.now), ascii_only=paint.ascii_only), "spark")]


def _draw_vram(paint: Paint, width: int) -> Sequence[Piece]:
    headline = paint.row.headline
    used = headline.gpu_mem_used_mb if headline is not None else None
    total = headline.gpu_mem_total_mb if headline is not None else None
    if width < 8:
        return [(format_percent(100 * used / total if used is not None and total else None), "value")]
    return [(format_mem(used, total), "value")]


def _draw_temperature(paint: Paint, _width: int) -> Sequence[Piece]:
    headline = paint.row.headline
    if headline is None:
        return [(UNKNOWN, "value")]
    return [(format_temp(headline.gpu_temp), temperature_style(headline.gpu_temp, headline.temp_slowdown_c))]


def _draw_power(paint: Paint, _width: int) -> Sequence[Piece]:
    headline = paint.row.headline
    if headline is None:
        return [(UNKNOWN, "value")]
    capped = any("power" in reason.lower() for reason in headline.throttle or ())
    return [(format_power(headline.power_w, headline.power_limit_w), "warn" if capped else "value")]


def _draw_age(paint: Paint, _width: int) -> Sequence[Piece]:
    stale = paint.row.is_stale(paint.now)
    return [(format_age(paint.row.age(paint.now)), "stale" if stale else "label")]


def _trouble_rank(row: Row) -> float | None:
    trouble = row.trouble()
    return None if trouble is None else trouble.rank


COLUMNS: Final = (
    Column("trouble", "!", 10, False, _draw_trouble, _trouble_rank, descending=True),
    Column("state", "STATE", 13, False, _draw_state, lambda row: row.record.state.value, is_settled=True),
    Column("name", "NAME", 16, False, _draw_name, lambda row: row.name.lower(), is_settled=True),
    Column(
        "gpus",
        "GPUS",
        16,
        False,
        _text(lambda row: format_gpus(row.record.gpu_count, row.record.gpu_model)),
        lambda row: row.record.gpu_count,
        descending=True,
        is_settled=True,
    ),
    Column("use", "USE", 13, True, _draw_use, lambda row: row.use, descending=True),
    Column("minute", "60s", SPARK_COLUMNS // 2, False, _draw_minute, lambda row: row.use, descending=True),
    Column(
        "vram",
        "VRAM",
        13,
        True,
        _draw_vram,
        measured(lambda sample: sample.gpu_mem_used_mb),
        descending=True,
    ),
    Column(
        "temp",
        "TEMP",
        4,
        True,
        _draw_temperature,
        measured(lambda sample: sample.gpu_temp),
        descending=True,
    ),
    Column(
        "power",
        "POWER",
        10,
        True,
        _draw_power,
        measured(lambda sample: sample.power_w),
        descending=True,
    ),
    Column(
        "cpu",
        "CPU",
        4,
        True,
        _text(lambda row: format_percent(row.headline.cpu_percent if row.headline else None)),
        measured(lambda sample: sample.cpu_percent),
        descending=True,
    ),
    Column(
        "ram",
        "RAM",
        4,
        True,
        _text(lambda row: format_percent(row.headline.ram_percent if row.headline else None)),
        measured(lambda sample: sample.ram_percent),
        descending=True,
    ),
    Column(
        "price",
        "/H",
        6,
        True,
        _text(lambda row: format_price(row.record.price_per_hour)),
        lambda row: row.record.price_per_hour,
        is_settled=True,
    ),
    Column(
        "location",
        "LOCATION",
        14,
        False,
        _text(lambda row: safe(row.record.location or UNKNOWN)),
        lambda row: row.record.location,
        is_settled=True,
    ),
    Column(
        "job",
        "JOB",
        12,
        False,
        _text(lambda row: safe(row.record.current_job_id or UNKNOWN)),
        lambda row: row.record.current_job_id,
        is_settled=True,
    ),
    Column("age", "AGE", 4, True, _draw_age, lambda row: row.sampled_at),
)

BY_KEY: Final = {column.key: column for column in COLUMNS}

_NARROW: Final = {
    "trouble": 1,
    "state": 1,
    "name": 14,
    "gpus": 14,
    "use": 10,
    "vram": 5,
    "job": 8,
}
"""Widths where there is no room for the whole column."""

_ESSENTIAL: Final = ("trouble", "state", "name", "use", "temp", "age")
_BY_WORTH: Final = tuple(
    "vram state trouble cpu ram gpus minute price power job vram gpus name job location".split()  # noqa: SIM905
)
"""What is added where there is room, in this order; what is there already, but narrow, is widened."""

GAP: Final = 2
"""Blanks between columns."""


def fit(width: int, wanted: Sequence[str] = ()) -> list[tuple[Column, int]]:
    """Choose the columns for a table so many cells wide, with their widths.

    The essential ones come first, in their narrow form; then the others by their worth; then names and bars
    take what is left over.

    Args:
        width: Cells of the table.
        wanted: Keys of the columns to show instead, as many as there is room for, from the left.
    """
    if wanted:
        return _fit_wanted(width, wanted)
    widths = {key: _NARROW.get(key, BY_KEY[key].width) for key in _ESSENTIAL}
    room = width - sum(widths.values()) - GAP * (len(widths) - 1)
    for key in _BY_WORTH:
        is_new = key not in widths
        cells = _NARROW.get(key, BY_KEY[key].width) if is_new else BY_KEY[key].width
        cost = cells + GAP if is_new else cells - widths[key]
        if room < cost:
            break  # what is worth less must not take its place: a wider table never shows less
        widths[key] = cells
        room -= cost
    for key, most in (("name", 28), ("gpus", 22), ("use", 24), ("location", 20), ("job", 24)):
        if key in widths and room > 0:
            more = min(room, most - widths[key])
            widths[key] += more
            room -= more
    return [(column, widths[column.key]) for column in COLUMNS if column.key in widths]


def _fit_wanted(width: int, wanted: Sequence[str]) -> list[tuple[Column, int]]:
    shown: list[tuple[Column, int]] = []
    room = width
    for key in wanted:
        column = BY_KEY[key]
        gap = GAP if shown else 0
        cells = column.width if column.width + gap <= room else _NARROW.get(key, column.width)
        if cells + gap > room and shown:
            break
        shown.append((column, min(cells, room)))
        room -= cells + gap
    return shown


def sort_key(order: SortOrder, second: SortOrder) -> Callable[[Row], SortKey]:
    """Give the key to sort rows by; use it with `sorted`, never with its ``reverse``.

    Unknown values come last either way.

    Args:
        order: What they are sorted by.
        second: What those are sorted by that are equal by the first.
    """
    value, further = _value_key(order), _value_key(second)
    return lambda row: (*value(row), *further(row), row.name, row.record.id)


def _value_key(order: SortOrder) -> Callable[[Row], ValueKey]:
    column = BY_KEY[order.key]
    down = column.descending is not order.reverse
    get = column.value

    def key(row: Row) -> ValueKey:
        value = get(row)
        if value is None:
            return 1, 0.0
        if isinstance(value, str):
            return 0, (_mirrored(value) if down else value)
        return 0, (-value if down else value)

    return key


def _mirrored(text: str) -> str:
    """Give a text that sorts the other way round."""
    return "".join(chr(0x10FFFF - ord(character)) for character in text) + chr(0x10FFFF)
