"""Every key of the screen below, made from its bindings."""

from collections.abc import Iterable, Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import ActiveBinding, Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from qubix_tui.console.columns import GLYPHS

HelpLine = tuple[str, str, str]
"""A key or an example, what it does, and, of a key, its name in a keymap."""

KEYS_NOTE = 'The names at the right are what [keys] of console.toml moves: fleet.sort = "o"'

FILTER_HELP: Sequence[HelpLine] = (
    ("barn", "name, id, GPU, location or state has it", ""),
    ("state:busy gpu:4090", "and all terms must hold", ""),
    ("temp>80 price<0.5 vram>=24", "comparisons: never true where the value is not known", ""),
    ("-name:lab", "a minus, or not, turns a term round", ""),
    ("job:* or (temp>80 use<5)", "job:* is any that is known; or, and, parentheses", ""),
    ('location:"New York"', "quotes around blanks", ""),
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
        here, everywhere = self._keys()
        with VerticalScroll(id="help"):
            yield Static("Keys of this screen", classes="title", markup=False)
            yield Static(self._table(here), markup=False)
            yield Static("Keys everywhere", classes="title", markup=False)
            yield Static(self._table(everywhere), markup=False)
            yield Static(KEYS_NOTE, classes="note", markup=False)
            yield Static("States", classes="title", markup=False)
            yield Static(self._table(self._states()), markup=False)
            yield Static("Filter", classes="title", markup=False)
            yield Static(self._table(FILTER_HELP), markup=False)

    def _keys(self) -> tuple[list[HelpLine], list[HelpLine]]:
        """Give the keys of this screen, and those of all: each with its words and its name in a keymap."""
        lines: dict[str, HelpLine] = {}
        for active in self._active:
            binding = active.binding
            if binding.id is None:  # Textual's own, for selecting text and the like
                continue
            key = self.app.get_key_display(binding)
            words = binding.tooltip or binding.description
            known = lines.get(words)
            if known is None:
                lines[words] = (key, words, binding.id)
            elif key.isdigit():
                # Keys of one kind have the same words: a line for all of them.
                lines[words] = (f"{known[0][0]}-{key}", words, known[2])
            else:
                lines[words] = (f"{known[0]} {key}", words, known[2])
        everywhere = [line for line in lines.values() if line[2].partition(".")[0] in {"app", "screen"}]
        return [line for line in lines.values() if line not in everywhere], everywhere

    def _states(self) -> list[HelpLine]:
        return [
            (plain if self._ascii_only else glyph, state.value, "")
            for state, (glyph, plain, _) in GLYPHS.items()
        ]

    def _table(self, lines: Sequence[HelpLine]) -> Text:
        quiet = self.app.get_css_variables()["quiet"]
        width = max((len(key) for key, _, _ in lines), default=0) + 3
        further = max((len(words) for _, words, name in lines if name), default=0) + 3
        text = Text(no_wrap=True, overflow="ellipsis")
        for key, words, name in lines:
            text.append(f"  {key:<{width}}", "bold")
            text.append(f"{words:<{further}}" if name else words)
            text.append(f"{name}\n", quiet if not quiet.startswith("ansi") else "dim")
        text.rstrip()
        return text
