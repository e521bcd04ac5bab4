"""What the hub tells its clients of itself (``hub:stats``): counters that are there anyway, so cheap."""

from collections.abc import Mapping

import qubix_tui
from qubix_tui.hub.services import Services
from qubix_tui.hub.telemetry import BROADCAST_BOUNDS
from qubix_tui.protocol.answers import FlushBucket, HeldSubscriptions, HubStatistics, TypeCount
from qubix_tui.protocol.types import to_timestamp


def statistics(services: Services) -> HubStatistics:
    """Give what is so now. Takes the same time however many providers and clients there are."""
    telemetry, clock = services.telemetry, services.clock
    return HubStatistics(
        timestamp=to_timestamp(clock.time()),
        version=qubix_tui.__version__,
        epoch=services.engine.epoch,
        uptime_seconds=clock.monotonic() - services.started_at,
        connections=services.admission.connections,
        max_connections=services.limits.connections,
        providers=len(services.providers.registry),
        subscriptions=[
            HeldSubscriptions(kind=kind, channels=held.channels, subscriptions=held.subscriptions)
            for kind, held in sorted(services.fanout.held.items())
            if held.channels
        ],
        sent=_by_type(telemetry.messages_sent),
        received=_by_type(telemetry.messages_received),
        sent_bytes=telemetry.bytes_sent,
        received_bytes=telemetry.bytes_received,
        flushes=[
            FlushBucket(seconds=seconds, count=count)
            for seconds, count in zip((*BROADCAST_BOUNDS, None), telemetry.broadcast_counts, strict=True)
        ],
        flush_seconds=telemetry.broadcast_seconds,
        slow_clients=telemetry.slow_client_aborts,
        rate_limited=telemetry.rate_limited,
        auth_failures=telemetry.auth_failures,
        store_bytes=services.engine.size(),
        store_up=services.publisher.stores,
        nodes=services.nodes.listing(),
    )


def _by_type(counts: Mapping[str, int]) -> list[TypeCount]:
    return [TypeCount(type=kind, count=count) for kind, count in sorted(counts.items())]
