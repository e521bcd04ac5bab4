"""How the connection does, in words."""

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from qubix_tui.client import Connection, ConnectionState, Remedy
from qubix_tui.console.link_words import standing, trouble
from tests.console.records import NOW


def link(state: ConnectionState, **more: Any) -> Connection:
    """What the words are made from: the part of a connection that can be read."""
    known: dict[str, Any] = {
        "url": "ws://rack:3001",
        "state": state,
        "attempt": 0,
        "attempts_allowed": 10,
        "next_attempt_at": None,
        "last_error": None,
        "remedy": None,
        "hub_time": lambda: NOW,
    }
    return cast(Connection, SimpleNamespace(**{**known, **more}))


@pytest.mark.parametrize(
    ("attempt", "seconds", "says"),
    [
        (3, 4.2, "Attempt 3 of 10 in 4s (r: now)."),
        (11, 29.6, "10 attempts failed, it goes on every 30s, next in 30s (r: now)."),
        (11, None, "10 attempts failed, it goes on every 30s."),
        (3, None, "Attempt 3 of 10, under way."),
    ],
)
def test_a_lost_hub_is_said_with_what_comes_next(attempt: int, seconds: float | None, says: str) -> None:
    """What stopped, since when, how old what is shown is, and when it is tried again."""
    at = None if seconds is None else time.monotonic() + seconds
    lost = link(ConnectionState.RECONNECTING, attempt=attempt, next_attempt_at=at)
    sentence = trouble(lost, lost_at=time.monotonic() - 12.5, now=time.monotonic())
    assert sentence is not None
    assert sentence.startswith(
        "The hub at ws://rack:3001 stopped answering 12s ago; what you see is from then. "
    )
    assert sentence.endswith(says)


def test_a_hub_that_never_answered_is_not_said_to_have_stopped() -> None:
    """Why it can't be reached, and what comes next."""
    never = link(ConnectionState.RECONNECTING, attempt=1, last_error="nothing listens there")
    assert trouble(never, lost_at=None, now=time.monotonic()) == (
        "No hub at ws://rack:3001: nothing listens there. Attempt 1 of 10, under way."
    )


def test_a_refusal_is_said_with_what_to_do() -> None:
    """Nothing is tried again by itself: the reason, and the key."""
    refused = link(ConnectionState.DISCONNECTED, last_error="the hub does not know this token")
    assert trouble(refused, lost_at=None, now=time.monotonic()) == (
        "The hub does not know this token. Mend that, then press r to try again."
    )


@pytest.mark.parametrize(
    ("remedy", "says"),
    [
        (Remedy.CREDENTIAL, "another token (--token-file FILE, or QUBIX_TOKEN)"),
        (Remedy.UPDATE, "a newer version"),
    ],
)
def test_what_to_do_is_said_where_it_is_known(remedy: Remedy, says: str) -> None:
    """A token that was refused, a hub that is newer than this program; and the key that tries again."""
    refused = link(ConnectionState.DISCONNECTED, last_error="it is so", remedy=remedy)
    sentence = trouble(refused, lost_at=None, now=time.monotonic()) or ""
    assert sentence.startswith("It is so. ")
    assert says in sentence
    assert "r tries" in sentence


def test_words_from_the_hub_can_not_steer_the_terminal() -> None:
    """A reason that a hub gave is escaped like all text from outside."""
    evil = link(ConnectionState.DISCONNECTED, last_error="go\x1b[2Jaway")
    assert "\x1b" not in (trouble(evil, lost_at=None, now=time.monotonic()) or "")


@pytest.mark.parametrize(
    ("state", "newest", "lost_seconds", "words", "style"),
    [
        (ConnectionState.OPEN, None, None, "● live", "ok"),
        (ConnectionState.OPEN, NOW - 0.3, None, "● live 0.3s", "ok"),
        (ConnectionState.OPEN, NOW - 20, None, "● newest sample 20s old", "warn"),
        (ConnectionState.CONNECTING, None, None, "○ connecting", "label"),
        (ConnectionState.RECONNECTING, None, None, "○ no hub", "hot"),
        (ConnectionState.RECONNECTING, NOW, 4.1, "○ stale 4s", "hot"),
    ],
)
def test_the_header_never_calls_the_past_live(
    state: ConnectionState, newest: float | None, lost_seconds: float | None, words: str, style: str
) -> None:
    """Live with the age of the newest sample; else since when what is shown is of the past."""
    lost_at = None if lost_seconds is None else time.monotonic() - lost_seconds
    assert standing(link(state), newest, lost_at=lost_at, now=time.monotonic(), ascii_only=False) == (
        words,
        style,
    )
    plain = standing(link(state), newest, lost_at=lost_at, now=time.monotonic(), ascii_only=True).text
    assert plain == words.replace("●", "o").replace("○", "x")
