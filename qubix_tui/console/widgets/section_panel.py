"""A panel as long as what it has to say: sections of lines under each other, each with a title."""

from collections.abc import Sequence
from typing import Final

from textual.geometry import Size

from qubix_tui.console.widgets.line_panel import Line, LinePanel
from qubix_tui.console.widgets.tiles import cut

LABEL_WIDTH: Final = 12


class SectionPanel(LinePanel):
    """The base of panels that stand in a scrolling container.

    A subclass gives its sections, and calls `grown` when they changed.
    """

    def __init__(self, *, ascii_only: bool = False) -> None:
        super().__init__(ascii_only=ascii_only)
        self._lines_shown = 0

    def sections(self, width: int) -> Sequence[tuple[str, Sequence[Line]]]:
        """Give each section's title and lines; one without lines is left out."""
        raise NotImplementedError

    def grown(self, *, stale: bool = False) -> None:
        """Have it drawn anew with the next frame, in as many lines as it takes."""
        self.changed(stale=stale)
        count = len(self.make_lines(self.size.width or 80, 0))
        if count != self._lines_shown:
            self._lines_shown = count
            self.refresh(layout=True)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:  # noqa: ARG002
        """Give as many lines as there are."""
        return len(self.make_lines(width, 0))

    def make_lines(self, width: int, height: int) -> Sequence[Line]:  # noqa: ARG002 - as many as it takes
        """Give the lines, section by section."""
        lines: list[Line] = []
        for title, body in self.sections(width) if width else ():
            if body:
                rule = ("-" if self.ascii_only else "─") * max(0, width - len(title) - 1)
                lines += [
                    *([[]] if lines else []),
                    [self.text(title, "title"), self.text(f" {rule}", "rule")],
                ]
                lines += body
        return lines

    def row(self, label: str, value: str, width: int, style: str = "value") -> Line:
        """Give a line with a label and a value, cut to the width."""
        name = f"{cut(label, LABEL_WIDTH - 1):<{LABEL_WIDTH}}"
        return [self.text(name, "label"), self.text(cut(value, max(0, width - LABEL_WIDTH)), style)]
