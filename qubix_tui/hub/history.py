"""The last ten minutes of every provider, in steps of five seconds.

10,000 providers with one GPU cost about 60 MB, 6 KB each (measured: the growth of a process's resident size).
Each further GPU of one provider adds 1.9 KB.
"""

import math
from array import array
from collections.abc import Mapping, Sequence
from typing import Final

from qubix_tui.hub.clock import Clock
from qubix_tui.protocol.records import GpuHistoryPoint, GpuMetrics, HistoryPoint, Metrics
from qubix_tui.protocol.types import from_timestamp, to_timestamp

STEP_SECONDS: Final = 5
STEPS: Final = 120
WINDOW_SECONDS: Final = STEPS * STEP_SECONDS

MAX_GPUS: Final = 64
"""GPUs of one provider that history is kept of; one message could name thousands."""

_HOST_COLUMNS: Final = 6  # CPU, RAM and GPU percent, GPU temperature, bytes per second in and out
_GPU_COLUMNS: Final = 4  # utilisation, memory, temperature, power
_NAN: Final = math.nan


class _Ring:
    """One provider's steps.

    ``values`` is a table in rows of ``width`` columns: those of the host, then those of GPU 0, 1 … Step
    number *n* (hub time divided by `STEP_SECONDS`) lives in row *n* modulo `STEPS`, and ``steps`` says which
    *n* a row holds now, -1 for none: so nothing has to be cleared as time passes, and a hub clock that was
    set back does no harm.

    The last sample of a step is what counts, so ``newest`` waits until its step is over or somebody reads.
    """

    __slots__ = ("gpu_count", "newest", "newest_step", "received", "sampled_at", "steps", "values")

    def __init__(self) -> None:
        self.gpu_count = 0
        self.steps = array("i", [-1]) * STEPS
        self.values = array("f", [_NAN]) * (_HOST_COLUMNS * STEPS)
        self.newest: Metrics | None = None
        self.newest_step = -1
        self.received = 0.0
        self.sampled_at: str | None = None

    @property
    def width(self) -> int:
        return _HOST_COLUMNS + _GPU_COLUMNS * self.gpu_count

    def settle(self) -> None:
        """Write the newest sample where it belongs."""
        if self.newest is not None:
            self.write(self.newest_step, self.newest)
            self.newest = None

    def write(self, step: int, metrics: Metrics) -> None:
        self._write(step, metrics, {gpu.index: gpu for gpu in metrics.gpus})

    def write_point(self, step: int, point: HistoryPoint) -> None:
        self._write(step, point, dict(enumerate(point.gpus)))

    def _write(
        self,
        step: int,
        host: Metrics | HistoryPoint,
        gpus: Mapping[int, GpuMetrics] | Mapping[int, GpuHistoryPoint],
    ) -> None:
        kept = [(index, gpu) for index, gpu in gpus.items() if index < MAX_GPUS]
        for index, _ in kept:
            if index >= self.gpu_count:
                self._widen(index + 1)
        width = self.width
        row: list[float | None] = [None] * width
        row[:_HOST_COLUMNS] = (
            host.cpu_percent,
            host.ram_percent,
            host.gpu_percent,
            host.gpu_temp,
            host.net_rx_bytes_per_sec,
            host.net_tx_bytes_per_sec,
        )
        for index, gpu in kept:
            start = _HOST_COLUMNS + _GPU_COLUMNS * index
            row[start : start + _GPU_COLUMNS] = gpu.util_percent, gpu.mem_used_mb, gpu.temp_c, gpu.power_w
        first = step % STEPS * width
        values = array("f", [_NAN if value is None else value for value in row])
        self.values[first : first + width] = values
        self.steps[step % STEPS] = step

    def read(self, step: int) -> "array[float] | None":
        """Give the values of a step, None where it has no data."""
        index = step % STEPS
        if self.steps[index] != step:
            return None
        return self.values[index * self.width : (index + 1) * self.width]

    def _widen(self, gpu_count: int) -> None:
        old, old_width = self.values, self.width
        added = array("f", [_NAN]) * (_GPU_COLUMNS * (gpu_count - self.gpu_count))
        self.values = array("f")
        for start in range(0, len(old), old_width):
            self.values += old[start : start + old_width] + added
        self.gpu_count = gpu_count


