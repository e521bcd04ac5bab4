"""What can be done with the providers that are selected."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qubix_tui.client import ClientError
from qubix_tui.console.fleet import Row
from qubix_tui.console.format import safe
from qubix_tui.console.screens.pick import Choice, PickScreen
from qubix_tui.protocol.records import ProviderState
from qubix_tui.protocol.requests import ProviderRef

if TYPE_CHECKING:
    from qubix_tui.console.app import QubixApp


def listed(rows: Sequence[Row]) -> str:
    """Name some providers: all of a few, or the first and how many more."""
    names = [safe(row.name) for row in rows]
    return ", ".join(names) if len(names) <= 3 else f"{names[0]}, {names[1]} and {len(names) - 2} more"


def removable(rows: Sequence[Row]) -> list[Row]:
    """Give those that a hub lets go: the ones that are offline."""
    return [row for row in rows if row.record.state is ProviderState.OFFLINE]


def ask_to_remove(app: "QubixApp", rows: Sequence[Row]) -> None:
    """Ask whether the offline ones of some providers are to be forgotten by the hub; then have it done."""
    gone = removable(rows)
    if not gone:
        app.notify(
            f"{listed(rows)}: only an offline provider can be removed. Stop its agent first."
            if rows
            else "Nothing is selected to remove.",
            markup=False,
        )
        return
    others = f" The other {len(rows) - len(gone)} are not offline and stay." if len(gone) < len(rows) else ""
    question = f"Remove {listed(gone)} from the hub?"
    note = f"Should its agent start again, it registers anew.{others}"
    choices = [Choice("n", "no, keep", False), Choice("y", f"yes, remove {len(gone)}", True)]

    def answered(yes: bool | None) -> None:
        if yes:
            app.run_worker(_remove(app, gone), exit_on_error=False)

    app.push_screen(PickScreen(question, choices, note=note), answered)


async def _remove(app: "QubixApp", rows: Sequence[Row]) -> None:
    removed = []
    for row in rows:
        try:
            await app.connection.request("provider:remove", ProviderRef(provider_id=row.record.id))
        except ClientError as error:
            app.notify(f"{safe(row.name)} stays: {safe(str(error))}.", severity="warning", markup=False)
        else:
            removed.append(row)
    if removed:
        app.notify(f"Removed {listed(removed)}.", markup=False)
