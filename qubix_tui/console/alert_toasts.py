"""How alerts are told: in a corner, by one flash of the first and the last line, by the bell where asked."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from qubix_tui.console.alerts import Alert

if TYPE_CHECKING:
    from qubix_tui.console.app import QubixApp

SHOWN_SECONDS: Final = 12.0
FLASH_SECONDS: Final = 0.8

MOST_TOASTS: Final = 3
"""Alerts that come together and are told one by one; of more than these the last, and how many."""


def announce(app: "QubixApp", alerts: Sequence[Alert]) -> None:
    """Tell of alerts that came together, wherever one is in the console."""
    if not alerts or not app.screen_stack:  # told already, or the console ends
        return
    shown = alerts if len(alerts) <= MOST_TOASTS else alerts[-1:]
    more = len(alerts) - len(shown)
    others = f"\nand {more} more alerts; a lists them" if more else ""
    for alert in shown:
        app.notify(
            f"{alert.rule}: {alert.text}{others}",
            severity="error" if alert.style == "hot" else "warning",
            timeout=SHOWN_SECONDS,
            markup=False,
        )
    if any(alert.rings for alert in alerts):
        app.bell()
    screen = app.screen
    screen.add_class("-alert")
    app.set_timer(FLASH_SECONDS, lambda: screen.remove_class("-alert"))
