"""What all sensors share: rates from counters, percentages that stay percentages, text fit for the wire.

A sensor is an object that is read once per sample. It never raises for what the machine does not tell: that
value is None. It never gives a value it did not read.
"""

import logging
import re
from typing import Final, Protocol

MIB: Final = 1024 * 1024

_WRAP: Final = 2**32
_QUARTER: Final = _WRAP // 4

_NAME_LENGTH: Final = 128
_UNFIT: Final = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)

_logger = logging.getLogger("qubix_agent")


class Monotonic(Protocol):
    """A clock that only goes forward, in seconds (`time.monotonic`)."""

    def __call__(self) -> float:
        """The time now."""


def difference(before: int, after: int) -> int | None:
    """How far a byte counter went, None where that can't be told.

    A counter of 32 bits wraps from its top to its bottom; any other step back is a reset (an interface that
    was taken down, a driver that was loaded again), and what was counted in between is not known.
    """
    if after >= before:
        return after - before
    if before < _WRAP and before >= _WRAP - _QUARTER and after < _QUARTER:
        return after + _WRAP - before
    return None


class PercentGuard:
    """Keeps percentages within 0 to 100, and says once per name what was read where one was not."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, name: str, value: float) -> float:
        """Give ``value`` clamped and rounded to one decimal."""
        # First to what is sent: a quotient may miss 100 by its last bit, which is nothing to tell.
        rounded = round(value, 1)
        clamped = min(max(rounded, 0.0), 100.0)
        if clamped != rounded and name not in self._said:
            self._said.add(name)
            _logger.warning("%s was read as %r and is shown as %g", name, value, clamped)
        return clamped


def one_line(text: str | None, length: int = _NAME_LENGTH) -> str | None:
    """Make a stranger's text a name that the wire takes: one line, at most 128 characters (or ``length``)."""
    if text is None:
        return None
    return _UNFIT.sub("�", text[:length]).strip() or None
