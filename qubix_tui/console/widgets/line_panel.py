"""The base of widgets that lay out their own lines."""

from collections.abc import Sequence
from typing import ClassVar, Final

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

Line = list[Segment]
"""One line of a panel, from the left; what it leaves at the right is blank."""


TO_ASCII: Final = str.maketrans("—·×°↓↑…−", "-|xCv^~-")
"""What stands for our own signs where only ASCII is to be used, of the same width."""


class LineWidget(Widget):
    """A widget that makes all its lines at once, when something changed, and then hands them out.

    A subclass gives the lines in `make_lines`, calls `changed`, and says in `component_style` where its
    colours come from. What is stale has a single one.
    """

    def __init__(
        self,
        *,
        ascii_only: bool = False,
        name: str | None = None,
        id: str | None = None,  # noqa: A002 - the name that Textual gives it
        classes: str | None = None,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self.ascii_only = ascii_only
        self._is_stale = False
        self._made: tuple[int, int, list[Line]] | None = None
        self._background: Style | None = None

    @property
    def is_stale(self) -> bool:
        """Whether everything in it is shown dimmed, because it is of the past."""
        return self._is_stale

    def make_lines(self, width: int, height: int) -> Sequence[Line]:
        """Give the lines from the top; those beyond ``height`` are not shown, missing ones are blank."""
        raise NotImplementedError

    def changed(self, *, stale: bool = False) -> None:
        """Have it drawn anew with the next frame."""
        self._is_stale = stale
        self._made = None
        self.refresh()

    def style(self, name: str) -> Style:
        """Give the style of a component class by its last part, such as ``title`` or ``hot``."""
        return self.component_style("panel--stale" if self._is_stale else f"panel--{name}")

    def component_style(self, component: str) -> Style:
        """Give the style of a component class of `LinePanel`."""
        raise NotImplementedError

    def text(self, text: str, style: str = "value") -> Segment:
        """Give text in one of the panel's styles."""
        return Segment(text, self.style(style))

    def notify_style_update(self) -> None:
        """Draw anew in the colours of another theme."""
        super().notify_style_update()
        self._made = self._background = None

    def render_line(self, y: int) -> Strip:
        """Give one line for the compositor."""
        width, height = self.size
        if self._made is None or self._made[:2] != (width, height):
            self._made = width, height, list(self.make_lines(width, height))
        lines = self._made[2]
        background = self._background
        if background is None:
            background = self._background = self.rich_style
        if y >= len(lines):
            return Strip.blank(width, background)
        line = lines[y]
        if self.ascii_only:
            line = [Segment(text.translate(TO_ASCII), style) for text, style, _ in line]
        return Strip(line).adjust_cell_length(width, background)


class LinePanel(LineWidget):
    """A `LineWidget` whose colours are component classes, so that a style sheet decides."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "panel--title",
        "panel--label",
        "panel--value",
        "panel--rule",
        "panel--curve",
        "panel--fill",
        "panel--axis",
        "panel--mark",
        "panel--key",
        "panel--ok",
        "panel--busy",
        "panel--warn",
        "panel--hot",
        "panel--stale",
    }

    def __init__(
        self,
        *,
        ascii_only: bool = False,
        name: str | None = None,
        id: str | None = None,  # noqa: A002 - the name that Textual gives it
        classes: str | None = None,
    ) -> None:
        super().__init__(ascii_only=ascii_only, name=name, id=id, classes=classes)
        # Textual works a style out anew at each call, which is dearer than all else here.
        self._component_cache: dict[str, Style] = {}

    def component_style(self, component: str) -> Style:
        """Give the style of a component class."""
        style = self._component_cache.get(component)
        if style is None:
            style = self._component_cache[component] = self.get_component_rich_style(component)
        return style

    def notify_style_update(self) -> None:
        """Draw anew in the colours of another theme."""
        super().notify_style_update()
        self._component_cache.clear()
