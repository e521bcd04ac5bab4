"""Places in a workload's arguments and environment that a job's parameters fill.

``{name}`` is such a place; ``{{`` and ``}}`` stand for the braces themselves. What fills a place stays inside
the one argument or value that the place is in: nothing is split, joined, or read by a shell.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from qubix_tui.protocol.params import param_text

_PIECE: Final = re.compile(r"\{\{|\}\}|\{([A-Za-z0-9._-]{1,64})\}|[{}]")


class PlaceholderError(ValueError):
    """A brace stands where it says nothing; the message says which."""


def names(text: str) -> list[str]:
    """Give the parameters that a text has places for, in the order of the text.

    Raises:
        PlaceholderError: A brace is none of a place, and not doubled.
    """
    return [name for _, name in _pieces(text) if name is not None]


def fill(text: str, params: Mapping[str, str | float | bool]) -> str:
    """Put parameters into their places, once: what a parameter holds is never looked at for places.

    Args:
        text: With places for parameters that are all given.
        params: Checked parameters.
    """
    return "".join(piece if name is None else param_text(params[name]) for piece, name in _pieces(text))


def _pieces(text: str) -> Iterator[tuple[str, str | None]]:
    """Give the text in pieces: as they stand, or with the name of the parameter that takes their place."""
    end = 0
    for found in _PIECE.finditer(text):
        yield text[end : found.start()], None
        end = found.end()
        mark = found[0]
        if found[1] is not None:
            yield mark, found[1]
        elif len(mark) == 2:
            yield mark[0], None
        else:
            raise PlaceholderError(
                f"a single {mark} is no place for a parameter: {{name}} is one, {mark}{mark} the brace itself"
            )
    yield text[end:], None
