"""The fleet digest: every so many seconds, the headline metrics of the providers that have a newer sample.

All subscribers with one interval share one tick, and the pages of the tick are encoded once. They are made
page by page, with a turn of the event loop between two, so that ten thousand providers do not hold up the
fan-out.

A subscriber that has not read its last digest when the next one comes gets one that covers both: each
provider once, with its newest sample. It is made for this subscriber alone, when its socket can take it.
Digests wait in no outbox (`Outbox.background`).
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence

from qubix_tui.hub import framing
from qubix_tui.hub.outbox import Outbox
from qubix_tui.hub.provider_state import Entry
from qubix_tui.hub.registry import Registry
from qubix_tui.hub.telemetry import Telemetry
from qubix_tui.protocol import channels, codec, events
from qubix_tui.protocol.records import GpuMetrics, Headline, Metrics
from qubix_tui.protocol.types import to_timestamp

STEP_SECONDS = 0.1
"""Intervals are rounded to this, so that there are not too many different ones."""

MAX_REASONS = 8
"""Throttle reasons that a headline names."""

_logger = logging.getLogger("qubix.hub.digest")


def headline(provider_id: str, metrics: Metrics, received: float) -> Headline:
    """Give what a table's row needs of a sample.

    Args:
        provider_id: Whose sample it is.
        metrics: The sample.
        received: When the hub received it, seconds since the epoch.
    """
    gpus = metrics.gpus
    hottest = max((gpu for gpu in gpus if gpu.temp_c is not None), key=_temperature, default=None)
    return Headline(
        provider_id=provider_id,
        timestamp=to_timestamp(received),
        seq=metrics.seq,
        cpu_percent=metrics.cpu_percent,
        ram_percent=metrics.ram_percent,
        gpu_percent=metrics.gpu_percent,
        gpu_temp=metrics.gpu_temp,
        hottest_gpu=hottest.index if hottest else None,
        temp_slowdown_c=hottest.temp_slowdown_c if hottest else None,
        gpu_mem_used_mb=metrics.gpu_mem_used_mb,
        gpu_mem_total_mb=metrics.gpu_mem_total_mb,
        power_w=_sum(gpu.power_w for gpu in gpus),
        power_limit_w=_sum(gpu.power_limit_w for gpu in gpus),
        throttle=_reasons(gpus),
        gpus_lost=sum(gpu.state == "lost" for gpu in gpus) if gpus else None,
    )


def _temperature(gpu: GpuMetrics) -> float:
    return gpu.temp_c if gpu.temp_c is not None else float("-inf")


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _reasons(gpus: Sequence[GpuMetrics]) -> list[str] | None:
    told = [gpu.throttle for gpu in gpus if gpu.throttle is not None]
    if not told:
        return None
    union = dict.fromkeys(reason for reasons in told for reason in reasons if reason != "idle")
    return list(union)[:MAX_REASONS]


class _Page:
    """A page that was made for all subscribers of an interval."""

    __slots__ = ("entries", "frame")

    def __init__(self, entries: Sequence[Entry], frame: bytes) -> None:
        self.entries = entries
        self.frame = frame


class _Tick:
    """The pages of one tick, as they are made."""

    __slots__ = ("pages",)

    def __init__(self) -> None:
        self.pages: list[_Page] = []


class _Feed:
    """What one subscriber has yet to get: the rest of a tick's shared pages, or providers of its own."""

    __slots__ = ("_next", "_own", "_registry", "_telemetry", "_tick", "since")

    def __init__(self, registry: Registry, telemetry: Telemetry) -> None:
        self._registry = registry
        self._telemetry = telemetry
        self._tick: _Tick | None = None
        self._next = 0
        # Everything there is: a new subscriber begins with a full set.
        self._own: dict[Entry, None] = {entry: None for entry in registry if entry.sample}
        self.since = registry.newest_sample
        """Samples up to this one have been given, or will be."""

    @property
    def idle(self) -> bool:
        """Whether everything was read."""
        return not self._own and (self._tick is None or self._next >= len(self._tick.pages))

    def follow(self, tick: _Tick) -> None:
        """Read a tick's pages as they are made."""
        self._tick = tick
        self._next = 0

    def merge(self, entries: Iterable[Entry]) -> None:
        """Add a tick to what is unread. Who waits keeps the place: a slow reader sees all in rotation."""
        if self._tick is not None:
            for page in self._tick.pages[self._next :]:
                self._own.update(dict.fromkeys(page.entries))
            self._tick = None
        self._own.update(dict.fromkeys(entries))

    def next_page(self) -> bytes | None:
        """Give the next page as a frame, None when there is nothing (now)."""
        page = self._take_page()
        if page is None:
            return None
        self._telemetry.sent(events.MARKETPLACE_UPDATE)
        return page.frame

    def _take_page(self) -> "_Page | None":
        if self._tick is not None and self._next < len(self._tick.pages):
            self._next += 1
            return self._tick.pages[self._next - 1]
        return _take_page(self._own, self._registry) if self._own else None


