"""What happened last, newest first."""

import time
from collections.abc import Sequence

from qubix_tui.console.event_log import Entry
from qubix_tui.console.widgets.line_panel import Line, LinePanel
from qubix_tui.console.widgets.tiles import cut


class NewsFeed(LinePanel):
    """The newest events: one line each where there are lines, else several in a line."""

    DEFAULT_CSS = "NewsFeed { height: 1; padding: 0 1; }"

    def __init__(self, *, ascii_only: bool = False) -> None:
        super().__init__(ascii_only=ascii_only)
        self._news: list[Entry] = []

    def show(self, news: Sequence[Entry]) -> None:
        """Show events.

        Args:
            news: Newest first.
        """
        self._news = list(news)
        self.changed()

    def make_lines(self, width: int, height: int) -> Sequence[Line]:
        """Give the lines."""
        if not self._news:
            return [[self.text("No events yet.", "label")]]
        if height == 1:
            return [self._one_line(width)]
        return [
            [
                self.text(f"{clock(news.moment)}  ", "label"),
                self.text(cut(news.text, width - 10), news.style),
            ]
            for news in self._news[:height]
        ]

    def _one_line(self, width: int) -> Line:
        line: Line = []
        room = width
        for news in self._news:
            text, when = news.text, f"{clock(news.moment)} "
            separator = " · " if line and not self.ascii_only else " | " if line else ""
            needed = len(separator) + len(when) + len(text)
            if line and needed > room:
                break
            line += [self.text(separator + when, "label"), self.text(cut(text, room), news.style)]
            room -= needed
        return line


def clock(moment: float) -> str:
    """Give the time of day of a moment, in this machine's time zone."""
    return time.strftime("%H:%M:%S", time.localtime(moment))
