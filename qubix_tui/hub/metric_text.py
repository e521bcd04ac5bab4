"""Writes metric families of very many samples as text, for Prometheus or as OpenMetrics.

prometheus-client's writers make a tuple and a dictionary of each sample and check and sort its labels: for
10,000 GPUs that took 5 to 9 s, the processor kept from the event loop. Here the labels of a GPU are written
once for all families, and a sample is one formatted string: 0.6 s. A test holds both to the same reading.

Things are kept in dictionaries by their labels, and not as pairs: tens of thousands of new tuples would have
the garbage collector look through all that the hub holds, and everything waits for that.
"""

from collections.abc import Callable, Mapping
from typing import Final, Literal, TypeVar

Kind = Literal["gauge", "counter", "info", "unknown"]
Value = int | float
Thing = TypeVar("Thing")

_SUFFIXES: Final[dict[Kind, str]] = {"gauge": "", "counter": "_total", "info": "_info", "unknown": ""}

_PROMETHEUS_KINDS: Final[dict[Kind, str]] = {
    "gauge": "gauge",
    "counter": "counter",
    "info": "gauge",
    "unknown": "untyped",
}


class MetricText:
    """Takes families one after the other.

    Args:
        openmetrics: Whether OpenMetrics is written, or Prometheus's own text.
        emit: Takes what is written, a family at a time.
    """

    def __init__(self, *, openmetrics: bool, emit: Callable[[bytes], object]) -> None:
        self._openmetrics = openmetrics
        self._emit = emit

    def family(
        self,
        name: str,
        kind: Kind,
        words: str,
        things: Mapping[str, Thing],
        value_of: Callable[[Thing], Value | None],
    ) -> None:
        """Write a family with one sample for each thing whose value is known; without any, it is left out.

        Args:
            name: Its name, without the suffix that its kind has.
            kind: What it is.
            words: What it means; one line without a backslash.
            things: Each by its labels (`labels`).
            value_of: Gives a thing's value; None where it is not known.
        """
        sample = name + _SUFFIXES[kind]
        lines = [
            f"{sample}{labelled} {value}\n"
            for labelled, thing in things.items()
            if (value := value_of(thing)) is not None
        ]
        if not lines:
            return
        # A family's name has the suffix in Prometheus's text, and has it not in OpenMetrics.
        family, type_ = (name, kind) if self._openmetrics else (sample, _PROMETHEUS_KINDS[kind])
        head = f"# HELP {family} {words}\n# TYPE {family} {type_}\n"
        self._emit((head + "".join(lines)).encode())


def labels(pairs: Mapping[str, str]) -> str:
    """Write labels as they stand in a sample: ``{gpu="0",provider="rig-1"}``."""
    return "{" + ",".join([f'{name}="{_escaped(value)}"' for name, value in pairs.items()]) + "}"


def with_label(labelled: str, name: str, value: str) -> str:
    """Add a label to those that `labels` has written."""
    return f'{labelled[:-1]},{name}="{_escaped(value)}"}}'


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
