"""Graphs: what is drawn for which values, and what never is."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.style import Style
from textual.app import App, ComposeResult

from qubix_tui.console.braille import ascii_rows, braille_rows, nice_ceiling
from qubix_tui.console.provider_history import CPU, ProviderHistory
from qubix_tui.console.themes import THEMES
from qubix_tui.console.time_series import Window
from qubix_tui.console.widgets.graph import AXIS_WIDTH, Graph, GrowingScale, Mark, Trace, draw
from qubix_tui.console.widgets.line_panel import Line
from qubix_tui.protocol.records import Metrics

END = 1_790_000_000.0


class GraphApp(App[None]):
    """An app with one graph in it."""

    CSS_PATH = "../../qubix_tui/console/styles/app.tcss"
    CSS = "Graph { width: 40; height: 8; } LinePanel .panel--fill { color: $accent 40%; }"

    def __init__(self, *, ascii_only: bool = False) -> None:
        super().__init__()
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = THEMES[0].name
        self.graph = Graph(ascii_only=ascii_only)

    def compose(self) -> ComposeResult:
        """Put the graph on the screen."""
        yield self.graph


class PlainGraph(Graph):
    """A graph outside of an app, without colours."""

    def style(self, name: str) -> Style:
        return Style.null()


def trace(
    values: Sequence[float | None] | None = None, *, marks: Sequence[Mark] = (), **changes: object
) -> Trace:
    """Make a trace that shows these values at the right edge, or whatever fills its window with 50."""

    def peaks(window: Window) -> list[float | None]:
        given: list[float | None] = [50.0] * window.columns if values is None else list(values)
        return ([None] * window.columns + given)[-window.columns :]

    made = {"name": "use", "end": END, "span": 60.0, "top": 100.0, "top_label": "100%", "span_label": "1 min"}
    return Trace(**{"peaks": peaks, "marks": marks, **made, **changes})  # type: ignore[arg-type]


def texts(lines: Sequence[Line]) -> list[str]:
    """Give lines without their styles."""
    return ["".join(segment.text for segment in line) for line in lines]


def test_columns_are_filled_from_the_bottom() -> None:
    """Two columns share a cell; each is as high as its value, to a quarter of a line."""
    assert braille_rows([25, 50, 75, 100], 1, 100) == ["⣠⣾"]
    assert braille_rows([50, 100], 2, 100) == ["⢸", "⣿"]


def test_zero_shows_and_unknown_does_not() -> None:
    """0 is the lowest dot, unknown is blank."""
    assert braille_rows([0, 0, None, None, 0, None], 1, 100) == ["⣀ ⡀"]
    assert ascii_rows([0, 0, None, None], 1, 100) == [". "]


def test_what_is_above_the_top_is_cut_there() -> None:
    """A value over the end of the axis fills its column and no more."""
    assert braille_rows([500, 100], 2, 100) == ["⣿", "⣿"]


def test_ascii_shows_the_higher_of_two_columns() -> None:
    """Without braille a cell has one column, in thirds of a line: no peak is lost."""
    assert ascii_rows([10, 100, 50, 20], 1, 100) == ["#:"]
    assert ascii_rows([10, 100], 2, 100) == ["#", "#"]


@given(st.lists(st.none() | st.floats(0, 1e6), max_size=80), st.integers(1, 20), st.floats(0.001, 1e6))
def test_a_picture_has_the_size_asked_for(values: list[float | None], height: int, top: float) -> None:
    """Whatever the values, all lines are there and equally long, and unknown columns are blank."""
    columns = [*values, *values]
    for rows in (braille_rows(columns, height, top), ascii_rows(columns, height, top)):
        if columns:
            assert [len(row) for row in rows] == [len(values)] * height
        for cell in range(len(values)):
            is_known = columns[2 * cell] is not None or columns[2 * cell + 1] is not None
            assert (rows[-1][cell] != " ") == is_known


@given(st.floats(1e-9, 1e18))
def test_axes_end_at_one_two_or_five(value: float) -> None:
    """The end of an axis is 1, 2 or 5 times a power of ten, and hardly above the value."""
    ceiling = nice_ceiling(value)
    assert value <= ceiling < 2.6 * value
    assert f"{ceiling:.3e}"[:5] in {"1.000", "2.000", "5.000"}


def test_an_axis_grows_and_never_shrinks() -> None:
    """What has been needed once stays, whatever comes after."""
    scale = GrowingScale()
    assert [scale.fit(value) for value in (None, 0, 3, 70, 2, None)] == [1, 1, 5, 100, 100, 100]


def test_a_graph_has_its_axes_and_fills_its_room() -> None:
    """Top, name, bottom, span and `now` are told, and every line is as wide as the widget."""
    lines = texts(draw(PlainGraph(), trace(), 40, 8))
    assert [cell_len(line) for line in lines] == [40] * 8
    assert lines[0].startswith(" 100% ┤")
    assert lines[1].startswith("  use │")
    assert lines[6].startswith("    0 ┤")
    assert lines[7] == " " * AXIS_WIDTH + "1 min" + " " * 25 + "now"
    assert set(lines[0][AXIS_WIDTH:]) == {" "}
    assert set(lines[6][AXIS_WIDTH:]) == {"⣿"}


def test_a_low_graph_is_curve_alone() -> None:
    """In one or two lines there is no room for labels: the whole width is the curve's."""
    assert texts(draw(PlainGraph(), trace(), 10, 1)) == ["⣤" * 10]
    assert texts(draw(PlainGraph(), trace(), 10, 2)) == [" " * 10, "⣿" * 10]


