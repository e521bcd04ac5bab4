"""A job's log on the screen, by the line API: follows the end, stands still, is searched."""

from typing import ClassVar, Final

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from qubix_tui.console.job_log import JobLog, LogLine, find
from qubix_tui.console.widgets.line_panel import TO_ASCII

OPEN_LINES: Final = 4

STEP_COLUMNS: Final = 8
"""How far a key goes to the side, in cells."""


class LogView(ScrollView, can_focus=True):
    """The lines of a log.

    Args:
        log: What it shows.
        ascii_only: Whether glyphs beyond ASCII are to be avoided.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "line(-1)", "Up", show=False, id="log.up", tooltip="One line up"),
        Binding("down", "line(1)", "Down", show=False, id="log.down", tooltip="One line down"),
        Binding("pageup", "page(-1)", "Page up", show=False, id="log.page-up", tooltip="One page up"),
        Binding("pagedown", "page(1)", "Page down", show=False, id="log.page-down", tooltip="One page down"),
        Binding(
            "left", "column(-1)", "Left", show=False, id="log.left", tooltip="Back from a long line's end"
        ),
        Binding("right", "column(1)", "Right", show=False, id="log.right", tooltip="On in long lines"),
        Binding("home,g", "top", "top", show=False, id="log.top", tooltip="To the first line"),
        Binding("end,G", "end", "end", show=False, id="log.end", tooltip="To the end, and follow it"),
    ]

    COMPONENT_CLASSES: ClassVar[set[str]] = {"log--value", "log--warn", "log--label", "log--found"}

    DEFAULT_CSS = """
    LogView {
        width: 1fr;
        height: 1fr;
        background: $background;
        color: $foreground;
        scrollbar-size: 0 1;

        .log--label { color: $quiet; }
        .log--warn { color: $warn; }
        .log--found { background: $accent; color: $background; }
    }
    """

    def __init__(self, log: JobLog, *, ascii_only: bool = False) -> None:
        super().__init__()
        self._log_of_job = log
        self._ascii_only = ascii_only
        self._version = -1
        self._removed = 0
        self._width = 0
        """Of the longest line so far, in cells."""
        self._wanted = ""
        self._found: int | None = None
        self._styles: dict[str, Style] = {}
        self.is_following = True
        """Whether the end is always in view."""
        self.stands_still = False
        """Whether what comes is not shown yet."""
        self._lines: list[LogLine] = []

    @property
    def waiting(self) -> int:
        """Lines that came since it stands still."""
        log = self._log_of_job
        return max(0, log.removed + len(log.lines) - self._removed - len(self._lines))

    def refresh_log(self) -> None:
        """Show what came since the last time."""
        log = self._log_of_job
        if self.stands_still or log.version == self._version:
            return
        gone = log.removed - self._removed
        new = log.removed + len(log.lines) - self._removed - len(self._lines)
        if new < 0:  # it was begun anew
            new, self._width = len(log.lines), 0
        self._version, self._removed, self._lines = log.version, log.removed, list(log.lines)
        if self._found is not None:
            self._found = self._found - gone if self._found >= gone else None
        # Of what was there, the last lines may have grown: one for each stream.
        grown = self._lines[-new - OPEN_LINES :]
        self._width = max(self._width, *(cell_len(line.text) for line in grown), 0)
        self.virtual_size = Size(self._width, len(self._lines))
        if self.is_following:
            self._show_end()
        self.refresh()

    def hold(self, still: bool) -> None:
        """Stand still, or go on with the end."""
        self.stands_still = still
        if not still:
            self.is_following = True
            self._version = -1
            self.refresh_log()

    def search(self, wanted: str, step: int = -1) -> bool:
        """Go to a line that has a text, from the last one found or from what is in view.

        Args:
            wanted: The text; empty ends the search.
            step: 1 for onwards, -1 for backwards.

        Returns:
            Whether there is one.
        """
        is_same = wanted == self._wanted and self._found is not None
        self._wanted = wanted
        if not wanted:
            self._found = None
            self.refresh()
            return False
        start = self._found if is_same and self._found is not None else self._begin(step)
        self._found = find(self._lines, wanted, start, step)
        if self._found is not None:
            self.is_following = False
            middle = max(0, self._found - self.size.height // 2)
            self.scroll_to(y=middle, animate=False, force=True, immediate=True)
        self.refresh()
        return self._found is not None

    def action_line(self, step: int) -> None:
        """Go up or down so many lines."""
        self._go(self.scroll_offset.y + step)

    def action_page(self, pages: int) -> None:
        """Go up or down so many pages."""
        self._go(self.scroll_offset.y + pages * max(1, self.size.height - 1))

    def action_column(self, steps: int) -> None:
        """Go to the side so many steps: where lines are longer than the view is wide."""
        x = self.scroll_offset.x + steps * STEP_COLUMNS
        self.scroll_to(x=max(0, x), animate=False, force=True, immediate=True)

    def action_top(self) -> None:
        """Go to the first line."""
        self._go(0)

    def action_end(self) -> None:
        """Go to the end, and stay there."""
        self.is_following = True
        self._show_end()

    def on_mouse_scroll_up(self) -> None:
        """Who looks back is not taken to the end by what comes."""
        self.is_following = False

    def on_resize(self, _event: events.Resize) -> None:
        """Keep the end in view."""
        if self.is_following:
            self._show_end()

    def notify_style_update(self) -> None:
        """Paint everything in the colours of another theme."""
        super().notify_style_update()
        self._styles.clear()

    def render_line(self, y: int) -> Strip:
        """Give one line for the compositor."""
        left, top = self.scroll_offset
        width = self.scrollable_size.width
        place = top + y
        if place >= len(self._lines):
            return Strip.blank(width, self.rich_style)
        line = self._lines[place]
        text = line.text.translate(TO_ASCII) if self._ascii_only else line.text
        strip = Strip(self._pieces(text, line.style))
        if strip.cell_length > left + width:
            more = Segment(">" if self._ascii_only else "…", self._style("label"))
            return Strip([*strip.crop(left, left + width - 1), more], width)
        return strip.crop(left, left + width).adjust_cell_length(width, self._style("value"))

    def _pieces(self, text: str, style: str) -> list[Segment]:
        plain, found = self._style(style), self._style("found")
        wanted = self._wanted.lower()
        # A letter may become two in lower case: then places would not fit.
        lowered = text.lower()
        if not wanted or len(lowered) != len(text):
            return [Segment(text, plain)]
        pieces, at = [], 0
        while (place := lowered.find(wanted, at)) >= 0:
            pieces += [Segment(text[at:place], plain), Segment(text[place : place + len(wanted)], found)]
            at = place + len(wanted)
        return [*pieces, Segment(text[at:], plain)]

    def _begin(self, step: int) -> int:
        return self.scroll_offset.y - 1 if step > 0 else self.scroll_offset.y + self.size.height

    def _go(self, y: int) -> None:
        last = max(0, len(self._lines) - self.size.height)
        self.is_following = y >= last
        self.scroll_to(y=max(0, min(y, last)), animate=False, force=True, immediate=True)

    def _show_end(self) -> None:
        last = max(0, len(self._lines) - self.size.height)
        self.scroll_to(y=last, animate=False, force=True, immediate=True)

    def _style(self, name: str) -> Style:
        style = self._styles.get(name)
        if style is None:
            style = self._styles[name] = self.get_component_rich_style(f"log--{name}")
        return style
