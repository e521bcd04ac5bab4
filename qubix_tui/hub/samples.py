"""The samples of providers: kept as the newest, and in the history, and sent on to whoever listens."""

from typing import Final

from qubix_tui.hub import framing
from qubix_tui.hub.backfill import Backfill
from qubix_tui.hub.clock import Clock
from qubix_tui.hub.fanout import Fanout
from qubix_tui.hub.history import History
from qubix_tui.hub.peers import Peers
from qubix_tui.hub.provider_state import Entry
from qubix_tui.hub.registry import Registry
from qubix_tui.protocol import codec, events
from qubix_tui.protocol.errors import ErrorCode, ProtocolError
from qubix_tui.protocol.records import MAX_GPU_PROCESSES, Metrics
from qubix_tui.protocol.requests import PublishMetrics
from qubix_tui.protocol.types import to_timestamp

MAX_METRICS_BYTES: Final = 60 * 1024
"""A sample as it is sent on, every unknown member spelled out."""

_GPU_BYTES: Final = 1_900 + 100 * MAX_GPU_PROCESSES
"""What a GPU of a sample, with its processes, may grow by when it is sent on: nulls, numbers written out."""


class Samples:
    """Takes the samples of one hub's providers.

    Args:
        registry: The providers.
        history: Their last minutes.
        backfill: The gaps in these.
        fanout: Who hears samples.
        peers: Who hears them at other hubs.
        clock: When they come.
    """

    def __init__(
        self,
        registry: Registry,
        history: History,
        backfill: Backfill,
        fanout: Fanout,
        peers: Peers,
        clock: Clock,
    ) -> None:
        self._registry = registry
        self._history = history
        self._backfill = backfill
        self._fanout = fanout
        self._peers = peers
        self._clock = clock

    def take(self, entry: Entry, request: PublishMetrics, raw: bytes) -> None:
        """Take a provider's sample, and publish it to whoever listens.

        Args:
            entry: The provider.
            request: The sample.
            raw: The message that it came in.

        Raises:
            ProtocolError: ``too_large``: sent on, it would not fit into a frame.
        """
        metrics = request.metrics
        if len(raw) + _GPU_BYTES * (len(metrics.gpus) + 1) > MAX_METRICS_BYTES:
            _check_size(metrics)
        if request.late:
            age = request.age_seconds
            self._history.record(entry.id, self._clock.time(), metrics, late=True, age=age)
            self._backfill.filled(entry.id)
            return
        self._registry.sampled(entry, metrics)
        self._history.record(entry.id, entry.metrics_at, metrics)
        self.fan_out(entry.channel, entry.id, metrics, entry.metrics_at)

    def fan_out(self, channel: str, provider_id: str, metrics: object, received: float) -> None:
        """Publish a sample, whoever it is of, to whoever listens, here and at other hubs.

        Raises:
            ValueError: It does not fit into a frame.
        """
        is_heard, elsewhere = self._fanout.is_heard(channel), self._peers.wanting(provider_id)
        if not is_heard and not elsewhere:
            return
        data = codec.encode_record(
            {"providerId": provider_id, "metrics": metrics, "timestamp": to_timestamp(received)}
        )
        if is_heard:
            frame = framing.event_frame(events.GPU_METRICS_UPDATE, data, channel)
            self._fanout.publish(events.GPU_METRICS_UPDATE, channel, frame, subject=channel)
        if elsewhere:
            self._peers.send_sample(elsewhere, provider_id, data)


def _check_size(metrics: Metrics) -> None:
    """Refuse a sample that would not fit into a frame once its unknown members are spelled out."""
    size = len(codec.encode_record(metrics))
    if size > MAX_METRICS_BYTES:
        raise ProtocolError(
            ErrorCode.TOO_LARGE,
            f"a sample has at most {MAX_METRICS_BYTES} bytes with all its members; this one has {size}",
            field="data.metrics",
        )
