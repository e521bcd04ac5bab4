"""What msgspec finds wrong, in the words of the contract: which member, and what was expected there."""

import re
from typing import Any, Final

import msgspec
from msgspec import inspect

from qubix_tui.protocol.checks import INTEGER_WORDS, printable
from qubix_tui.protocol.errors import ErrorCode, ProtocolError
from qubix_tui.protocol.types import ID_PATTERN, LINE_PATTERN, MAX_SAFE_INTEGER, TIMESTAMP_PATTERN

_AT_PATH: Final = re.compile(r"(?P<what>.*) - at `\$(?P<path>[^`]*)`", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `([^`]+)`")
_QUOTED: Final = re.compile(r"`([a-z| ]+)`")
_STEP: Final = re.compile(r"\.([^.\[]+)|\[")
_PATTERN_WORDS: Final = {
    ID_PATTERN: "expected an id: 1 to 64 of A-Z a-z 0-9 . _ -",
    LINE_PATTERN: "expected one line without control or bidirectional characters",
    TIMESTAMP_PATTERN: "expected an RFC 3339 time in UTC, such as 2026-01-31T12:00:00.000Z",
}
_INTEGER_COMPLAINTS: Final = (
    f"Expected `int` <= {MAX_SAFE_INTEGER}",
    f"Expected `int` >= -{MAX_SAFE_INTEGER}",
    "Integer value out of range",
)
_TYPE_WORDS: Final = {
    "int": "an integer",
    "float": "a number",
    "str": "a string",
    "bool": "true or false",
    "null": "null",
    "array": "an array",
    "object": "an object",
}


def refusal(error: msgspec.ValidationError, form: object, path: str) -> ProtocolError:
    """Say msgspec's complaint in the words of the contract.

    Args:
        error: The complaint.
        form: The type that was expected.
        path: Where in the message it was expected; empty for all of it.
    """
    text = str(error)
    match = _AT_PATH.fullmatch(text)
    what, inner = (match["what"], match["path"]) if match else (text, "")
    field = (path + inner.replace("[...]", "[]")).lstrip(".")
    missing = _MISSING.fullmatch(what)
    if missing:
        name = missing[1]
        return ProtocolError(
            ErrorCode.INVALID, f"{name} is missing", field=f"{field}.{name}" if field else name
        )
    return ProtocolError(ErrorCode.INVALID, _in_words(what, form, inner, field), field=field or None)


def _in_words(what: str, form: object, inner: str, field: str) -> str:
    for pattern, words in _PATTERN_WORDS.items():
        if repr(pattern) in what:
            return words
    if what in _INTEGER_COMPLAINTS:
        return INTEGER_WORDS
    if what.startswith("Invalid enum value"):
        return f"expected one of {', '.join(_choices(form, inner))}"
    if not field and what.startswith("Expected `object`"):
        return "expected a JSON object with a member type"
    return printable(what[0].lower() + _QUOTED.sub(_type_words, what[1:]))


def _type_words(quoted: re.Match[str]) -> str:
    """``int | float | null`` → ``a number or null``."""
    names = quoted[1].split(" | ")
    if "float" in names and "int" in names:
        names.remove("int")
    words = [_TYPE_WORDS.get(name, name) for name in names]
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _choices(form: object, inner: str) -> list[str]:
    """The values that the member at a path may have: one of an enumeration, or of literals."""
    found = [inspect.type_info(form)]
    for step in _STEP.finditer(inner):
        found = [after for kind in found for after in _step(kind, step[1])]
    return [str(value) for kind in _plain(found) for value in _values(kind)]


def _step(kind: inspect.Type, name: str | None) -> list[inspect.Type]:
    """Where one step of a path leads: into a member, or into the items of an array."""
    after: list[inspect.Type] = []
    for plain in _plain([kind]):
        if isinstance(plain, inspect.StructType):
            after += [field.type for field in plain.fields if field.encode_name == name]
        elif isinstance(plain, inspect.ListType):
            after.append(plain.item_type)
    return after


def _plain(kinds: list[inspect.Type]) -> list[inspect.Type]:
    """The types themselves: unions taken apart."""
    plain: list[inspect.Type] = []
    for kind in kinds:
        if isinstance(kind, inspect.UnionType):
            plain += _plain(list(kind.types))
        else:
            plain.append(kind)
    return plain


def _values(kind: inspect.Type) -> list[Any]:
    if isinstance(kind, inspect.EnumType):
        return [member.value for member in kind.cls]
    return list(kind.values) if isinstance(kind, inspect.LiteralType) else []
