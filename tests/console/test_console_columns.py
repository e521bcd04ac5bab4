"""The columns of the fleet's table."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from qubix_tui.console.columns import BY_KEY, COLUMNS, GAP, Paint, SortOrder, bar, fit, sort_key, sparkline
from qubix_tui.console.fleet import Row
from qubix_tui.protocol.records import ProviderState
from tests.console.records import NOW, headline, provider


@given(st.integers(78, 400))
def test_columns_fit_any_width(width: int) -> None:
    """The chosen columns, with their gaps, never take more than there is, in their usual order."""
    chosen = fit(width)
    assert sum(cells for _, cells in chosen) + GAP * (len(chosen) - 1) <= width
    keys = [column.key for column, _ in chosen]
    assert keys == [column.key for column in COLUMNS if column.key in keys]
    assert {"trouble", "state", "name", "use", "temp", "age"} <= set(keys)


def test_more_room_never_shows_less() -> None:
    """A wider table has every column of a narrower one."""
    shown = [{column.key for column, _ in fit(width)} for width in range(78, 260)]
    assert all(narrow <= wide for narrow, wide in pairwise(shown))
    assert shown[-1] == set(BY_KEY)


def test_the_state_has_a_word_at_80_columns() -> None:
    """Colour and glyph alone never carry the state."""
    widths = {column.key: cells for column, cells in fit(78)}
    assert widths["state"] >= len("● unreachable")


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("state", list(ProviderState))
def test_every_cell_draws_whatever_is_unknown(state: ProviderState, ascii_only: bool) -> None:
    """A row of which nothing is known, and one of which all is, draw in every column; ASCII stays ASCII."""
    empty = Row(provider("x", state, gpu_model=None, gpu_count=None, price_per_hour=None))
    full = Row(provider("y", state, simulated=True, location="Oslo"))
    full.measure(headline("y", gpu_mem_used_mb=1, gpu_mem_total_mb=2, power_w=3.0, power_limit_w=4.0))
    for row in (empty, full):
        for column in COLUMNS:
            for cells in (1, 4, column.width, 30):
                text = "".join(text for text, _ in column.draw(Paint(row, NOW, ascii_only), cells))
                assert "None" not in text
                if ascii_only:
                    assert text.replace("—", "-").replace("°", "").replace("×", "x").isascii()


@given(st.floats(0, 100), st.integers(1, 40), st.booleans())
def test_bars_have_their_width(percent: float, width: int, ascii_only: bool) -> None:
    """A bar is exactly as wide as its cell, full only at the top."""
    text = bar(percent, width, ascii_only=ascii_only)
    assert cell_len(text) == width
    assert bar(0, width, ascii_only=ascii_only).strip() == ""
    assert " " not in bar(100, width, ascii_only=ascii_only)


def test_sparklines_leave_the_unknown_blank() -> None:
    """Unknown is blank and zero is the lowest mark; two values to a cell, the last at the right."""
    assert sparkline([None, None, 0.0, 100.0], ascii_only=False) == " ⣸"
    assert sparkline([None, None, 0.0, 0.0], ascii_only=True) == " ."
    assert sparkline([100.0], ascii_only=False) == "⢸"


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("key", sorted(BY_KEY))
def test_unknown_sorts_last_either_way(key: str, reverse: bool) -> None:
    """Whatever it is sorted by, in either direction, rows without a value stand at the end."""
    column = BY_KEY[key]
    rows = []
    for number in range(6):
        row = Row(provider(f"n{number}", gpu_count=number or None, location=f"L{number}" if number else None))
        if number > 1:
            row.measure(headline(f"n{number}", at=NOW + number, gpu_percent=float(number)))
        rows.append(row)
    known = [
        column.value(row) is not None
        for row in sorted(rows, key=sort_key(SortOrder(key, reverse), SortOrder()))
    ]
    assert known == sorted(known, reverse=True)


def test_texts_sort_both_ways() -> None:
    """Names sort up and, reversed, down; a prefix comes before, then after, what it begins."""
    rows = [Row(provider(name)) for name in ("b", "a", "ab", "c")]
    up = sorted(rows, key=sort_key(SortOrder("name"), SortOrder()))
    down = sorted(rows, key=sort_key(SortOrder("name", True), SortOrder()))
    assert [row.name for row in up] == ["a", "ab", "b", "c"]
    assert [row.name for row in down] == ["c", "b", "ab", "a"]


def test_at_140_columns_all_of_a_row_is_there() -> None:
    """The usual terminal of an operator shows every column but the location."""
    assert {column.key for column, _ in fit(138)} == set(BY_KEY) - {"location"}


def test_at_80_columns_trouble_has_its_word() -> None:
    """What is wrong is said in a word, not by a mark alone, even where there is little room."""
    assert {column.key: cells for column, cells in fit(78)}["trouble"] >= len("! GPU lost")


def test_equals_are_sorted_by_what_was_chosen_before() -> None:
    """By state, and those of one state by use; those of one use by name."""
    rows = []
    for name, state, use in (("d", "busy", 50), ("c", "busy", 50), ("b", "available", 10), ("a", "busy", 90)):
        row = Row(provider(name, ProviderState(state)))
        row.measure(headline(name, gpu_percent=float(use)))
        rows.append(row)
    ordered = sorted(rows, key=sort_key(SortOrder("state"), SortOrder("use")))
    assert [row.name for row in ordered] == ["b", "a", "c", "d"]


@pytest.mark.parametrize("width", [1, 10, 40, 80, 200])
def test_wanted_columns_stand_in_their_order(width: int) -> None:
    """What a person asks for is there from the left, as far as there is room, and never wider than that."""
    wanted = ["temp", "name", "use", "age"]
    shown = fit(width, wanted)
    assert [column.key for column, _ in shown] == wanted[: len(shown)]
    assert sum(cells for _, cells in shown) + GAP * (len(shown) - 1) <= width
    assert shown


def test_the_minute_shows_each_step() -> None:
    """Twelve steps in six cells."""
    row = Row(provider())
    row.measure(headline(at=NOW, gpu_percent=100.0))
    row.measure(headline(at=NOW + 5, gpu_percent=0.0))
    paint = Paint(row, NOW + 5, ascii_only=False)
    assert BY_KEY["minute"].draw(paint, 6)[0][0] == "     ⣇"
