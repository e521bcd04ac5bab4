"""Asks for a line of text."""

from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static


class AskScreen(ModalScreen[str | None]):
    """Asks for a line of text; gives it without blanks around, None where nothing was given.

    Args:
        title: What is asked.
        begun: What stands there already.
        wrong: Says as a sentence why a text can't be taken; None for one that can.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "close", id="ask.close", tooltip="Say nothing"),
    ]

    def __init__(
        self, title: str, begun: str = "", *, wrong: Callable[[str], str | None] = lambda _: None
    ) -> None:
        super().__init__()
        self._title = title
        self._begun = begun
        self._wrong = wrong

    def compose(self) -> ComposeResult:
        """Put the screen together."""
        with Vertical(classes="dialog"):
            yield Static(self._title, classes="title", markup=False)
            yield Input(self._begun, compact=True, select_on_focus=False)
            yield Static("Enter takes it, Esc leaves it.", classes="note", markup=False)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        text = event.value.strip()
        wrong = self._wrong(text) if text else None
        if wrong is None:
            self.dismiss(text or None)
        else:
            self.query_one(".note", Static).update(wrong)