def test_a_mark_is_a_thin_line_with_its_name() -> None:
    """An event is a line through blank and filled cells, its name below it."""
    lines = texts(draw(PlainGraph(), trace(marks=[Mark(END - 30, "train-7f")]), 40, 8))
    at = lines[0].index("│")
    assert lines[7].index("train-7f") == at
    assert [line[at] for line in lines[:7]] == ["│", "│", "│", "⣤", "│", "│", "│"]


def test_a_mark_at_the_edge_has_its_name_beside_now() -> None:
    """An event of this moment is named at once, left of `now`; one before the window is not there."""
    marks = [Mark(END - 100, "old"), Mark(END - 0.1, "train-7f")]
    lines = texts(draw(PlainGraph(), trace(marks=marks), 40, 8))
    assert lines[7].endswith("train-7f now")
    assert not any("old" in line for line in lines)


def test_a_mark_without_room_for_its_name_is_a_line() -> None:
    """Names never overlap: the newest is told, and the lines of all are there."""
    marks = [Mark(END - 30, "first-job"), Mark(END - 24, "second-job")]
    lines = texts(draw(PlainGraph(), trace(marks=marks), 40, 8))
    assert lines[0].count("│") == 2
    assert "second-job" in lines[7]
    assert "first-job" not in lines[7]


@given(st.lists(st.none() | st.floats(0, 100), min_size=66, max_size=66), st.floats(0, 60))
def test_a_mark_never_covers_a_peak(values: list[float | None], age: float) -> None:
    """The highest dots of every column are the same with a mark as without."""
    panel = PlainGraph()
    plain = texts(draw(panel, trace(values), 40, 9))[:8]
    marked = texts(draw(panel, trace(values, marks=[Mark(END - age, "x")]), 40, 9))[:8]
    for row, (before, after) in enumerate(zip(plain, marked, strict=True)):
        for column in range(AXIS_WIDTH, 40):
            if before[column] != after[column]:
                above = plain[row - 1][column] if row else " "
                assert before[column] == " " or (before[column] == "⣿" and above != " ")


def test_the_picture_scrolls_and_does_not_flicker() -> None:
    """When time moves on by a column, each peak moves by a column and keeps its height."""
    history = ProviderHistory()
    for second in range(60):
        history.record(END - 60 + second, Metrics(cpu_percent=(second * 37) % 101))

    def columns(end: float) -> list[float | None]:
        return history.peaks(CPU, Window.ending(end, 30, 60))

    before = columns(END - 10)
    assert columns(END - 9.5)[:-1] == before[1:]
    assert columns(END - 9.75) in (before, columns(END - 9.5))


async def test_values_over_a_threshold_are_told_by_colour() -> None:
    """A column that was hot has its edge in that colour, and its neighbours do not."""
    app = GraphApp()
    async with app.run_test():
        values = [50.0, 50.0, 95.0, 50.0, 80.0, 80.0]
        lines = draw(app.graph, trace(values, bands=((77, "warn"), (87, "hot"))), 3, 1)
        styles = [segment.style for segment in lines[0]]
        assert styles == [app.graph.style(name) for name in ("curve", "hot", "warn")]


async def test_ascii_only_is_ascii() -> None:
    """Where only ASCII is to be used, nothing else reaches the screen."""
    app = GraphApp(ascii_only=True)
    async with app.run_test() as pilot:
        app.graph.show(trace([None, 10, 60, 100], marks=[Mark(END - 30, "job")], top_label="100°"))
        await pilot.pause()
        shown = [app.graph.render_line(row).text for row in range(8)]
    assert all(line.isascii() for line in shown)
    assert any("#" in line for line in shown)
    assert shown[0].startswith(" 100C +")


async def test_a_stale_graph_has_one_colour() -> None:
    """What is of the past is dimmed as a whole."""
    app = GraphApp()
    async with app.run_test() as pilot:
        app.graph.show(trace(bands=((10, "hot"),)), stale=True)
        await pilot.pause()
        colours = {
            segment.style and segment.style.color
            for row in range(8)
            for segment in app.graph.render_line(row)
        }
        assert len(colours) == 1


async def test_another_theme_recolours_it() -> None:
    """A graph that is on the screen takes the colours of a new theme."""
    app = GraphApp()
    async with app.run_test() as pilot:
        app.graph.show(trace())
        await pilot.pause()
        before = app.graph.render_line(6)
        app.theme = "qubix-light"
        await pilot.pause()
        after = app.graph.render_line(6)
    assert before.text == after.text
    assert [segment.style for segment in before] != [segment.style for segment in after]


async def test_without_a_trace_it_is_blank() -> None:
    """Before there is something to show, the room is blank."""
    app = GraphApp()
    async with app.run_test() as pilot:
        app.graph.show(None)
        await pilot.pause()
        assert {app.graph.render_line(row).text for row in range(8)} == {" " * 40}


@pytest.mark.parametrize("width", range(1, 12))
def test_it_bears_any_width(width: int) -> None:
    """However narrow, lines are given, none of them longer than the axis and a cell."""
    for height in range(1, 8):
        for line in texts(draw(PlainGraph(), trace(marks=[Mark(END, "x")]), width, height)):
            assert cell_len(line) <= max(width, AXIS_WIDTH + 1)
