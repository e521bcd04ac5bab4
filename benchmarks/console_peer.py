"""The same table as people would write it: Textual's `DataTable`, a cell updated where its value changed.

``python -m benchmarks.console_peer URL TOKEN``. Data, columns, colours and connection are the console's own.
"""

import sys
from typing import Final

from textual.app import App, ComposeResult
from textual.widgets import DataTable

from qubix_tui.client import CONSOLE, Connection
from qubix_tui.console.columns import BY_KEY, Paint, SortOrder, sort_key
from qubix_tui.console.fleet import Fleet, Row
from qubix_tui.console.themes import THEMES
from qubix_tui.protocol import channels

KEYS: Final = "trouble state name gpus use minute vram temp power cpu ram age".split()  # noqa: SIM905
FLUSH_SECONDS: Final = 0.1


class PeerApp(App[None]):
    """A fleet in a `DataTable`."""

    def __init__(self, url: str, token: str) -> None:
        super().__init__()
        self.connection = Connection(url, token=token, retry=CONSOLE)
        self.fleet = Fleet(self.connection.hub_time)
        self._cells: dict[str, list[str]] = {}
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = THEMES[0].name

    def compose(self) -> ComposeResult:
        """Put the screen together."""
        yield DataTable(cursor_type="row")

    async def on_mount(self) -> None:
        """Connect."""
        table = self.query_one(DataTable)
        for key in KEYS:
            table.add_column(BY_KEY[key].title, key=key, width=BY_KEY[key].width)
        self.connection.on("*", self.fleet.take)
        self.connection.subscribe(channels.MARKETPLACE, snapshot=True, digest=1.0)
        self.set_interval(FLUSH_SECONDS, self._paint)
        await self.connection.start()

    async def on_unmount(self) -> None:
        """Say goodbye."""
        await self.connection.close()

    def _paint(self) -> None:
        table = self.query_one(DataTable)
        changed, members = self.fleet.take_changes()
        if members:
            table.clear()
            rows = sorted(self.fleet.rows.values(), key=sort_key(SortOrder("name"), SortOrder()))
            for row in rows:
                self._cells[row.record.id] = cells = self._texts(row)
                table.add_row(*cells, key=row.record.id)
            return
        for provider_id in changed:
            old, new = self._cells.get(provider_id), self._texts(self.fleet.rows[provider_id])
            self._cells[provider_id] = new
            for place, key in enumerate(KEYS):
                if old is not None and old[place] != new[place]:
                    table.update_cell(provider_id, key, new[place])

    def _texts(self, row: Row) -> list[str]:
        paint = Paint(row, self.fleet.now(), ascii_only=False)
        return ["".join(text for text, _ in BY_KEY[key].draw(paint, BY_KEY[key].width)) for key in KEYS]


if __name__ == "__main__":
    PeerApp(*sys.argv[1:3]).run()
