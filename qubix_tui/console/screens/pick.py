"""A short list to choose from, each choice by its letter or with the cursor."""

from collections.abc import Sequence
from typing import ClassVar, Generic, NamedTuple, TypeVar

from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

T = TypeVar("T")


class Choice(NamedTuple, Generic[T]):
    """One of what can be chosen."""

    key: str
    """The letter that chooses it; empty for the cursor alone."""
    words: str
    value: T


class PickScreen(ModalScreen[T | None], Generic[T]):
    """Asks for one of a few things; gives its value, None where nothing was chosen.

    Args:
        title: What is asked.
        choices: What there is to choose from.
        note: A sentence below them.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "close", id="pick.close", tooltip="Choose nothing"),
    ]

    def __init__(self, title: str, choices: Sequence[Choice[T]], *, note: str = "") -> None:
        super().__init__()
        self._title = title
        self._choices = list(choices)
        self._note = note

    def compose(self) -> ComposeResult:
        """Put the screen together."""
        with Vertical(classes="dialog"):
            yield Static(self._title, classes="title", markup=False)
            yield OptionList(*(Option(self._prompt(choice)) for choice in self._choices), compact=True)
            if self._note:
                yield Static(self._note, classes="note", markup=False)

    def on_mount(self) -> None:
        """Begin at the first."""
        self.query_one(OptionList).highlighted = 0

    def on_key(self, event: events.Key) -> None:
        """Choose by letter."""
        for choice in self._choices:
            if choice.key and event.character == choice.key:
                event.stop()
                self.dismiss(choice.value)
                return

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._choices[event.option_index].value)

    def _prompt(self, choice: Choice[T]) -> Text:
        return Text.assemble((f"{choice.key or ' '}  ", "bold"), choice.words)
