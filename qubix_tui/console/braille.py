"""Columns of numbers as lines of text: two columns to a cell in braille, one in ASCII. No Textual in it."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

DOTS: Final = 4
"""Rows of dots in a cell."""

_LEFT: Final = (0x00, 0x40, 0x44, 0x46, 0x47)
_RIGHT: Final = (0x00, 0x80, 0xA0, 0xB0, 0xB8)
_CELLS: Final = tuple(
    tuple(chr(0x2800 + left + right) if left + right else " " for right in _RIGHT) for left in _LEFT
)
"""By the number of dots, from the bottom, at the left and at the right."""

FULL_CELL: Final = _CELLS[DOTS][DOTS]

_ASCII: Final = " .:#"
ASCII_LEVELS: Final = len(_ASCII) - 1
ASCII_FULL_CELL: Final = _ASCII[-1]


def braille_rows(columns: Sequence[float | None], height: int, top: float) -> list[str]:
    """Draw filled columns, lines of text from the top down.

    Args:
        columns: Values from the left, an even number; None is left blank. Whatever is known shows at least
            the lowest dot, so that 0 and unknown differ.
        height: Lines.
        top: The value that fills a column; what is higher is cut there.

    Returns:
        ``height`` strings with one character for each two columns.
    """
    levels = _levels(columns, height * DOTS, top)
    cells = [
        _braille_cells(left, right, height) for left, right in zip(levels[::2], levels[1::2], strict=True)
    ]
    return ["".join(row) for row in zip(*cells, strict=True)]


def ascii_rows(columns: Sequence[float | None], height: int, top: float) -> list[str]:
    """Draw as `braille_rows` does, in ``.:#``: the higher of each two columns, in thirds of a line."""
    levels = _levels(columns, height * ASCII_LEVELS, top)
    cells = [_ascii_cells(max(pair), height) for pair in zip(levels[::2], levels[1::2], strict=True)]
    return ["".join(row) for row in zip(*cells, strict=True)]


@lru_cache(maxsize=16384)
def _braille_cells(left: int, right: int, height: int) -> str:
    """Give the cells of two columns from the top down, each filled to a level of dots."""
    return "".join(
        _CELLS[min(max(left - base, 0), DOTS)][min(max(right - base, 0), DOTS)]
        for base in range((height - 1) * DOTS, -1, -DOTS)
    )


@lru_cache(maxsize=1024)
def _ascii_cells(level: int, height: int) -> str:
    return "".join(
        _ASCII[min(max(level - base, 0), ASCII_LEVELS)]
        for base in range((height - 1) * ASCII_LEVELS, -1, -ASCII_LEVELS)
    )


def nice_ceiling(value: float) -> float:
    """Give the smallest of … 0.5, 1, 2, 5, 10, 20 … that is not below ``value``; 1 where that is 0."""
    if value <= 0:
        return 1.0
    power = 1.0
    while power < value:
        power *= 10
    while power / 10 >= value:
        power /= 10
    for part in (0.2, 0.5):
        if power * part >= value:
            return power * part
    return power


def _levels(columns: Sequence[float | None], dots: int, top: float) -> list[int]:
    scale = dots / top
    return [0 if value is None else max(1, min(dots, round(value * scale))) for value in columns]
