"""Families of many samples as text: read as what prometheus-client itself would write."""

from collections.abc import Callable
from typing import cast

import hypothesis.strategies as st
import pytest
from hypothesis import given
from prometheus_client import CollectorRegistry
from prometheus_client import exposition as prometheus
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
    UnknownMetricFamily,
)
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from prometheus_client.registry import Collector

from qubix_tui.hub.metric_text import Kind, MetricText, Value, labels, with_label

FAMILIES: dict[Kind, Callable[[str, str], Metric]] = {
    "gauge": GaugeMetricFamily,
    "counter": CounterMetricFamily,
    "info": InfoMetricFamily,
    "unknown": UnknownMetricFamily,
}
SUFFIXES: dict[Kind, str] = {"gauge": "", "counter": "_total", "info": "_info", "unknown": ""}

values = st.integers(0, 2**53) | st.floats(0, allow_nan=False, allow_infinity=False)


class Given(Collector):
    """A collector of one family."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> list[Metric]:
        """Give it."""
        return [self._family]


def theirs(kind: Kind, samples: dict[str, Value]) -> CollectorRegistry:
    """The same family, for prometheus-client to write."""
    family = FAMILIES[kind]("qubix_test", "Words.")
    for value, number in samples.items():
        family.add_sample("qubix_test" + SUFFIXES[kind], {"a": value, "b": value}, number)
    registry = CollectorRegistry()
    registry.register(Given(family))
    return registry


def ours(kind: Kind, samples: dict[str, Value], *, as_openmetrics: bool) -> str:
    """The text under test."""
    parts: list[bytes] = []
    text = MetricText(openmetrics=as_openmetrics, emit=parts.append)
    things = {with_label(labels({"a": value}), "b", value): number for value, number in samples.items()}
    text.family("qubix_test", kind, "Words.", things, lambda number: number)
    return b"".join(parts).decode()


@given(
    st.sampled_from(sorted(FAMILIES)),
    st.dictionaries(st.text(st.characters(codec="utf-8")), values, min_size=1),
)
def test_it_is_read_as_what_prometheus_client_writes(kind: str, samples: dict[str, Value]) -> None:
    """In both formats, whatever a label holds; an info's value is 1."""
    kind_ = cast("Kind", kind)
    if kind == "info":
        samples = dict.fromkeys(samples, 1)
    registry = theirs(kind_, samples)
    expected = openmetrics.generate_latest(registry).decode()
    assert list(read_openmetrics(ours(kind_, samples, as_openmetrics=True) + "# EOF\n")) == list(
        read_openmetrics(expected)
    )
    expected = prometheus.generate_latest(registry).decode()
    assert list(read_text(ours(kind_, samples, as_openmetrics=False))) == list(read_text(expected))


@pytest.mark.parametrize("as_openmetrics", [True, False])
def test_a_family_without_a_value_is_left_out(as_openmetrics: bool) -> None:
    """Head and all; a thing whose value is not known has no sample."""
    parts: list[bytes] = []
    text = MetricText(openmetrics=as_openmetrics, emit=parts.append)
    unknown: dict[str, int | None] = {labels({"a": "x"}): None}
    text.family("qubix_none", "gauge", "Words.", unknown, lambda value: value)
    assert parts == []
    text.family("qubix_some", "gauge", "Words.", unknown | {labels({"a": "y"}): 0}, lambda value: value)
    assert b"".join(parts).splitlines()[2:] == [b'qubix_some{a="y"} 0']
