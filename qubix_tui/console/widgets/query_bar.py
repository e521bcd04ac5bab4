"""The line where the fleet is asked for some of it: typed, completed, and pointed at where it is wrong."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import Input, Static

from qubix_tui.console.format import safe
from qubix_tui.console.query_complete import Proposal, proposals
from qubix_tui.console.query_eval import FIELDS, Predicate, read
from qubix_tui.console.query_syntax import QueryError
from qubix_tui.console.widgets.tiles import cut

MARK_CELLS = 2
"""Width of the mark before the query."""


class QueryBar(Vertical):
    """A mark, the query as it is typed, what came of it, and below what is wrong or could come next.

    Args:
        values: Gives what a text field can be, for completion.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "clear", "clear", id="query.clear", tooltip="Clear the query"),
        Binding("tab", "complete", "complete", id="query.complete", tooltip="Take the first proposal"),
        Binding("down", "leave", "to the table", id="query.leave", tooltip="Go to what the query left"),
    ]

    class Changed(Message):
        """Another query holds.

        Args:
            predicate: Whether a row is shown; None shows all.
        """

        def __init__(self, predicate: Predicate | None) -> None:
            super().__init__()
            self.predicate = predicate

    class Left(Message):
        """The user is done with it."""

    def __init__(self, values: Callable[[str], Sequence[str]], *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._values = values
        self._error: QueryError | None = None
        self._proposals: list[Proposal] = []
        self._count = ""

    @property
    def query_text(self) -> str:
        """The query as it was typed."""
        return self._input.value.strip()

    @property
    def error(self) -> QueryError | None:
        """What is wrong with it; None if nothing is."""
        return self._error

    @property
    def _input(self) -> Input:
        return self.query_one("#filter", Input)

    def compose(self) -> ComposeResult:
        """Put the lines together."""
        with Horizontal(id="query-line"):
            yield Static("/", id="query-mark", markup=False)
            yield Input(
                placeholder="filter: name, temp>80, state:busy, gpu:4090",
                compact=True,
                select_on_focus=False,
                id="filter",
            )
            yield Static(id="count", markup=False)
        yield Static(id="query-hint", markup=False)

    def edit(self) -> None:
        """Go to it at once: the next letter, however fast it comes, is the query's."""
        self.screen.set_focus(self._input)

    def ask(self, text: str) -> None:
        """Put a query in place of what is there."""
        self._input.value = text
        self._input.cursor_position = len(text)

    def show_count(self, words: str) -> None:
        """Say how many rows are left."""
        if words != self._count:
            self._count = words
            self.query_one("#count", Static).update(words)

    def action_clear(self) -> None:
        """Take the query away, and be done."""
        self.ask("")
        self.action_leave()

    def action_leave(self) -> None:
        """Be done."""
        self.post_message(self.Left())

    def action_complete(self) -> None:
        """Put in the first proposal."""
        if self._proposals:
            field, first = self._input, self._proposals[0]
            field.value = field.value[: first.start] + first.text + field.value[field.cursor_position :]
            field.cursor_position = first.start + len(first.text)

    def on_descendant_blur(self) -> None:
        """Propose nothing where nothing is typed."""
        self._proposals = []
        self._show_hint()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        reading = read(event.value)
        self._error = reading.error
        field = event.input
        typing = field.has_focus
        cursor = field.cursor_position
        self._proposals = proposals(event.value, cursor, FIELDS, self._values) if typing else []
        field.set_class(self._error is not None, "-wrong")
        self.post_message(self.Changed(reading.predicate))
        self._show_hint()

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_leave()

    def _show_hint(self) -> None:
        line = self.query_one("#query-hint", Static)
        if self._proposals:
            line.update(self._proposed())
        elif self._error is not None:
            line.update(self._pointed(self._error))
        line.display = bool(self._proposals or self._error)

    def _proposed(self) -> Text:
        text = Text("  tab ", no_wrap=True, overflow="ellipsis")
        for number, proposal in enumerate(self._proposals):
            text.append("   " if number else " ")
            text.append(safe(proposal.text), "bold" if number == 0 else "")
            text.append(f" {proposal.meaning}" if proposal.meaning else "", "dim")
        return text

    def _pointed(self, error: QueryError) -> Text:
        """Give carets below the place, and the sentence behind them, or before them at the far right."""
        words = safe(str(error))
        before = self._input.value[: error.start]
        start = MARK_CELLS + cell_len(before) - int(self._input.scroll_offset.x)
        carets = "^" * max(1, cell_len(self._input.value[error.start : error.end]))
        room = self.size.width - 2
        if start + len(carets) + 1 + len(words) <= room or start < room / 2:
            return Text(f"{' ' * max(0, start)}{carets} {words}", no_wrap=True, overflow="ellipsis")
        return Text(f"{cut(words, start - 1).rjust(start - 1)} {carets}", no_wrap=True, overflow="ellipsis")
