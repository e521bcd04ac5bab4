"""Every key of the screen below, made from its bindings."""

from collections.abc import Iterable
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import ActiveBinding, Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from qubix_tui.console.columns import GLYPHS

FILTER_HELP = (
    ("barn", "name, id, GPU, location or state has it"),
    ("state:busy gpu:4090", "and all terms must hold"),
    ("temp>80 price<0.5 vram>=24", "comparisons: never true where the value is not known"),
    ("-name:lab", "a minus, or not, turns a term round"),
    ("job:* or (temp>80 use<5)", "job:* is any that is known; or, and, parentheses"),
    ('location:"New York"', "quotes around blanks"),
)


class HelpScreen(ModalScreen[None]):
    """Keys, glyphs and the filter language.

    Args:
        bindings: Of the screen that help was asked on.
        ascii_only: Whether glyphs beyond ASCII are to be avoided.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q", "dismiss", "close", id="help.close", tooltip="Close this"),
    ]

    def __init__(self, bindings: Iterable[ActiveBinding], *, ascii_only: bool = False) -> None:
        super().__init__()
        self._active = list(bindings)
        self._ascii_only = ascii_only

    def compose(self) -> ComposeResult:
        """Put the screen together."""
        with VerticalScroll(id="help"):
            yield Static("Keys", classes="title", markup=False)
            yield Static(self._keys(), markup=False)
            yield Static("States", classes="title", markup=False)
            yield Static(self._states(), markup=False)
            yield Static("Filter", classes="title", markup=False)
            yield Static(self._table(FILTER_HELP), markup=False)

    def _keys(self) -> Text:
        rows: dict[str, tuple[str, str]] = {}
        for active in self._active:
            binding = active.binding
            if binding.id is None:  # Textual's own, for selecting text and the like
                continue
            key = self.app.get_key_display(binding)
            keys, _ = rows.get(binding.id, ("", ""))
            rows[binding.id] = (f"{keys} {key}".strip(), binding.tooltip or binding.description)
        return self._table(rows.values())

    def _states(self) -> Text:
        return self._table(
            (plain if self._ascii_only else glyph, state.value) for state, (glyph, plain, _) in GLYPHS.items()
        )

    def _table(self, rows: Iterable[tuple[str, str]]) -> Text:
        listed = list(rows)
        width = max((len(key) for key, _ in listed), default=0) + 3
        text = Text()
        for key, words in listed:
            text.append(f"  {key:<{width}}", "bold")
            text.append(f"{words}\n")
        text.rstrip()
        return text
