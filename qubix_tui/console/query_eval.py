"""What a query asks of the fleet's rows. No Textual in it.

What is not known has no value: it has no text in it, and no comparison with it is true. So ``temp>85`` leaves
out a machine without a sample, and ``-temp>85``, which turns that round, has it; ``-temp>85 temp:*`` has the
ones that are known not to be hot.
"""

import operator
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from qubix_tui.console.fleet import Row, measured
from qubix_tui.console.format import MIB_PER_GIB
from qubix_tui.console.query_syntax import (
    EVERYTHING,
    Compare,
    Either,
    Every,
    Kind,
    Known,
    Match,
    Node,
    Not,
    QueryError,
    Word,
    parse,
)
from qubix_tui.protocol.records import ProviderState

Predicate = Callable[[Row], bool]
"""Whether a row is shown."""

OPERATORS: Final[dict[str, Callable[[float, float], bool]]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
}

_PERCENT: Final = ("%",)


def _gib(mebibytes: float | None) -> float | None:
    return None if mebibytes is None else mebibytes / MIB_PER_GIB


def _trouble(row: Row) -> str | None:
    trouble = row.trouble()
    return None if trouble is None else trouble.word


TEXTS: Final[dict[str, tuple[Kind, Callable[[Row], str | None]]]] = {
    "name": (Kind(False, "what people call it"), lambda row: row.name),
    "id": (Kind(False, "its id"), lambda row: row.record.id),
    "gpu": (Kind(False, "model of its GPUs"), lambda row: row.record.gpu_model),
    "state": (
        Kind(False, "what it does", values=tuple(state.value for state in ProviderState)),
        lambda row: row.record.state.value,
    ),
    "trouble": (Kind(False, "what is wrong with it"), _trouble),
    "job": (Kind(False, "the job that it has"), lambda row: row.record.current_job_id),
    "location": (Kind(False, "where it stands"), lambda row: row.record.location),
    "os": (Kind(False, "its operating system"), lambda row: row.record.os),
    "driver": (Kind(False, "version of its driver"), lambda row: row.record.driver_version),
    "sim": (
        Kind(False, "whether it is made up", values=("yes", "no")),
        lambda row: "yes" if row.record.simulated else "no",
    ),
}

NUMBERS: Final[dict[str, tuple[Kind, Callable[[Row], float | None]]]] = {
    "use": (Kind(True, "mean use of its GPUs", _PERCENT), lambda row: row.use),
    "temp": (
        Kind(True, "its hottest GPU", ("°C", "°", "C")),
        measured(lambda sample: sample.gpu_temp),
    ),
    "vram": (
        Kind(True, "memory of its GPUs together", ("GiB", "GB", "G")),
        lambda row: _gib(row.record.gpu_mem_total_mb),
    ),
    "used": (
        Kind(True, "used of that memory", ("GiB", "GB", "G")),
        measured(lambda sample: _gib(sample.gpu_mem_used_mb)),
    ),
    "power": (Kind(True, "power of its GPUs together", ("W",)), measured(lambda sample: sample.power_w)),
    "gpus": (Kind(True, "how many GPUs it has"), lambda row: row.record.gpu_count),
    "lost": (Kind(True, "GPUs gone from its driver"), measured(lambda sample: sample.gpus_lost)),
    "cpu": (Kind(True, "use of its CPU", _PERCENT), measured(lambda sample: sample.cpu_percent)),
    "ram": (Kind(True, "use of its memory", _PERCENT), measured(lambda sample: sample.ram_percent)),
    "price": (Kind(True, "its price", ("/h",)), lambda row: row.record.price_per_hour),
}

FIELDS: Final[dict[str, Kind]] = {
    name: kind for fields in (TEXTS, NUMBERS) for name, (kind, _) in fields.items()
}
"""The fields of the fleet's query language."""

WORD_FIELDS: Final = ("name", "id", "gpu", "location")
"""Where a word without a field is looked for. (It may also begin the state: ``lab`` is in "available".)"""


def compiled(node: Node) -> Predicate:
    """Give what decides whether a row is shown."""
    match node:
        case Word(text):
            looks = [TEXTS[name][1] for name in WORD_FIELDS]
            return lambda row: (
                row.record.state.value.startswith(text)
                or any(text in (look(row) or "").lower() for look in looks)
            )
        case Match(field, text):
            look = TEXTS[field][1]
            return lambda row: text in (look(row) or "").lower()
        case Known(field):
            value = NUMBERS[field][1] if field in NUMBERS else TEXTS[field][1]
            return lambda row: value(row) is not None
        case Compare(field, sign, number):
            return _compared(NUMBERS[field][1], OPERATORS[sign], number)
        case Not(term):
            holds = compiled(term)
            return lambda row: not holds(row)
        case Every(terms):
            every = [compiled(term) for term in terms]
            return lambda row: all(holds(row) for holds in every)
        case Either(terms):
            either = [compiled(term) for term in terms]
            return lambda row: any(holds(row) for holds in either)


def _compared(
    look: Callable[[Row], float | None], compare: Callable[[float, float], bool], number: float
) -> Predicate:
    def holds(row: Row) -> bool:
        value = look(row)
        return value is not None and compare(value, number)

    return holds


class Reading(NamedTuple):
    """What was made of a query that is being typed."""

    predicate: Predicate | None
    """What is right of it; None shows all."""
    error: QueryError | None
    """What is wrong with it first; None if nothing is."""


def read(text: str) -> Reading:
    """Read a query as far as it can be understood: what is right of it holds while the rest is typed."""
    first: QueryError | None = None
    while True:
        try:
            node = parse(text, FIELDS)
        except QueryError as error:
            first = first or error
            text = text[: error.start] + " " * (error.term_end - error.start) + text[error.term_end :]
        else:
            return Reading(None if node == EVERYTHING else compiled(node), first)


def values_of(rows: Iterable[Row], field: str) -> list[str]:
    """Give all that a text field is in some rows, in lower case and in order."""
    kind, look = TEXTS[field]
    if kind.values:
        return list(kind.values)
    return sorted({value.lower() for value in map(look, rows) if value})
