"""What is written to the terminal: little, and such that it shows what the compositor made."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.color import ColorSystem
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.drivers.headless_driver import HeadlessDriver
from textual.geometry import Region
from textual.strip import Strip

from qubix_tui.console.app import QubixApp
from qubix_tui.console.frugal import Terminal
from tests.console.fleet_stage import fill, fleet_console
from tests.console.provider_stage import NOW
from tests.console.test_console_app import until

WIDTH, HEIGHT = 24, 5
TRUE = ColorSystem.TRUECOLOR

STYLES = [
    None,
    Style(),
    Style(color="#d4dae3", bgcolor="#0e1116"),
    Style(color="#ff6b5e", bgcolor="#0e1116", bold=True),
    Style(color="#d4dae3", bgcolor="#1d2632"),
    Style(color="#77818f"),
    Style(bgcolor="#1d2632", reverse=True, underline=True),
    Style(bold=True),
]

texts = st.text(alphabet="ab 8…⣿宽", max_size=6)
segments = st.tuples(texts, st.sampled_from(STYLES)).map(lambda pair: Segment(*pair))
strips = st.lists(segments, max_size=8).map(lambda parts: Strip(parts))


def filled(strip: Strip, width: int) -> Strip:
    """The strip at a width."""
    return strip.adjust_cell_length(width, Style(color="#d4dae3", bgcolor="#0e1116"))


def whole(lines: list[Strip]) -> LayoutUpdate:
    """An update of all of the screen."""
    region = Region(0, 0, WIDTH, HEIGHT)
    return LayoutUpdate([[filled(line, WIDTH)] for line in lines], region)


def part(y: int, cut: int, left: Strip | None, right: Strip | None) -> ChopsUpdate:
    """An update of a line that two widgets share; None is a widget that did not change."""
    chops: list[dict[int, Strip | None]] = [{0: None, cut: None} for _ in range(HEIGHT)]
    chops[y] = {
        0: None if left is None else filled(left, cut),
        cut: None if right is None else filled(right, WIDTH - cut),
    }
    return ChopsUpdate(chops, [(y, 0, WIDTH)], [[cut, WIDTH] for _ in range(HEIGHT)])


whole_updates = st.lists(strips, min_size=HEIGHT, max_size=HEIGHT).map(whole)
part_updates = st.builds(
    part,
    st.integers(0, HEIGHT - 1),
    st.integers(1, WIDTH - 1),
    st.one_of(st.none(), strips),
    st.one_of(st.none(), strips),
)


class Emulator:
    """A terminal, by its cells."""

    def __init__(self, columns: int, rows: int) -> None:
        self.screen = pyte.Screen(columns, rows)
        self.screen.set_mode(pyte.modes.LNM)
        self._stream = pyte.Stream(self.screen)

    def feed(self, text: str) -> None:
        """Take what is written."""
        self._stream.feed(text)

    def cells(self) -> list[list[object]]:
        """Each cell with its colours and attributes."""
        return [
            [self.screen.buffer[y][x] for x in range(self.screen.columns)] for y in range(self.screen.lines)
        ]


@settings(max_examples=150)
@given(st.lists(st.one_of(part_updates, part_updates, whole_updates), max_size=8))
def test_it_shows_what_the_compositor_made(updates: list[LayoutUpdate | ChopsUpdate]) -> None:
    """After any updates the cells of a terminal are as if each had been written whole."""
    console = Console(force_terminal=True, color_system="truecolor")
    ours, plain, terminal = Emulator(WIDTH, HEIGHT), Emulator(WIDTH, HEIGHT), Terminal()
    for update in updates:
        ours.feed(terminal.difference(update, (WIDTH, HEIGHT), TRUE))
        plain.feed(update.render_segments(console))
        assert ours.cells() == plain.cells()


def test_nothing_is_written_twice() -> None:
    """The same once more is nothing; a digit that changed is a jump, its colours, and that digit."""
    terminal = Terminal()
    style = Style(color="#d4dae3", bgcolor="#0e1116")
    first, second = (Strip([Segment(f"use  {use}%", style)]) for use in (88, 89))
    assert terminal.difference(part(2, 12, first, None), (WIDTH, HEIGHT), TRUE)
    assert terminal.difference(part(2, 12, first, None), (WIDTH, HEIGHT), TRUE) == ""
    assert terminal.difference(part(2, 12, second, None), (WIDTH, HEIGHT), TRUE) == (
        "\x1b[3;7H\x1b[38;2;212;218;227;48;2;14;17;22m9\x1b[0m"
    )


def test_another_size_is_another_terminal() -> None:
    """What a terminal shows after it was resized is not known: it is written anew."""
    terminal = Terminal()
    update = part(2, 12, Strip([Segment("use 88%")]), None)
    first = terminal.difference(update, (WIDTH, HEIGHT), TRUE)
    assert terminal.difference(update, (WIDTH + 1, HEIGHT), TRUE) == first


@contextmanager
def written_to(emulator: Emulator, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the console of a test write to a terminal."""
    patch.setattr(HeadlessDriver, "is_headless", False)
    patch.setattr(HeadlessDriver, "write", lambda _self, text: emulator.feed(text))
    yield
    patch.undo()


def is_right(app: QubixApp, emulator: Emulator) -> bool:
    """Whether the terminal shows, line by line, what the screen is."""
    update = app.screen._compositor.render_update(full=True, screen_stack=app._background_screens)
    assert isinstance(update, LayoutUpdate)
    lines = ["".join(segment.text for strip in strips for segment in strip) for strips in update.strips]
    return [line.rstrip() for line in emulator.screen.display] == [line.rstrip() for line in lines]


async def test_a_day_at_the_console(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through keys, dialogs, other views, colours and new data, a real console's terminal is right."""
    app, connection = fleet_console()
    emulator = Emulator(120, 40)
    chance = random.Random(3)
    with written_to(emulator, monkeypatch):
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            fill(connection, 60)
            await until(pilot, lambda: is_right(app, emulator))
            keys = "down down space end home t ? escape / r i g escape s R 3 e escape enter escape h f x"
            more = chance.choices(["down", "up", "pageup", "pagedown", "t", "s"], k=12)
            for number, key in enumerate([*keys.split(), "escape", *more]):
                await pilot.press({"?": "question_mark", "/": "slash"}.get(key, key))
                if number % 3 == 0:
                    connection.now = NOW + number
                    fill(connection, 60)
                await until(pilot, lambda: is_right(app, emulator))
