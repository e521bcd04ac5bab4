"""The first line of every screen: where you are, which hub, how fresh, what time."""

from collections.abc import Sequence

from rich.cells import cell_len

from qubix_tui.console.link_words import Words
from qubix_tui.console.widgets.line_panel import Line, LinePanel
from qubix_tui.console.widgets.tiles import cut, widen


class TopBar(LinePanel):
    """One line: product and view at the left; hub, freshness and clock at the right."""

    DEFAULT_CSS = "TopBar { height: 1; padding: 0 1; }"

    def __init__(self, view: str, url: str, *, ascii_only: bool = False) -> None:
        super().__init__(ascii_only=ascii_only)
        self._view = view
        self._url = url
        self._standing = Words("", "label")
        self._warnings: Sequence[str] = ()
        self._simulated = False
        self._clock = ""

    def show(self, standing: Words, *, warnings: Sequence[str] = (), simulated: bool, clock: str) -> None:
        """Show how fresh the data is; drawn anew only where something changed.

        Args:
            standing: The words for it.
            warnings: What else a person has to know of the hub: once, in fewer and fewer words.
            simulated: Whether any of it is made up.
            clock: The time of day.
        """
        shown = standing, warnings, simulated, clock
        if shown != (self._standing, self._warnings, self._simulated, self._clock):
            self._standing, self._warnings, self._simulated, self._clock = shown
            self.changed()

    def make_lines(self, width: int, height: int) -> Sequence[Line]:  # noqa: ARG002 - always one line
        """Give the line; where there is no room for all the address goes first, then words of warnings."""
        left = [self.text("QUBIX", "title"), self.text(f"  {self._view}", "label")]
        if self._simulated:
            left.append(self.text("  SIMULATED DATA" if width >= 60 else "  SIM", "warn"))
        right = [self.text(self._standing.text, self._standing.style)]
        if self._clock:
            right.append(self.text(f"  {self._clock}", "label"))
        used = sum(cell_len(segment.text) for segment in [*left, *right])
        room = width - used - 4
        if self._warnings:
            fitting = (words for words in self._warnings if cell_len(words) <= room)
            words = next(fitting, cut(self._warnings[-1], max(0, room)))
            right.insert(0, self.text(f"{words}  ", "warn"))
            room -= cell_len(words) + 2
        if room >= 12:
            right.insert(0, self.text(f"{cut(self._url, room)}  ", "label"))
        end = sum(cell_len(segment.text) for segment in right)
        return [[*widen(self, left, max(0, width - end)), *right]]