class History:
    """A ring of `STEPS` steps per provider, aligned to `STEP_SECONDS` of hub time; bounded.

    Args:
        clock: Hub time (``time``) says which steps are still in the window.
        max_providers: With more, the one that was silent longest is forgotten.
    """

    def __init__(self, clock: Clock, *, max_providers: int = 20_000) -> None:
        self._clock = clock
        self._max_providers = max_providers
        self._rings: dict[str, _Ring] = {}

    def record(
        self,
        provider_id: str,
        received: float,
        metrics: Metrics,
        *,
        late: bool = False,
        age: float | None = None,
    ) -> None:
        """Keep a sample.

        Args:
            provider_id: Whose sample it is.
            received: When the hub received it, seconds since the epoch (`Clock.time`).
            metrics: The sample. The last one of a step is what the step holds. A GPU's values are kept
                under its ``index``, as far as `MAX_GPUS`.
            late: It was kept while the hub was away, and only fills a step that is empty. Outside of the
                window it is dropped.
            age: How long ago a late sample was taken, in seconds. Without it, its place is ``sampledAt`` (the
                provider's clock, corrected by what the last live sample showed of it); without either it is
                dropped.
        """
        ring = self._rings.get(provider_id)
        if late:
            taken = _taken_at(ring, metrics.sampled_at) if age is None else received - age
            if taken is not None:
                self._record_late(provider_id, ring, received, taken, metrics)
            return
        if ring is None:
            ring = self._add(provider_id)
        if not 0 <= received - ring.newest_step * STEP_SECONDS < STEP_SECONDS:
            ring.settle()
            ring.newest_step = _step_of(received)
        ring.newest = metrics
        ring.received = received
        ring.sampled_at = metrics.sampled_at

    def points(self, provider_id: str, seconds: float = WINDOW_SECONDS) -> list[HistoryPoint]:
        """Give the steps of the last ``seconds`` that have data, oldest first; empty for the unknown.

        A point's ``timestamp`` is the beginning of its step. ``gpus`` is in order of GPU index, and of one
        length in all points: up to the last GPU of which anything is known.
        """
        ring = self._rings.get(provider_id)
        if ring is None:
            return []
        ring.settle()
        newest = _step_of(self._clock.time())
        rows = [
            (step, row)
            for step in range(self._first_step(seconds), newest + 1)
            if (row := ring.read(step)) is not None
        ]
        gpu_count = max((_known_gpus(row) for _, row in rows), default=0)
        return [_point(step, row, gpu_count) for step, row in rows]

    def recent(self, points: Sequence[HistoryPoint], seconds: float) -> list[HistoryPoint]:
        """Give those of some points that are of the last ``seconds``, as `points` would."""
        first = to_timestamp(self._first_step(seconds) * STEP_SECONDS)
        return [point for point in points if point.timestamp >= first]

    def fill(self, provider_id: str, points: Sequence[HistoryPoint]) -> None:
        """Fill steps that are empty with what another hub remembers of them, as late samples do."""
        newest = _step_of(self._clock.time())
        ring = self._rings.get(provider_id)
        for point in points:
            try:
                step = _step_of(from_timestamp(point.timestamp))
            except ValueError:
                # The form of a timestamp is checked on the wire, its calendar is not (31 February).
                continue
            if newest - STEPS < step <= newest:
                ring = ring or self._add(provider_id)
                ring.settle()
                if ring.steps[step % STEPS] < step:
                    ring.write_point(step, point)

    def forget(self, provider_id: str) -> None:
        """Drop a provider's past. Unknown providers are no error."""
        self._rings.pop(provider_id, None)

    def _first_step(self, seconds: float) -> int:
        count = min(STEPS, max(0, math.ceil(seconds / STEP_SECONDS)))
        return _step_of(self._clock.time()) - count + 1

    def _record_late(
        self, provider_id: str, ring: _Ring | None, received: float, taken: float, metrics: Metrics
    ) -> None:
        step, current = _step_of(taken), _step_of(received)
        if not current - STEPS < step <= current:
            return
        if ring is None:
            ring = self._add(provider_id)
        ring.settle()
        if ring.steps[step % STEPS] < step:
            ring.write(step, metrics)

    def _add(self, provider_id: str) -> _Ring:
        if len(self._rings) >= self._max_providers:
            del self._rings[min(self._rings, key=lambda known: self._rings[known].received)]
        ring = self._rings[provider_id] = _Ring()
        return ring


def _taken_at(ring: _Ring | None, sampled_at: str | None) -> float | None:
    """Give when a sample was taken, by the hub's clock; None where that can't be told."""
    if sampled_at is None:
        return None
    try:
        taken = from_timestamp(sampled_at)
        if ring is not None and ring.sampled_at is not None:
            taken += ring.received - from_timestamp(ring.sampled_at)
    except ValueError:
        # The form of a timestamp is checked on the wire, its calendar is not (31 February).
        return None
    return taken


def _step_of(seconds: float) -> int:
    return max(0, int(seconds // STEP_SECONDS))


def _known_gpus(row: Sequence[float]) -> int:
    """Count the GPUs of a row up to the last one with a value."""
    for index in range(len(row) - 1, _HOST_COLUMNS - 1, -1):
        if math.isfinite(row[index]):
            return (index - _HOST_COLUMNS) // _GPU_COLUMNS + 1
    return 0


def _point(step: int, row: Sequence[float], gpu_count: int) -> HistoryPoint:
    values = [round(value, 2) if math.isfinite(value) else None for value in row]
    gpus = []
    for start in range(_HOST_COLUMNS, _HOST_COLUMNS + gpu_count * _GPU_COLUMNS, _GPU_COLUMNS):
        used = values[start + 1]
        gpus.append(
            GpuHistoryPoint(
                util_percent=values[start],
                mem_used_mb=None if used is None else int(used),
                temp_c=values[start + 2],
                power_w=values[start + 3],
            )
        )
    return HistoryPoint(
        timestamp=to_timestamp(step * STEP_SECONDS),
        cpu_percent=values[0],
        ram_percent=values[1],
        gpu_percent=values[2],
        gpu_temp=values[3],
        net_rx_bytes_per_sec=values[4],
        net_tx_bytes_per_sec=values[5],
        gpus=gpus,
    )
