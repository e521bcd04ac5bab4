"""The filter language of the fleet: ``temp>80 state:busy gpu:4090 price<0.5 -name:lab barn``.

Terms are separated by spaces, and all must hold. A word is looked for in the name, id, GPU model, location
and state. ``key:text`` looks in one of them; ``key>number`` (also ``>=``, ``<``, ``<=``, ``=``) compares. A
``-`` before a term turns it round. What is not known fulfils no comparison. No Textual in it.
"""

import re
from collections.abc import Callable
from typing import Final

from qubix_tui.console.fleet import Row, measured
from qubix_tui.console.format import MIB_PER_GIB

Predicate = Callable[[Row], bool]
"""Whether a row is shown."""

_TERM: Final = re.compile(
    r"(?P<minus>-?)(?:(?P<key>[a-z]+)(?P<operator>>=|<=|[:<>=]))?(?P<value>.*)\Z", re.DOTALL
)
_NUMBER: Final = re.compile(r"\d+(\.\d+)?\Z")

_COMPARE: Final[dict[str, Callable[[float, float], bool]]] = {
    ">": lambda value, limit: value > limit,
    ">=": lambda value, limit: value >= limit,
    "<": lambda value, limit: value < limit,
    "<=": lambda value, limit: value <= limit,
    "=": lambda value, limit: value == limit,
}


class QueryError(ValueError):
    """A filter that can't be understood.

    Args:
        message: What is wrong, and what would be right.
        start: Where in the text the term at fault begins.
        end: Where it ends.
    """

    def __init__(self, message: str, start: int, end: int) -> None:
        super().__init__(message)
        self.start = start
        self.end = end


def _gib(value: float | None) -> float | None:
    return None if value is None else value / MIB_PER_GIB


TEXTS: Final[dict[str, Callable[[Row], str | None]]] = {
    "name": lambda row: row.name,
    "id": lambda row: row.record.id,
    "gpu": lambda row: row.record.gpu_model,
    "location": lambda row: row.record.location,
    "state": lambda row: row.record.state.value,
    "job": lambda row: row.record.current_job_id,
    "os": lambda row: row.record.os,
    "driver": lambda row: row.record.driver_version,
    "sim": lambda row: "yes" if row.record.simulated else "no",
}
"""What ``key:text`` may look in."""

NUMBERS: Final[dict[str, Callable[[Row], float | None]]] = {
    "use": measured(lambda sample: sample.gpu_percent),
    "temp": measured(lambda sample: sample.gpu_temp),
    "power": measured(lambda sample: sample.power_w),
    "cpu": measured(lambda sample: sample.cpu_percent),
    "ram": measured(lambda sample: sample.ram_percent),
    "vram": lambda row: _gib(row.record.gpu_mem_total_mb),
    "gpus": lambda row: row.record.gpu_count,
    "price": lambda row: row.record.price_per_hour,
}
"""What ``key>number`` may compare: percent, °C, W, GiB, pieces, price per hour."""

_WORD_KEYS: Final = ("name", "id", "gpu", "location", "state")


def parse(text: str) -> Predicate:
    """Give what decides whether a row is shown.

    Raises:
        QueryError: A term can't be understood.
    """
    predicates = [_term(match[0], match.start(), match.end()) for match in re.finditer(r"\S+", text.lower())]
    return lambda row: all(predicate(row) for predicate in predicates)


def _term(term: str, start: int, end: int) -> Predicate:
    match = _TERM.match(term)
    assert match is not None
    key, operator, value = match["key"], match["operator"], match["value"]
    if operator is None:
        if not value:
            raise QueryError("- needs a word to leave out", start, end)
        predicate = _word(value)
    elif operator == ":":
        predicate = _text(key, value, start, end)
    else:
        predicate = _comparison(key, operator, value, start, end)
    if match["minus"]:
        return lambda row: not predicate(row)
    return predicate


def _word(word: str) -> Predicate:
    looks = [TEXTS[key] for key in _WORD_KEYS]
    return lambda row: any(word in (look(row) or "").lower() for look in looks)


def _text(key: str, value: str, start: int, end: int) -> Predicate:
    look = TEXTS.get(key)
    if look is None:
        if key in NUMBERS:
            raise QueryError(f"{key} is a number: {key}>{value or '0'}", start, end)
        raise QueryError(f"no {key}: there are {', '.join(TEXTS)}, {', '.join(NUMBERS)}", start, end)
    if not value:
        raise QueryError(f"{key}: needs a word", start, end)
    return lambda row: value in (look(row) or "").lower()


def _comparison(key: str, operator: str, value: str, start: int, end: int) -> Predicate:
    look = NUMBERS.get(key)
    if look is None:
        if key in TEXTS:
            raise QueryError(f"{key} is a word: {key}:{value or '…'}", start, end)
        raise QueryError(f"no {key}: there are {', '.join(NUMBERS)}, {', '.join(TEXTS)}", start, end)
    if not _NUMBER.match(value):
        raise QueryError(f"{key}{operator} needs a number", start, end)
    limit, compare = float(value), _COMPARE[operator]

    def predicate(row: Row) -> bool:
        known = look(row)
        return known is not None and compare(known, limit)

    return predicate
