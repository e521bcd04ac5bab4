"""How the connection to the hub does, in words. No Textual in it."""

import time
from typing import NamedTuple

from qubix_tui.client import Connection, ConnectionState, Remedy
from qubix_tui.console.format import format_age, format_duration, safe

LATE_SECONDS = 5.0
"""A newest sample older than this is worth a word in the header."""


_REMEDIES = {
    Remedy.CREDENTIAL: (
        "Start the console with another token (--token-file FILE, or QUBIX_TOKEN); r tries this one again."
    ),
    Remedy.UPDATE: "Install a newer version, and start that; r tries again.",
    None: "Mend that, then press r to try again.",
}


class Words(NamedTuple):
    """A text and the style that says how that is."""

    text: str
    style: str


def standing(
    connection: Connection, newest: float | None, *, lost_at: float | None, now: float, ascii_only: bool
) -> Words:
    """Say in a few words whether what is on the screen is of now.

    Args:
        connection: To the hub.
        newest: Hub time of the newest sample of all, seconds since the epoch; None before there was one.
        lost_at: `time.monotonic` when the connection was lost; None while it is open, or if it never was.
        now: `time.monotonic` now.
        ascii_only: Whether glyphs beyond ASCII are to be avoided.
    """
    live, gone = ("o", "x") if ascii_only else ("●", "○")
    match connection.state:
        case ConnectionState.OPEN:
            if newest is None:
                return Words(f"{live} live", "ok")
            age = connection.hub_time() - newest
            if age > LATE_SECONDS:
                return Words(f"{live} newest sample {format_age(age)} old", "warn")
            return Words(f"{live} live {format_age(age):>4}", "ok")
        case ConnectionState.CONNECTING:
            return Words(f"{gone} connecting", "label")
        case _:
            if lost_at is None:
                return Words(f"{gone} no hub", "hot")
            return Words(f"{gone} stale {format_age(now - lost_at)}", "hot")


def store_away(since: float | None, now: float) -> tuple[str, ...]:
    """Say that the hub's store is away, in fewer and fewer words; nothing while it is there.

    Args:
        since: Hub time, seconds since the epoch; None while it is there.
        now: Hub time now.
    """
    if since is None:
        return ()
    at, age = time.strftime("%H:%M:%S", time.localtime(since)), format_duration(now - since)
    return (
        f"the hub's store is away since {at} ({age}): changes are refused, live values go on",
        f"store away since {at}: changes are refused",
        f"store away {age}: changes refused",
        f"store away {age}",
    )


def trouble(connection: Connection, *, lost_at: float | None, now: float) -> str | None:
    """Say as a sentence what is wrong with the connection and what happens next; None while it is open."""
    url, why = safe(connection.url), safe(connection.last_error or "")
    match connection.state:
        case ConnectionState.OPEN:
            return None
        case ConnectionState.CONNECTING:
            return f"Connecting to {url}."
        case ConnectionState.RECONNECTING if lost_at is not None:
            age = format_duration(now - lost_at)
            past = f"The hub at {url} stopped answering {age} ago; what you see is from then."
            return f"{past} {_next(connection, now)}"
        case ConnectionState.RECONNECTING:
            return f"No hub at {url}{f': {why}' if why else ''}. {_next(connection, now)}"
        case ConnectionState.DISCONNECTED:
            return f"{why[:1].upper()}{why[1:]}. {_REMEDIES[connection.remedy]}"
        case _:
            return f"Leaving {url}."


def _next(connection: Connection, now: float) -> str:
    """Say when the next attempt is."""
    allowed, attempt, at = connection.attempts_allowed, connection.attempt, connection.next_attempt_at
    wait = None if at is None else f"{max(0.0, at - now):.0f}s (r: now)"
    if allowed is not None and attempt > allowed:
        spent = f"{allowed} attempts failed, it goes on every 30s"
        return f"{spent}." if wait is None else f"{spent}, next in {wait}."
    count = f"Attempt {attempt}" if allowed is None else f"Attempt {attempt} of {allowed}"
    return f"{count}, under way." if wait is None else f"{count} in {wait}."
