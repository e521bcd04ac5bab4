"""The hub's own counters as OpenMetrics text."""

import re

import qubix_tui
from qubix_tui.hub.telemetry import BROADCAST_BOUNDS, Telemetry

SUFFIXES = {
    "counter": {"_total"},
    "gauge": {""},
    "info": {"_info"},
    "histogram": {"_bucket", "_count", "_sum"},
}
SAMPLE = re.compile(r'(?P<name>[a-z_]+)(?P<labels>\{[a-z]+="[^"\\\n]*"\})? (?P<value>[0-9.e+-]+)')


def parse(text: str) -> dict[str, float]:
    """Read OpenMetrics text as strictly as Prometheus does, and give each sample with its value."""
    lines = text.split("\n")
    assert lines[-2:] == ["# EOF", ""]
    samples: dict[str, float] = {}
    family = kind = ""
    seen: set[str] = set()
    for line in lines[:-2]:
        if line.startswith("# TYPE "):
            _, _, family, kind = line.split(" ")
            assert family not in seen, "a family has one block"
            seen.add(family)
        elif line.startswith("#"):
            assert re.fullmatch(rf"# (HELP {family} \S.*|UNIT {family} seconds)", line)
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            assert match["name"].removeprefix(family) in SUFFIXES[kind], line
            name = match["name"] + (match["labels"] or "")
            assert name not in samples, "a sample is given once"
            samples[name] = float(match["value"])
    return samples


def test_a_new_hub_has_counted_nothing() -> None:
    """All the named metrics are there from the start; those by type have no sample yet."""
    samples = parse(Telemetry().render(connections=0, subscriptions=0))
    version = f'qubix_build_info{{version="{qubix_tui.__version__}"}}'
    assert samples.pop(version) == 1
    assert set(samples.values()) == {0}
    assert {
        "qubix_connections",
        "qubix_subscriptions",
        "qubix_slow_client_aborts_total",
        "qubix_rate_limited_total",
        "qubix_auth_failures_total",
        "qubix_broadcast_duration_seconds_count",
    } <= samples.keys()


def test_what_was_counted_is_written() -> None:
    """Each number under its name, deliveries and messages by type."""
    telemetry = Telemetry()
    telemetry.slow_client_aborts += 1
    telemetry.rate_limited += 2
    telemetry.auth_failures += 3
    telemetry.sent("pong")
    telemetry.sent("GPU_METRICS_UPDATE", 1_000)
    telemetry.sent("GPU_METRICS_UPDATE", 1_000)
    telemetry.received("ping")
    telemetry.received("subscribe:provider")
    samples = parse(telemetry.render(connections=15, subscriptions=8))
    assert samples["qubix_connections"] == 15
    assert samples["qubix_subscriptions"] == 8
    assert samples["qubix_slow_client_aborts_total"] == 1
    assert samples["qubix_rate_limited_total"] == 2
    assert samples["qubix_auth_failures_total"] == 3
    assert samples['qubix_messages_sent_total{type="pong"}'] == 1
    assert samples['qubix_messages_sent_total{type="GPU_METRICS_UPDATE"}'] == 2_000
    assert samples['qubix_messages_received_total{type="ping"}'] == 1
    assert samples['qubix_messages_received_total{type="subscribe:provider"}'] == 1


def test_what_clients_make_up_is_no_label() -> None:
    """Unknown types are counted together: a client can't grow the metrics, nor write into them."""
    telemetry = Telemetry()
    for kind in ("made-up", 'x"} 1\nqubix_connections 99', "subscribe:everything"):
        telemetry.received(kind)
    samples = parse(telemetry.render(connections=0, subscriptions=0))
    assert samples['qubix_messages_received_total{type="unknown"}'] == 3
    assert samples["qubix_connections"] == 0


def test_flushes_are_a_cumulative_histogram() -> None:
    """A bucket counts all flushes up to its bound, the bound included; the last counts all."""
    telemetry = Telemetry()
    for seconds in (0.00005, 0.0001, 0.003, 7.0):
        telemetry.broadcast_took(seconds)
    samples = parse(telemetry.render(connections=0, subscriptions=0).replace("+Inf", "inf"))
    name = "qubix_broadcast_duration_seconds"
    buckets = [samples[f'{name}_bucket{{le="{bound}"}}'] for bound in BROADCAST_BOUNDS]
    assert buckets == sorted(buckets)
    assert buckets[0] == 2
    assert samples[f'{name}_bucket{{le="0.005"}}'] == 3
    assert buckets[-1] == 3
    assert samples[f'{name}_bucket{{le="inf"}}'] == samples[f"{name}_count"] == 4
    assert samples[f"{name}_sum"] == 7.00315
