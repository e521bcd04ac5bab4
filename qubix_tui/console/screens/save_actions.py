"""What can be taken along from a screen: a text in the clipboard, a picture or a table in a file."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qubix_tui.console.format import safe
from qubix_tui.console.saving import Table, save_text, to_csv, to_json
from qubix_tui.console.screens.pick import Choice, PickScreen

if TYPE_CHECKING:
    from qubix_tui.console.app import QubixApp

SAVED_SECONDS: Final = 12.0
"""How long it stands there where something was saved."""


def copy(app: "QubixApp", text: str) -> None:
    """Put a text into the clipboard, as far as the terminal lets us, and into a file; say so."""
    app.copy_to_clipboard(text)
    lines = text.splitlines() or [""]
    shown = lines[0] if len(lines) == 1 else f"{lines[0]} and {len(lines) - 1} lines more"
    kept = ""
    if app.options.directory is not None:
        path = app.options.directory / "clipboard.txt"
        with suppress(OSError):
            path.write_text(f"{text}\n", encoding="utf-8")
            kept = f" Should your terminal not allow that: {path}"
    app.notify(f"{safe(shown)} is in the clipboard.{safe(kept)}", markup=False)


def ask_to_save(app: "QubixApp", table: Table | None) -> None:
    """Ask in which form to save what is shown, then do it and say where it is."""
    choices = [Choice("p", "picture (SVG)", partial(_save_picture, app))]
    if table is not None:
        count = f"{len(table.rows)} rows"
        choices += [
            Choice("c", f"table, {count} (CSV)", partial(_save_table, app, table, ".csv", to_csv)),
            Choice("j", f"table, {count} (JSON)", partial(_save_table, app, table, ".json", to_json)),
        ]

    def chosen(do: Callable[[], None] | None) -> None:
        if do is not None:
            # The picture is to be of the screen, not of the question.
            app.call_after_refresh(do)

    app.push_screen(PickScreen("Save as", choices), chosen)


def _save_picture(app: "QubixApp") -> None:
    _save(app, "screen", ".svg", app.export_screenshot(title=app.TITLE))


def _save_table(app: "QubixApp", table: Table, suffix: str, write: Callable[[Table], str]) -> None:
    _save(app, table.name, suffix, write(table))


def _save(app: "QubixApp", name: str, suffix: str, text: str) -> None:
    places = [Path.cwd()] + ([app.options.directory] if app.options.directory is not None else [])
    try:
        path = save_text(name, suffix, text, places)
    except OSError as error:
        why = f"can't be saved in {places[0]}: {error.strerror or error}"
        app.notify(f"This {why}. Start the console in a directory that you may write.", markup=False)
    else:
        app.notify(f"Saved as {safe(str(path))}", timeout=SAVED_SECONDS, markup=False)
