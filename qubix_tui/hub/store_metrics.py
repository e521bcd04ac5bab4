"""What `/metrics` shows of a store that several hubs may share, and of what they say beside it."""

from collections.abc import Iterator, Mapping

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily

from qubix_tui.hub.engine.base import Engine
from qubix_tui.hub.peers import Traffic


class SharedStore(msgspec.Struct, frozen=True, kw_only=True):
    """A store that several hubs may share, as one of them sees it."""

    nodes: int | None
    """Hubs that are alive; None while the store is away."""
    lag: float | None
    """Seconds that this one is behind; likewise."""
    clock_skew: float | None
    """Seconds that the store's clock is ahead of this machine's; likewise."""
    reconnects: int
    scripts: Mapping[str, tuple[int, float]]
    """What was asked of it, by kind: how often, and how many seconds that took together."""
    messages: Mapping[str, tuple[int, int]]
    """What this hub has sent to others and received from them: messages, and their bytes."""


def look_at(engine: Engine, traffic: Traffic) -> SharedStore | None:
    """Note how a store is that several hubs may share; None where this hub has one of its own."""
    telemetry, is_there = engine.telemetry, engine.available
    if engine.cluster.node is None:
        return None
    return SharedStore(
        nodes=len(engine.cluster.nodes) if is_there else None,
        lag=telemetry.lag if is_there else None,
        clock_skew=telemetry.clock_skew if is_there else None,
        reconnects=telemetry.reconnects,
        scripts={kind: (calls.count, calls.seconds) for kind, calls in telemetry.calls.items()},
        messages={
            "sent": (traffic.messages_sent, traffic.bytes_sent),
            "received": (traffic.messages_received, traffic.bytes_received),
        },
    )


def store_families(store: SharedStore) -> Iterator[Metric]:
    """Give what Prometheus is shown of it."""
    if store.nodes is not None:
        yield GaugeMetricFamily("qubix_engine_nodes", "Hubs on the store that are alive.", store.nodes)
    if store.lag is not None:
        yield GaugeMetricFamily(
            "qubix_engine_lag_seconds", "How long after the store this hub knew of a change.", store.lag
        )
    if store.clock_skew is not None:
        yield GaugeMetricFamily(
            "qubix_engine_clock_skew_seconds",
            "How far the store's clock is ahead of this machine's.",
            store.clock_skew,
        )
    yield CounterMetricFamily(
        "qubix_engine_reconnects", "How often this hub had to connect anew to the store.", store.reconnects
    )
    scripts = SummaryMetricFamily(
        "qubix_engine_script_seconds",
        "How long the store took for what it was asked, the way there and back included.",
        labels=["script"],
    )
    for kind, (count, seconds) in sorted(store.scripts.items()):
        scripts.add_metric([kind], count_value=count, sum_value=seconds)
    yield scripts
    messages = CounterMetricFamily(
        "qubix_peer_messages",
        "Samples, headlines and the like, between this hub and others.",
        labels=["direction"],
    )
    size = CounterMetricFamily("qubix_peer_bytes", "The bytes of these messages.", labels=["direction"])
    for direction, (count, length) in store.messages.items():
        messages.add_metric([direction], count)
        size.add_metric([direction], length)
    yield messages
    yield size
