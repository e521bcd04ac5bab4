"""What reaches the terminal: the cells that differ from those that are there, and no colour code twice.

Textual renders whole lines of a region that changed and writes them from their beginning, each run of a style
with all its codes and a reset: 15 KiB for a screen of numbers of which each changed a digit. Here what was
written is remembered, and of a new frame only the difference is. It leans on the form of Textual's compositor
updates, which one exact version has (`tests/console/test_console_frugal.py` fails when that moves).
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from rich.cells import cell_len
from rich.color import ColorSystem
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.strip import Strip

RESET: Final = "\x1b[0m"

_PLAIN: Final = Style()


class _Codes(NamedTuple):
    """A style's parameters of an SGR sequence."""

    attributes: str
    front: str
    back: str


class Written(CompositorUpdate):
    """An update that says itself what to write."""

    def __init__(self, text: str) -> None:
        self._text = text

    def render_segments(self, console: Console) -> str:  # noqa: ARG002 - as Textual calls it
        """Give what to write."""
        return self._text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Give the same as a renderable, which every update of Textual's is."""
        yield Segment(self._text)


class Terminal:
    """The terminal as it was left: what stands in its cells, and how to get from there to a new frame."""

    def __init__(self) -> None:
        self._lines: dict[int, dict[int, Segment]] = {}
        """Of each line, the runs by the cell that they begin at. What is not in it is not known."""
        self._codes: dict[tuple[Style, ColorSystem], _Codes] = {}
        self._size = (0, 0)

    def forget(self) -> None:
        """Take nothing for known any longer."""
        self._lines.clear()

    def narrowed(
        self, update: RenderableType | None, size: tuple[int, int], colours: ColorSystem
    ) -> RenderableType | None:
        """Give in place of an update what of it is to be written; None for nothing.

        Args:
            update: What the compositor made; what is no update of cells comes back as it is.
            size: Columns and rows of the terminal.
            colours: What it can show of colours.
        """
        if not isinstance(update, LayoutUpdate | ChopsUpdate):
            return update
        text = self.difference(update, size, colours)
        return Written(text) if text else None

    def difference(
        self, update: LayoutUpdate | ChopsUpdate, size: tuple[int, int], colours: ColorSystem
    ) -> str:
        """Give what to write so that the terminal shows an update, and take that for written."""
        if size != self._size:
            self._size = size
            self.forget()
        if isinstance(update, LayoutUpdate):
            # All of it: a person asked for it, or something else wrote over it.
            self.forget()
        pen = _Pen(self._codes, colours)
        for y, x, strip in _strips(update):
            if y < size[1]:
                self._write(pen, y, x, strip)
        return pen.finished()

    def _write(self, pen: "_Pen", y: int, x: int, strip: Strip) -> None:
        line = self._lines.setdefault(y, {})
        end = x + strip.cell_length
        old = {at: segment for at, segment in line.items() if x <= at < end}
        for at, segment in list(line.items()):
            # What only overlaps is cut somewhere in its middle: it is not known any longer.
            if x < at + segment.cell_length and at < end:
                del line[at]
        at = x
        for segment in strip:
            cells = segment.cell_length
            if not cells:
                continue
            known = old.get(at)
            if known is None or known.style != segment.style or known.cell_length != cells:
                pen.write(y, at, segment.text, segment.style)
            elif known.text != segment.text:
                start, text = _changed(known.text, segment.text)
                pen.write(y, at + start, text, segment.style)
            line[at] = segment
            at += cells


class _Pen:
    """Writes runs of text, and knows where the cursor is and what it writes in."""

    def __init__(self, codes: dict[tuple[Style, ColorSystem], _Codes], colours: ColorSystem) -> None:
        self._known = codes
        self._colours = colours
        self._parts: list[str] = []
        self._at: tuple[int, int] | None = None
        self._codes = _Codes("", "", "")

    def write(self, y: int, x: int, text: str, style: Style | None) -> None:
        if self._at != (y, x):
            self._parts.append(f"\x1b[{y + 1};{x + 1}H")
        style = style or _PLAIN
        codes = self._codes_of(style)
        if codes != self._codes:
            self._parts.append(self._change(codes))
            self._codes = codes
        self._parts.append(f"\x1b]8;;{style.link}\x1b\\{text}\x1b]8;;\x1b\\" if style.link else text)
        self._at = (y, x + cell_len(text))

    def finished(self) -> str:
        if self._codes != _Codes("", "", ""):
            self._parts.append(RESET)
        return "".join(self._parts)

    def _codes_of(self, style: Style) -> _Codes:
        key = style, self._colours
        codes = self._known.get(key)
        if codes is None:
            codes = self._known[key] = _codes_of(style, self._colours)
        return codes

    def _change(self, new: _Codes) -> str:
        old = self._codes
        if new.attributes != old.attributes:
            parts: Iterable[str] = ("0", *(part for part in new if part))
        else:
            front = (new.front or "39") if new.front != old.front else ""
            back = (new.back or "49") if new.back != old.back else ""
            parts = (part for part in (front, back) if part)
        return f"\x1b[{';'.join(parts)}m"


def _codes_of(style: Style, colours: ColorSystem) -> _Codes:
    front = back = ""
    if style.color is not None:
        front = ";".join(style.color.downgrade(colours).get_ansi_codes())
    if style.bgcolor is not None:
        back = ";".join(style.bgcolor.downgrade(colours).get_ansi_codes(foreground=False))
    colour = ";".join(part for part in (front, back) if part)
    attributes = Strip.render_ansi(style, colours).removesuffix(colour).rstrip(";")
    return _Codes(attributes, front, back)


def _strips(update: LayoutUpdate | ChopsUpdate) -> Iterator[tuple[int, int, Strip]]:
    """Give what an update renders: line, first cell, strip."""
    if isinstance(update, LayoutUpdate):
        for y, strips in enumerate(update.strips, update.region.y):
            x = update.region.x
            for strip in strips:
                yield y, x, strip
                x += strip.cell_length
        return
    for y in sorted({y for y, _, _ in update.spans}):
        yield from ((y, x, strip) for x, strip in update.chops[y].items() if strip is not None)


def _changed(old: str, new: str) -> tuple[int, str]:
    """Give the part of a text that differs from another of as many cells, and the cell that it begins at."""
    if len(old) != len(new) or cell_len(new) != len(new):
        return 0, new
    start = 0
    while old[start] == new[start]:
        start += 1
    end = len(new)
    while old[end - 1] == new[end - 1]:
        end -= 1
    return start, new[start:end]
