"""The headlines of the last ten minutes: what a hub that was away is told late."""

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from qubix_tui.protocol.codec import encode_record
from qubix_tui.protocol.records import Metrics

KEPT_SECONDS: Final = 600.0
"""The span that a hub remembers."""

LEAST_SECONDS: Final = 0.9
"""Samples that come faster than about one a second are not all kept, which bounds their number."""

STEP_SECONDS: Final = 5.0
"""A hub keeps one sample for each of these steps of its time: no more of a step are sent."""


def steady() -> float:
    """Seconds, on a clock that nobody sets and that runs while the machine sleeps, where there is one."""
    boot_clock: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot_clock is None else time.clock_gettime(boot_clock)


class Kept:
    """One sample: its headline as JSON."""

    __slots__ = ("is_owed", "payload", "taken_at")

    def __init__(self, payload: bytes, taken_at: float, *, is_owed: bool) -> None:
        self.payload = payload
        self.taken_at = taken_at
        self.is_owed = is_owed
        """Whether the hub, as far as is known, does not have it."""


class Backlog:
    """Keeps headlines for `KEPT_SECONDS`: about 250 bytes each, and 80 more for each GPU.

    Args:
        clock: Seconds; see `steady`.
    """

    def __init__(self, clock: Callable[[], float] = steady) -> None:
        self._clock = clock
        self._kept: deque[Kept] = deque()
        self.owes = False
        """Whether anything is to be sent."""

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, metrics: Metrics, *, is_owed: bool) -> None:
        """Keep a sample that was taken just now.

        Args:
            metrics: The sample.
            is_owed: Whether it could not be sent.
        """
        now = self._clock()
        while self._kept and now - self._kept[0].taken_at > KEPT_SECONDS:
            self._kept.popleft()
        if not self._kept or now - self._kept[-1].taken_at >= LEAST_SECONDS:
            self._kept.append(Kept(headline(metrics), now, is_owed=is_owed))
            self.owes |= is_owed

    def owe_since(self, seconds_ago: float | None) -> None:
        """Note what the hub says that it lacks: everything since its newest sample.

        Args:
            seconds_ago: When that was; None where it has none.
        """
        now = self._clock()
        for kept in self._kept:
            if seconds_ago is None or now - kept.taken_at < seconds_ago:
                kept.is_owed = self.owes = True

    def owe(self, unsent: Iterable[Kept]) -> None:
        """Take back what was given and could not be sent."""
        for kept in unsent:
            kept.is_owed = self.owes = True

    def take_owed(self, hub_time: float) -> list[Kept]:
        """Give what is to be sent, newest first: of each step the sample nearest to its middle.

        They, and the others of their steps, are then no longer owed.

        Args:
            hub_time: The hub's clock now, seconds since the epoch.
        """
        self.owes = False
        offset = hub_time - self._clock()
        steps: dict[float, Kept] = {}
        distances: dict[float, float] = {}
        for kept in self._kept:
            if not kept.is_owed:
                continue
            kept.is_owed = False
            step, place = divmod(kept.taken_at + offset, STEP_SECONDS)
            distance = abs(place - STEP_SECONDS / 2)
            if distance < distances.get(step, STEP_SECONDS):
                steps[step], distances[step] = kept, distance
        return [steps[step] for step in sorted(steps, reverse=True)]

    def age(self, kept: Kept) -> float:
        """Give how long ago a sample was taken, in seconds."""
        return round(self._clock() - kept.taken_at, 3)


def headline(metrics: Metrics) -> bytes:
    """Give what a hub remembers of a sample, as JSON, without what is not known."""
    members: dict[str, Any] = {
        "seq": metrics.seq,
        "sampledAt": metrics.sampled_at,
        "cpuPercent": metrics.cpu_percent,
        "ramPercent": metrics.ram_percent,
        "gpuPercent": metrics.gpu_percent,
        "gpuTemp": metrics.gpu_temp,
        "netRxBytesPerSec": metrics.net_rx_bytes_per_sec,
        "netTxBytesPerSec": metrics.net_tx_bytes_per_sec,
    }
    gpus: list[dict[str, Any]] = [
        {
            "index": gpu.index,
            "state": gpu.state,
            "utilPercent": gpu.util_percent,
            "memUsedMb": gpu.mem_used_mb,
            "tempC": gpu.temp_c,
            "powerW": gpu.power_w,
        }
        for gpu in metrics.gpus
    ]
    return encode_record({**_known(members), "gpus": [_known(gpu) for gpu in gpus]})


def _known(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
