"""The hub's own counters, as Prometheus reads them."""

import qubix_tui
from qubix_tui.hub.exposition import take_picture
from qubix_tui.hub.telemetry import BROADCAST_BOUNDS, Telemetry
from tests.hub import scrapes
from tests.hub.scrapes import Samples


def scrape(telemetry: Telemetry, connections: int = 0, subscriptions: int = 0) -> Samples:
    """Every sample of a hub without providers, by name and labels."""
    picture = take_picture(
        telemetry,
        [],
        0.0,
        ready=False,
        stores=False,
        connections=connections,
        subscriptions=subscriptions,
        queue_age=None,
        jobs={},
        attempts={},
    )
    return scrapes.scrape(picture)


def test_a_new_hub_has_counted_nothing() -> None:
    """All the named metrics are there from the start; those by type have no sample yet."""
    samples = scrape(Telemetry())
    assert samples.pop(("qubix_build_info", (("version", qubix_tui.__version__),))) == 1
    assert set(samples.values()) == {0}
    assert {
        "qubix_connections",
        "qubix_subscriptions",
        "qubix_slow_client_aborts_total",
        "qubix_rate_limited_total",
        "qubix_auth_failures_total",
        "qubix_broadcast_duration_seconds_count",
        "qubix_providers",
    } <= {name for name, _ in samples}


def test_what_was_counted_is_shown() -> None:
    """Each number under its name, deliveries and messages by type."""
    telemetry = Telemetry()
    telemetry.slow_client_aborts += 1
    telemetry.rate_limited += 2
    telemetry.auth_failures += 3
    telemetry.sent("pong")
    telemetry.sent("GPU_METRICS_UPDATE", 1_000)
    telemetry.sent("GPU_METRICS_UPDATE", 1_000)
    telemetry.received("ping")
    samples = scrape(telemetry, connections=15, subscriptions=8)
    assert samples["qubix_connections", ()] == 15
    assert samples["qubix_subscriptions", ()] == 8
    assert samples["qubix_slow_client_aborts_total", ()] == 1
    assert samples["qubix_rate_limited_total", ()] == 2
    assert samples["qubix_auth_failures_total", ()] == 3
    assert samples["qubix_messages_sent_total", (("type", "pong"),)] == 1
    assert samples["qubix_messages_sent_total", (("type", "GPU_METRICS_UPDATE"),)] == 2_000
    assert samples["qubix_messages_received_total", (("type", "ping"),)] == 1


def test_what_clients_make_up_is_no_label() -> None:
    """Unknown types are counted together: a client can't grow the metrics, nor write into them."""
    telemetry = Telemetry()
    for kind in ("made-up", 'x"} 1\nqubix_connections 99', "subscribe:everything"):
        telemetry.received(kind)
    samples = scrape(telemetry)
    assert samples["qubix_messages_received_total", (("type", "unknown"),)] == 3
    assert samples["qubix_connections", ()] == 0


def test_flushes_are_a_cumulative_histogram() -> None:
    """A bucket counts all flushes up to its bound, the bound included; the last counts all."""
    telemetry = Telemetry()
    for seconds in (0.00005, 0.0001, 0.003, 7.0):
        telemetry.broadcast_took(seconds)
    samples = scrape(telemetry)
    name = "qubix_broadcast_duration_seconds"
    buckets = [samples[f"{name}_bucket", (("le", str(bound)),)] for bound in BROADCAST_BOUNDS]
    assert buckets == sorted(buckets)
    assert buckets[0] == 2
    assert samples[f"{name}_bucket", (("le", "0.005"),)] == 3
    assert buckets[-1] == 3
    assert samples[f"{name}_bucket", (("le", "+Inf"),)] == samples[f"{name}_count", ()] == 4
    assert samples[f"{name}_sum", ()] == 7.00315
