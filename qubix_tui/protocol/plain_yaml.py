"""Writes plain JSON values as readable YAML: block style, quotes only where YAML needs them.

Only what ``docs/asyncapi.yaml`` needs, so that nothing has to be installed to make it.
"""

import json
import re
import textwrap
from collections.abc import Iterator
from typing import Final

WIDTH: Final = 100

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]

_UNQUOTED: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$./ ()-]*(?<! )\Z")
_WORDS_WITH_A_MEANING: Final = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})


def write_yaml(document: dict[str, Plain]) -> str:
    """Write a JSON object as a YAML document, members in their order."""
    return "\n".join(_object_lines(document)) + "\n"


def _object_lines(value: dict[str, Plain]) -> Iterator[str]:
    for name, member in value.items():
        yield from _attach(f"{_scalar(name)}:", member)


def _attach(opening: str, value: Plain) -> Iterator[str]:
    """Give the lines of a member or item whose first line begins with ``opening``."""
    on_one_line = _one_line(value, WIDTH - len(opening))
    if on_one_line is not None:
        yield f"{opening} {on_one_line}"
    elif isinstance(value, str):
        yield from _text_block(opening, value)
    elif isinstance(value, dict):
        yield opening
        yield from (f"  {line}" for line in _object_lines(value))
    else:
        assert isinstance(value, list)
        yield opening
        for item in value:
            yield from (f"  {line}" for line in _item_lines(item))


def _item_lines(item: Plain) -> Iterator[str]:
    if isinstance(item, dict) and item:
        first, *rest = _object_lines(item)
        yield f"- {first}"
        yield from (f"  {line}" for line in rest)
    else:
        yield from _attach("-", item)


def _text_block(opening: str, text: str) -> Iterator[str]:
    if "\n" in text:
        yield f"{opening} |-"
        yield from (f"  {line}" if line else "" for line in text.split("\n"))
        return
    yield f"{opening} >-"
    for line in textwrap.wrap(text, WIDTH - 2, break_long_words=False, break_on_hyphens=False):
        yield f"  {line}"


def _one_line(value: Plain, room: int) -> str | None:
    """Write ``value`` on one line, or None where it would not fit or not read well."""
    if isinstance(value, dict):
        return None if value else "{}"
    if isinstance(value, list):
        if any(isinstance(item, dict | list) for item in value):
            return None
        line = f"[{', '.join(map(_scalar, value))}]"
        return line if len(line) <= room or not value else None
    if isinstance(value, str) and _is_block(value, room):
        return None
    return _scalar(value)


def _is_block(text: str, room: int) -> bool:
    """Whether a block shows ``text`` better than quotes, and gives it back exactly."""
    if not text.replace("\n", "").isprintable():
        return False
    lines = text.split("\n")
    if any(line != line.strip(" ") or "  " in line for line in lines) or not (lines[0] and lines[-1]):
        return False
    return len(lines) > 1 or (len(text) > room and " " in text)


def _scalar(value: Plain) -> str:
    if isinstance(value, float):
        text = json.dumps(value)
        # YAML 1.1 takes 1e-07 for a string, 1.0e-07 for a number.
        return text if "." in text else text.replace("e", ".0e")
    if not isinstance(value, str):
        return json.dumps(value)
    if _UNQUOTED.match(value) and value.lower() not in _WORDS_WITH_A_MEANING:
        return value
    if "\\" in value and value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    return "".join(
        # YAML, unlike JSON, has one escape for characters beyond the first 65,536.
        character if character.isprintable() else f"\\U{ord(character):08x}"
        for character in json.dumps(value, ensure_ascii=False)
    )
