"""Saved views: queries by name, to show again with two keys."""

from typing import TYPE_CHECKING, ClassVar, cast

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from qubix_tui.console.format import safe
from qubix_tui.console.screens.ask import AskScreen

if TYPE_CHECKING:
    from qubix_tui.console.app import QubixApp

LONGEST_NAME = 40

EMPTY = "Nothing is saved yet. Filter the table with / and save that here, with a."


class SavedViewsScreen(ModalScreen[str | None]):
    """Lists the saved views; gives the query of the one chosen, None where none was.

    Args:
        query: What the table is asked for now: what can be saved.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "save", "save the filter", id="views.save", tooltip="Save the filter that holds now"),
        Binding("r", "rename", "rename", id="views.rename", tooltip="Give a view another name"),
        Binding("d", "delete", "delete", id="views.delete", tooltip="Delete a view"),
        Binding("escape,v", "dismiss(None)", "close", id="views.close", tooltip="Close this"),
    ]

    def __init__(self, query: str) -> None:
        super().__init__()
        self._query = query

    @property
    def _app(self) -> "QubixApp":
        return cast("QubixApp", self.app)

    @property
    def _list(self) -> OptionList:
        return self.query_one(OptionList)

    def compose(self) -> ComposeResult:
        """Put the screen together."""
        with Vertical(classes="dialog"):
            yield Static("Saved views", classes="title", markup=False)
            yield OptionList(compact=True)
            yield Static("enter show · a save the filter · r rename · d delete", classes="note", markup=False)

    def on_mount(self) -> None:
        """List what there is."""
        self._fill()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Offer to save only where there is a filter, to change only what is there."""
        match action:
            case "save":
                return bool(self._query)
            case "rename" | "delete":
                return bool(self._app.store.views)
            case _:
                return True

    def action_save(self) -> None:
        """Ask for a name, and save the filter under it."""

        def named(name: str | None) -> None:
            if name is not None:
                self._keep(name, self._query)

        self.app.push_screen(AskScreen(f"Save {safe(self._query)} as", wrong=self._wrong), named)

    def action_rename(self) -> None:
        """Ask for another name."""
        chosen = self._chosen()
        if chosen is None or not self._is_own(chosen):
            return
        query = self._app.store.views[chosen]

        def named(name: str | None) -> None:
            if name is not None and name != chosen:
                self._forget(chosen)
                self._keep(name, query)

        self.app.push_screen(AskScreen(f"Rename {safe(chosen)} to", chosen, wrong=self._wrong), named)

    def action_delete(self) -> None:
        """Forget the selected view."""
        chosen = self._chosen()
        if chosen is not None and self._is_own(chosen):
            self._forget(chosen)
            self._fill()

    @on(OptionList.OptionSelected)
    def _selected(self) -> None:
        chosen = self._chosen()
        if chosen is not None:
            self.dismiss(self._app.store.views[chosen])

    def _wrong(self, name: str) -> str | None:
        if len(name) > LONGEST_NAME:
            return f"A name has at most {LONGEST_NAME} characters."
        return None

    def _is_own(self, name: str) -> bool:
        if self._app.store.is_own_view(name):
            return True
        self.notify(f"{safe(name)} is set in console.toml: change it there.", markup=False)
        return False

    def _keep(self, name: str, query: str) -> None:
        try:
            self._app.store.save_view(name, query)
        except OSError as error:
            self.notify(f"It is there until you leave: it can't be kept ({error.strerror}).", markup=False)
        self._fill(name)

    def _forget(self, name: str) -> None:
        try:
            self._app.store.remove_view(name)
        except OSError as error:
            self.notify(f"It is gone until you leave: that can't be kept ({error.strerror}).", markup=False)

    def _chosen(self) -> str | None:
        names = list(self._app.store.views)
        place = self._list.highlighted
        return names[place] if place is not None and place < len(names) else None

    def _fill(self, chosen: str = "") -> None:
        views = self._app.store.views
        width = max((len(name) for name in views), default=0)
        self._list.clear_options()
        for name, query in views.items():
            self._list.add_option(Option(Text.assemble((f"{safe(name):<{width}}  ", "bold"), safe(query))))
        if not views:
            self._list.add_option(Option(Text(EMPTY), disabled=True))
        else:
            self._list.highlighted = list(views).index(chosen) if chosen in views else 0
        self.refresh_bindings()
