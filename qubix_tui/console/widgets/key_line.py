"""The last line of every screen: its keys, as many as there is room for, and help always."""

from collections.abc import Sequence
from typing import Final

from rich.cells import cell_len
from textual import events
from textual.binding import ActiveBinding
from textual.screen import Screen

from qubix_tui.console.widgets.line_panel import Line, LinePanel

GAP: Final = 2

ALWAYS: Final = "app.help"
"""Id of the binding that has its place at the end, whatever else has none."""


class KeyLine(LinePanel):
    """One line made from the bindings that hold now; a click on a key presses it."""

    DEFAULT_CSS = "KeyLine { dock: bottom; height: 1; padding: 0 1; }"

    def __init__(self, *, ascii_only: bool = False) -> None:
        super().__init__(ascii_only=ascii_only)
        self._listed: list[ActiveBinding] = []
        self._keys: list[tuple[int, int, str]] = []
        """Of each key shown: where it begins and ends, and its name."""

    def on_mount(self) -> None:
        """Follow the bindings."""
        self.screen.bindings_updated_signal.subscribe(self, self._bindings_changed)
        self._bindings_changed(self.screen)

    def make_lines(self, width: int, height: int) -> Sequence[Line]:  # noqa: ARG002 - always one line
        """Give the line."""
        parts = [(self.app.get_key_display(active.binding), active) for active in self._listed]
        last = [part for part in parts if part[1].binding.id == ALWAYS]
        room = width - sum(self._cells(*part) + GAP for part in last)
        shown: list[tuple[str, ActiveBinding]] = []
        for part in parts:
            if part in last:
                continue
            cells = self._cells(*part) + (GAP if shown else 0)
            if cells > room:
                break
            room -= cells
            shown.append(part)
        line: Line = []
        self._keys = []
        at = 0
        for display, active in [*shown, *last]:
            if line:
                line.append(self.text(" " * GAP))
                at += GAP
            style = "key" if active.enabled else "label"
            line += [self.text(display, style), self.text(f" {active.binding.description}", "label")]
            end = at + self._cells(display, active)
            self._keys.append((at, end, active.binding.key))
            at = end
        return [line]

    def on_click(self, event: events.Click) -> None:
        """Press the key that was clicked."""
        x = event.get_content_offset(self)
        for start, end, key in self._keys:
            if x is not None and start <= x.x < end:
                self.app.simulate_key(key)

    def _cells(self, display: str, active: ActiveBinding) -> int:
        return cell_len(display) + 1 + cell_len(active.binding.description)

    def _bindings_changed(self, screen: Screen[object]) -> None:
        if screen is not self.screen:
            return
        by_id: dict[str, ActiveBinding] = {}
        for active in screen.active_bindings.values():
            if active.binding.show:
                by_id.setdefault(active.binding.id or active.binding.action, active)
        bindings = list(by_id.values())
        if bindings != self._listed:
            self._listed = bindings
            self.changed()
