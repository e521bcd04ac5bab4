"""What could be typed next in a query. No Textual in it."""

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from qubix_tui.console.query_syntax import Vocabulary

MOST: Final = 12
"""Proposals for one place: more are not looked through."""

_AT_CURSOR: Final = re.compile(
    r'(?:(?<=[\s(])|^|(?<=-))(?:(?P<field>[A-Za-z_]+):)?(?P<begun>[^\s()":<>=-]*)\Z'
)


class Proposal(NamedTuple):
    """One way to go on."""

    text: str
    """What to put in."""
    start: int
    """In place of what stands from here to the cursor."""
    meaning: str
    """What that is; empty where it says so itself."""


def proposals(
    text: str, cursor: int, vocabulary: Vocabulary, values: Callable[[str], Sequence[str]]
) -> list[Proposal]:
    """Give ways to go on at the cursor: fields whose name begins so, or values of the field that is there.

    Args:
        text: The query so far.
        cursor: Where in it something is typed.
        vocabulary: The fields.
        values: Gives what a text field can be.
    """
    found = _AT_CURSOR.search(text[:cursor])
    if found is None:
        return []
    begun, start = found["begun"].lower(), found.start("begun")
    if found["field"] is None:
        return [
            Proposal(f"{name}>" if kind.is_number else f"{name}:", start, kind.meaning)
            for name, kind in vocabulary.items()
            if begun and name.startswith(begun)
        ][:MOST]
    field = found["field"].lower()
    kind = vocabulary.get(field)
    if kind is None or kind.is_number:
        return []
    matching = [value for value in values(field) if begun in value and value != begun]
    # What begins so is likelier to be meant than what has it somewhere.
    matching.sort(key=lambda value: not value.startswith(begun))
    return [Proposal(_quoted(value), start, "") for value in matching[:MOST]]


def _quoted(value: str) -> str:
    return f'"{value}"' if re.search(r"[\s()]", value) else value
