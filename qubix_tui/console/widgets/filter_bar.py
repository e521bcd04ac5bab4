"""The line where the fleet is filtered, and what came of it."""

from typing import ClassVar

from rich.highlighter import Highlighter
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static

from qubix_tui.console.query import Predicate, QueryError, parse


class FilterBar(Horizontal):
    """A mark, the filter as it is typed, and how many it leaves or what is wrong with it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "clear", "clear", id="filter.clear", tooltip="Clear the filter"),
        Binding("down", "leave", "to the table", id="filter.leave", tooltip="Go to what the filter left"),
    ]

    class Changed(Message):
        """Another filter holds.

        Args:
            predicate: Whether a row is shown; None shows all.
        """

        def __init__(self, predicate: Predicate | None) -> None:
            super().__init__()
            self.predicate = predicate

    class Left(Message):
        """The user is done with it."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - the name that Textual gives it
        super().__init__(id=id)
        self._error: QueryError | None = None
        self._count = ""

    @property
    def query_text(self) -> str:
        """The filter as it was typed."""
        return self._input.value.strip()

    @property
    def _input(self) -> Input:
        return self.query_one("#filter", Input)

    def compose(self) -> ComposeResult:
        """Put the line together."""
        yield Static("/", id="query-mark", markup=False)
        yield Input(
            placeholder="filter: name, temp>80, state:busy, gpu:4090",
            compact=True,
            id="filter",
            highlighter=_Pointer(),
        )
        yield Static(id="count", markup=False)

    def edit(self) -> None:
        """Go to it."""
        self._input.focus()

    def clear(self) -> None:
        """Take the filter away."""
        self._input.value = ""

    def show_count(self, words: str) -> None:
        """Say how many rows are left, unless there is something wrong to be said."""
        self._count = words
        self._say()

    def action_clear(self) -> None:
        """Take the filter away, and be done."""
        self.clear()
        self.action_leave()

    def action_leave(self) -> None:
        """Be done."""
        self.post_message(self.Left())

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        text, self._error = event.value.lower(), None
        predicate: Predicate | None = None
        while text.strip() and predicate is None:
            try:
                predicate = parse(text)
            except QueryError as error:
                # What is right filters already; the first term at fault is the one to speak of.
                self._error = self._error or error
                text = text[: error.start] + " " * (error.end - error.start) + text[error.end :]
        self.post_message(self.Changed(predicate))
        event.input.set_class(self._error is not None, "-wrong")
        self._say()

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_leave()

    def _say(self) -> None:
        words = self._count if self._error is None else str(self._error)
        line = self.query_one("#count", Static)
        if line.content != words:
            line.update(words)


class _Pointer(Highlighter):
    """Underlines the term at fault."""

    def highlight(self, text: Text) -> None:
        """Underline it in place."""
        try:
            parse(text.plain)
        except QueryError as error:
            text.stylize("bold underline", error.start, error.end)
