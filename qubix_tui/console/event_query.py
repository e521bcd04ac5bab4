"""What the list of events shows: ``kind:job provider:rig-4 lost -simulated``. No Textual in it.

Terms are separated by spaces, and all must hold. A word is looked for in the text; ``kind:``, ``provider:``
and ``job:`` look in one of these. A ``-`` before a term turns it round.
"""

import re
from collections.abc import Callable
from typing import Final

from qubix_tui.console.event_log import Entry, Kind

Chosen = Callable[[Entry], bool]
"""Whether an entry is shown."""

_TERM: Final = re.compile(r"(?P<minus>-?)(?:(?P<key>[a-z]+):)?(?P<value>.*)\Z", re.DOTALL)

_LOOKS: Final[dict[str, Callable[[Entry], str]]] = {
    "kind": lambda entry: entry.kind.value,
    "provider": lambda entry: f"{entry.provider_id or ''} {entry.name}",
    "job": lambda entry: entry.job_id or "",
}

KEYS: Final = tuple(_LOOKS)


class EventQueryError(ValueError):
    """A filter that can't be understood; the message says what would be right."""


def parse(text: str) -> Chosen | None:
    """Give what decides whether an entry is shown; None where all are.

    Raises:
        EventQueryError: A term can't be understood.
    """
    terms = [_term(term) for term in text.lower().split()]
    if not terms:
        return None
    return lambda entry: all(term(entry) for term in terms)


def parse_what_is_right(text: str) -> tuple[Chosen | None, EventQueryError | None]:
    """Give what the good terms of a filter decide, and what is wrong with the first of the others."""
    good, fault = [], None
    for term in text.split():
        try:
            parse(term)
        except EventQueryError as error:
            fault = fault or error
        else:
            good.append(term)
    return parse(" ".join(good)), fault


def _term(term: str) -> Chosen:
    match = _TERM.match(term)
    assert match is not None
    key, value = match["key"], match["value"]
    if key is None:
        if not value:
            raise EventQueryError("- needs a word to leave out")
        look: Callable[[Entry], str] = _text_of
    elif key in _LOOKS:
        look = _LOOKS[key]
        if not value:
            raise EventQueryError(f"{key}: needs a word")
        if key == "kind" and not any(value in kind for kind in Kind):
            raise EventQueryError(f"no kind {value}: there are {', '.join(Kind)}")
    else:
        raise EventQueryError(f"no {key}: there are {', '.join(KEYS)}")
    if match["minus"]:
        return lambda entry: value not in look(entry).lower()
    return lambda entry: value in look(entry).lower()


def _text_of(entry: Entry) -> str:
    return entry.text
