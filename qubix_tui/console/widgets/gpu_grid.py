"""All GPUs of a provider, laid out by the room there is."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from textual.containers import VerticalScroll

from qubix_tui.console.widgets.gpu_panel import GpuPanel
from qubix_tui.console.widgets.line_panel import LinePanel

MIN_COLUMN_WIDTH: Final = 38

COMFORTABLE_HEIGHT: Final = 4
"""Lines of a panel below which another column is opened."""

MIN_HEIGHT: Final = 2
SCROLLED_HEIGHT: Final = 4
"""Lines of a panel where even with all columns they can't all be seen at once."""


class Arrangement(NamedTuple):
    """How panels are laid out. All have the same size, so that they can be compared at a glance."""

    columns: int
    rows: int
    panel_height: int

    @property
    def height(self) -> int:
        """Lines of all rows."""
        return self.rows * self.panel_height


def arrange(count: int, width: int, height: int) -> Arrangement:
    """Lay out panels: in as few columns as leave each a comfortable height.

    Args:
        count: Panels, at least 1.
        width: Cells there are.
        height: Lines there are; where they do not do, what is given is higher, and is to be scrolled.
    """
    most = max(1, min(count, width // MIN_COLUMN_WIDTH))
    columns = next(
        (some for some in range(1, most) if height // _rows(count, some) >= COMFORTABLE_HEIGHT),
        most,
    )
    rows = _rows(count, columns)
    each = height // rows
    return Arrangement(columns, rows, each if each >= MIN_HEIGHT else SCROLLED_HEIGHT)


class GpuGrid(VerticalScroll):
    """The panels of a provider's GPUs. It scrolls where they are too many.

    Args:
        palette: Lends the panels their styles.
    """

    def __init__(self, palette: LinePanel) -> None:
        super().__init__()
        self._palette = palette
        self._panels: list[GpuPanel] = []

    @property
    def panels(self) -> Sequence[GpuPanel]:
        """The panels, by the GPUs' indices from 0."""
        return self._panels

    def match(self, count: int) -> None:
        """Have as many panels as there are GPUs."""
        if count == len(self._panels):
            return
        self.remove_children(self._panels[count:])
        added = [GpuPanel(index, self._palette) for index in range(len(self._panels), count)]
        self._panels = [*self._panels[:count], *added]
        self.mount_all(added)
        self._arrange()

    def on_resize(self) -> None:
        """Lay them out anew."""
        self._arrange()

    def _arrange(self) -> None:
        size = self.scrollable_content_region.size
        if self._panels and size.area:
            arrangement = arrange(len(self._panels), size.width, size.height)
            self.styles.grid_size_columns = arrangement.columns
            self.styles.grid_rows = str(arrangement.panel_height)


def _rows(count: int, columns: int) -> int:
    return -(-count // columns)
