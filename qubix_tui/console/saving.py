"""What is saved of a screen: a table as CSV or JSON, a picture, and where. No Textual in it."""

import csv
import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

Value = str | float | bool | None
"""A cell; None is unknown."""


class Table(NamedTuple):
    """Rows of plain values, as a screen shows them, but whole."""

    name: str
    """What it is of: the first part of the file's name."""
    columns: Sequence[str]
    """Names for machines, with units: ``price_per_hour``, ``temp_c``."""
    rows: Sequence[Sequence[Value]]


def to_csv(table: Table) -> str:
    """Write as CSV (RFC 4180 with a line of names); unknown is empty.

    A text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(table.columns)
    writer.writerows([_harmless(value) for value in row] for row in table.rows)
    return text.getvalue()


def to_json(table: Table) -> str:
    """Write as a JSON array with an object for each row; unknown is ``null``."""
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    return msgspec.json.format(msgspec.json.encode(rows), indent=2).decode() + "\n"


def save_text(name: str, suffix: str, text: str, places: Sequence[Path]) -> Path:
    """Write a file that did not exist before, named after the time, in the first place that allows it.

    Args:
        name: First part of its name.
        suffix: Last part, with the dot.
        text: What it holds.
        places: Directories, the best first.

    Returns:
        Where it is.

    Raises:
        OSError: No place allows it; the error is the last one's.
    """
    stem = f"qubix-{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    failure = OSError("there is no place to save to")
    for place in places:
        for number in range(100):
            path = place / f"{stem}{f'-{number}' if number else ''}{suffix}"
            try:
                with path.open("x", encoding="utf-8", newline="") as file:
                    file.write(text)
            except FileExistsError as error:
                failure = error
            except OSError as error:
                failure = error
                break
            else:
                return path
    raise failure


def _harmless(value: Value) -> Value:
    is_formula = isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"}
    return f"'{value}" if is_formula else value
