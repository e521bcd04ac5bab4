"""A job's parameters, checked against what the owner of the workload declared.

The hub checks before it gives a job to a provider, and the provider's agent checks again before it runs
anything: what fills a place in somebody's command line is never trusted. Both call `check_params`.
"""

import math
import re
import warnings
from typing import Any, Final

from qubix_tui.protocol.checks import printable
from qubix_tui.protocol.errors import ErrorCode, ProtocolError
from qubix_tui.protocol.records import Workload, WorkloadParam
from qubix_tui.protocol.types import MAX_SAFE_INTEGER, JsonObject

MAX_PARAM_BYTES: Final = 4 * 1024
"""A parameter as text, in UTF-8."""

_SHOWN_CHARACTERS: Final = 40
_QUANTIFIERS: Final = "*+?{"
_CHEAP_QUANTIFIERS: Final = 2
_SAYS_DASH: Final = re.compile(r"\^?\\?-")
_TYPE_WORDS: Final = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}


def check_params(workload: Workload, params: JsonObject, *, foreign_patterns: bool = False) -> JsonObject:
    """Check a job's parameters, and add the defaults of those that it does not give.

    A text may not begin with ``-``, and a number may not be negative, unless the declaration says so: by a
    pattern that itself begins with ``-``, by a choice, or by a negative ``min``. Else a parameter could be
    read as an option of the program.

    Args:
        workload: The declaration.
        params: What the job gives.
        foreign_patterns: The patterns were written by somebody else, who could choose one that takes hours to
            match: those that might are passed over, for the other side to check.

    Returns:
        A value for each declared parameter, in the order of the declaration.

    Raises:
        ProtocolError: ``invalid``; the message says which parameter is wrong and what was expected.
    """
    declared = [param.name for param in workload.params]
    for name in params:
        if name not in declared:
            raise _refusal(
                name, f"{workload.name} has no parameter {printable(name, 64)}; it has {_listed(declared)}"
            )
    return {
        param.name: _checked(param, params.get(param.name, param.default), foreign_patterns)
        for param in workload.params
    }


def param_text(value: str | float | bool) -> str:
    """Give the text that a checked parameter puts into an argument or an environment value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _checked(param: WorkloadParam, value: Any, foreign_pattern: bool) -> str | float | bool:  # noqa: ANN401
    if value is None:
        raise _refusal(param.name, f"the parameter {param.name} is missing: give {_TYPE_WORDS[param.type]}")
    if not _has_type(param.type, value):
        raise _refusal(param.name, f"{param.name}: expected {_TYPE_WORDS[param.type]}, not {_shown(value)}")
    checked: str | float | bool = value
    if len(param_text(checked).encode(errors="replace")) > MAX_PARAM_BYTES:
        raise _refusal(param.name, f"{param.name}: a parameter has at most {MAX_PARAM_BYTES} bytes")
    if param.choices is not None and not any(_same(checked, choice) for choice in param.choices):
        choices = _listed([_shown(choice) for choice in param.choices])
        raise _refusal(param.name, f"{param.name}: expected one of {choices}, not {_shown(checked)}")
    if isinstance(checked, str):
        _check_text(param, checked, foreign_pattern)
    elif not isinstance(checked, bool):
        _check_number(param, checked)
    return checked


def _has_type(kind: str, value: object) -> bool:
    if kind == "string":
        return isinstance(value, str)
    if kind == "boolean":
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return abs(value) <= MAX_SAFE_INTEGER
    return kind == "number" and isinstance(value, float) and math.isfinite(value)


def _check_number(param: WorkloadParam, value: float) -> None:
    if param.min is not None and value < param.min:
        raise _refusal(param.name, f"{param.name}: expected at least {param.min:.15g}, not {_shown(value)}")
    if param.max is not None and value > param.max:
        raise _refusal(param.name, f"{param.name}: expected at most {param.max:.15g}, not {_shown(value)}")
    if param_text(value).startswith("-") and param.min is None and param.choices is None:
        raise _refusal(
            param.name, f"{param.name}: a negative number is taken only where the declaration has a min"
        )


def _check_text(param: WorkloadParam, text: str, foreign_pattern: bool) -> None:
    if "\0" in text:
        raise _refusal(param.name, f"{param.name}: a parameter can't hold the character NUL")
    if not _encodable(text):
        raise _refusal(param.name, f"{param.name}: half of a surrogate pair is no character")
    pattern = param.pattern
    says_dash = pattern is not None and _SAYS_DASH.match(pattern) is not None
    if text.startswith("-") and param.choices is None and not says_dash:
        raise _refusal(
            param.name,
            f"{param.name}: a parameter can't begin with “-”, unless its pattern does too",
        )
    if pattern is None or (foreign_pattern and not _is_cheap(pattern)):
        return
    if not _matches(param, pattern, text):
        raise _refusal(
            param.name, f"{param.name}: {_shown(text)} does not match the pattern {printable(pattern, 200)}"
        )


def _matches(param: WorkloadParam, pattern: str, text: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        raise _refusal(
            param.name,
            f"{param.name}: its pattern is no regular expression; the provider has to mend it",
        ) from None
    return compiled.fullmatch(text) is not None


def _is_cheap(pattern: str) -> bool:
    """Whether no text can make a pattern take long: nothing is repeated that repeats, and little at all."""
    return "(" not in pattern and sum(pattern.count(mark) for mark in _QUANTIFIERS) <= _CHEAP_QUANTIFIERS


def _same(value: str | float | bool, choice: object) -> bool:
    return isinstance(value, bool) is isinstance(choice, bool) and value == choice


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return param_text(value)
    if isinstance(value, (int, float)):
        return str(value)[:_SHOWN_CHARACTERS]
    if isinstance(value, str):
        more = "…" if len(value) > _SHOWN_CHARACTERS else ""
        return f"“{printable(value, _SHOWN_CHARACTERS)}{more}”"
    return "null" if value is None else "a list or an object"


def _listed(names: list[str]) -> str:
    return printable(", ".join(names), 400) if names else "none"


def _refusal(name: str, message: str) -> ProtocolError:
    return ProtocolError(ErrorCode.INVALID, message, field=f"data.params.{printable(name, 64)}")