class _Interval:
    """The subscribers of one interval."""

    def __init__(self, seconds: float, since: int) -> None:
        self.seconds = seconds
        self.since = since
        self.members: dict[Outbox, _Feed] = {}
        self.task: asyncio.Task[None] | None = None


class Digests:
    """Who gets the fleet digest, and how often.

    Args:
        registry: The providers and their samples.
        telemetry: Where pages are counted.
    """

    def __init__(self, registry: Registry, telemetry: Telemetry) -> None:
        self._registry = registry
        self._telemetry = telemetry
        self._intervals: dict[float, _Interval] = {}
        self._of: dict[Outbox, _Interval] = {}

    def join(self, outbox: Outbox, seconds: float) -> None:
        """Send the fleet's newest samples to a subscriber, now and every so many seconds.

        A subscriber that had another interval changes to this one.
        """
        self.leave(outbox)
        seconds = max(STEP_SECONDS, round(seconds / STEP_SECONDS) * STEP_SECONDS)
        interval = self._intervals.get(seconds)
        if interval is None:
            interval = self._intervals[seconds] = _Interval(seconds, self._registry.newest_sample)
            interval.task = asyncio.get_running_loop().create_task(self._run(interval), name="digest")
        feed = _Feed(self._registry, self._telemetry)
        interval.members[outbox] = feed
        self._of[outbox] = interval
        outbox.set_background(feed)

    def leave(self, outbox: Outbox) -> None:
        """Send no more digests to a subscriber. One that gets none is no error."""
        interval = self._of.pop(outbox, None)
        if interval is None:
            return
        del interval.members[outbox]
        outbox.set_background(None)
        if not interval.members:
            del self._intervals[interval.seconds]
            if interval.task is not None:
                interval.task.cancel()

    async def close(self) -> None:
        """End all ticks."""
        tasks = [interval.task for interval in self._intervals.values() if interval.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, interval: _Interval) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + interval.seconds
        while True:
            await asyncio.sleep(due - loop.time())
            # A tick that was missed is not made up for: the next one covers it.
            due = max(due + interval.seconds, loop.time())
            try:
                await self._tick(interval)
            except Exception:
                _logger.exception("a digest of %g s failed", interval.seconds)

    async def _tick(self, interval: _Interval) -> None:
        since, interval.since = interval.since, self._registry.newest_sample
        newer = {entry: None for entry in self._registry if entry.sample > since}
        tick = _Tick()
        following: list[tuple[Outbox, _Feed]] = []
        for outbox, feed in tuple(interval.members.items()):
            if feed.idle and feed.since == since:
                feed.follow(tick)
                following.append((outbox, feed))
            else:
                feed.merge(entry for entry in newer if entry.sample > feed.since)
                _pump(outbox)
            feed.since = interval.since
        while newer and following:
            page = _take_page(newer, self._registry)
            if page is None:
                break
            tick.pages.append(page)
            for outbox, feed in following:
                if interval.members.get(outbox) is feed:
                    _pump(outbox)
            await asyncio.sleep(0)


def _pump(outbox: Outbox) -> None:
    if not outbox.congested:
        outbox.pump()


def _take_page(entries: dict[Entry, None], registry: Registry) -> _Page | None:
    """Take as many providers as fit on one page, first come first; those that are gone are passed over."""
    taken: list[Entry] = []
    encoded: list[bytes] = []
    size = 0
    for entry in entries:
        if registry.get(entry.id) is entry:
            line = encoded_headline(entry)
            size += len(line) + 1
            if size > framing.MAX_ITEMS_BYTES:
                break
            encoded.append(line)
        taken.append(entry)
    for entry in taken:
        del entries[entry]
    if not encoded:
        return None
    data = b'{"kind":"metrics","providers":[%b]}' % b",".join(encoded)
    return _Page(taken, framing.page_frame(channels.MARKETPLACE, data))


def encoded_headline(entry: Entry) -> bytes:
    """Give a provider's headline as JSON, encoded once per sample whoever asks."""
    if entry.headline is None or entry.headline[0] != entry.sample:
        assert entry.metrics is not None
        line = codec.encode_record(headline(entry.id, entry.metrics, entry.metrics_at))
        entry.headline = (entry.sample, line)
    return entry.headline[1]
