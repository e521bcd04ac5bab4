"""What the console knows of the whole fleet. No Textual in it.

The hub's messages are merged by provider id: a newer value replaces an older one, and each row counts its
changes so that a screen paints what changed and nothing else. All moments are seconds since the epoch by the
hub's clock.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import msgspec

from qubix_tui.console.gpu_words import temperature_style
from qubix_tui.protocol import events
from qubix_tui.protocol.events import Event, StatusChanged
from qubix_tui.protocol.marketplace import FleetDigest, FleetSnapshot, ProviderRemoved, ProviderUpdated
from qubix_tui.protocol.records import Headline, Provider, ProviderState
from qubix_tui.protocol.types import from_timestamp

STALE_SECONDS: Final = 5.0
"""A sample older than this is of the past."""

SPARK_COLUMNS: Final = 12
SPARK_STEP_SECONDS: Final = 5.0
"""A row's minute: the highest use of each step."""


class Trouble(NamedTuple):
    """What is wrong with a provider; the higher the rank, the more it matters."""

    rank: int
    word: str
    style: str


@dataclass(slots=True)
class Row:
    """One provider: its record, its newest sample, and its last minute."""

    record: Provider
    headline: Headline | None = None
    sampled_at: float | None = None
    reason: str | None = None
    version: int = 0
    """Grows with each change: what was painted for an older one is out of date."""
    spark: deque[float | None] = field(default_factory=lambda: deque(maxlen=SPARK_COLUMNS))
    spark_step: int = 0
    """Number of the newest step since the epoch."""
    _trouble: Trouble | None = None
    _trouble_version: int = -1

    @property
    def name(self) -> str:
        """What people call it."""
        return self.record.name or self.record.id

    @property
    def use(self) -> float | None:
        """Use of its GPUs, percent; None without one, or unknown."""
        return self.headline.gpu_percent if self.headline is not None else None

    def age(self, now: float) -> float | None:
        """Seconds since the hub received its newest sample; None if there never was one."""
        return None if self.sampled_at is None else max(0.0, now - self.sampled_at)

    def is_stale(self, now: float) -> bool:
        """Whether what is shown of it is of the past."""
        age = self.age(now)
        return not self.record.is_online or (age is not None and age > STALE_SECONDS)

    def trouble(self) -> Trouble | None:
        """Say in a word what is wrong with it; None if nothing is."""
        if self._trouble_version != self.version:
            self._trouble, self._trouble_version = self._find_trouble(), self.version
        return self._trouble

    def _find_trouble(self) -> Trouble | None:
        record, headline = self.record, self.headline
        if record.current_job_id is not None and not record.is_online:
            return Trouble(9, "lost job", "hot")
        if headline is not None and record.is_online:
            if headline.gpus_lost:
                return Trouble(8, "GPU lost", "hot")
            heat = temperature_style(headline.gpu_temp, headline.temp_slowdown_c)
            if heat == "hot":
                return Trouble(7, "hot", "hot")
            if headline.throttle:
                return Trouble(6, "slow", "warn")
            if heat == "warn":
                return Trouble(4, "warm", "warn")
        if record.state is ProviderState.UNREACHABLE:
            return Trouble(5, "late", "warn")
        if record.state is ProviderState.OFFLINE:
            return Trouble(2, "gone", "stale")
        return None

    def minute(self, now: float) -> list[float | None]:
        """Give the last minute's use, oldest first, `SPARK_COLUMNS` long; None where nothing is known."""
        missing = min(SPARK_COLUMNS, max(0, int(now // SPARK_STEP_SECONDS) - self.spark_step))
        values = [*self.spark, *[None] * missing][-SPARK_COLUMNS:]
        return [None] * (SPARK_COLUMNS - len(values)) + values

    def measure(self, headline: Headline) -> None:
        """Take in a sample."""
        self.headline = headline
        self.sampled_at = from_timestamp(headline.timestamp)
        self.version += 1
        step = int(self.sampled_at // SPARK_STEP_SECONDS)
        if not self.spark or step > self.spark_step + SPARK_COLUMNS:
            self.spark.clear()
            self.spark.append(headline.gpu_percent)
        elif step > self.spark_step:
            self.spark.extend([None] * (step - self.spark_step - 1))
            self.spark.append(headline.gpu_percent)
        elif step == self.spark_step and headline.gpu_percent is not None:
            self.spark[-1] = max(self.spark[-1] or 0.0, headline.gpu_percent)
        self.spark_step = max(step, self.spark_step)


def measured(get: Callable[[Headline], float | None]) -> Callable[[Row], float | None]:
    """Give what reads a value of a row's newest sample; None where there is no sample."""
    return lambda row: None if row.headline is None else get(row.headline)


class Summary(NamedTuple):
    """The fleet in a line."""

    providers: int
    states: dict[ProviderState, int]
    simulated: int
    gpus: int
    use: float | None
    """Mean over the GPUs that tell, percent."""
    hottest: float | None
    hottest_name: str | None
    hottest_style: str
    earning: float
    """Price per hour of all that are busy."""
    jobs: int
    """How many have a job."""
    oldest_at: float | None
    """Hub time of the oldest of the newest samples of all that are online."""


class Fleet:
    """All providers that the hub told of.

    Args:
        clock: The hub's time, seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.now = clock
        self.rows: dict[str, Row] = {}
        self.newest_at: float | None = None
        """When the hub received the newest sample of all."""
        self.is_loaded = False
        """Whether a whole snapshot has come."""
        self.change_count = 0
        """How often any row changed, came or went."""
        self.record_count = 0
        """How often that was more than a new sample: a record, a state, who is there."""
        self._changed: set[str] = set()
        self._members_changed = False
        self._staged: dict[str, Provider] = {}

    def take(self, event: Event) -> None:
        """Take in one of the hub's messages; those about something else are left alone."""
        match event.data:
            case FleetDigest(providers=headlines):
                self._take_digest(headlines)
            case FleetSnapshot() as page:
                self._take_snapshot(page)
            case StatusChanged() as change:
                self._take_status(change)
            case ProviderUpdated(provider=provider):
                self._put(provider)
            case ProviderRemoved(provider_id=provider_id):
                self._remove(provider_id)
            case Provider() as provider if event.type == events.PROVIDER_REGISTERED:
                self._put(provider)

    def take_changes(self) -> tuple[set[str], bool]:
        """Give which rows changed since the last call, and whether any came or went."""
        changed, self._changed = self._changed, set()
        members, self._members_changed = self._members_changed, False
        return changed, members

    def frozen(self) -> "Fleet":
        """Give the fleet as it is now: what comes later does not change it, and its time stands still."""
        now = self.now()
        copy = Fleet(lambda: now)
        copy.rows = {key: replace(row, spark=row.spark.copy()) for key, row in self.rows.items()}
        copy.newest_at, copy.is_loaded, copy.change_count = self.newest_at, self.is_loaded, self.change_count
        copy.record_count = self.record_count
        return copy

    def summary(self, rows: Iterable[Row] | None = None) -> Summary:
        """Add the fleet up."""
        states = dict.fromkeys(ProviderState, 0)
        count = simulated = gpus = measured = jobs = 0
        oldest: float | None = None
        use_sum = earning = 0.0
        hottest: float | None = None
        hottest_row: Row | None = None
        for row in self.rows.values() if rows is None else rows:
            record, headline = row.record, row.headline
            count += 1
            states[record.state] += 1
            simulated += record.simulated
            gpus += record.gpu_count or 0
            jobs += record.current_job_id is not None
            if record.state is ProviderState.BUSY:
                earning += record.price_per_hour or 0.0
            if headline is None or not record.is_online:
                continue
            if oldest is None or (row.sampled_at or 0.0) < oldest:
                oldest = row.sampled_at
            if headline.gpu_percent is not None:
                use_sum += headline.gpu_percent * (record.gpu_count or 1)
                measured += record.gpu_count or 1
            if headline.gpu_temp is not None and (hottest is None or headline.gpu_temp > hottest):
                hottest, hottest_row = headline.gpu_temp, row
        hottest_name, style = None, "value"
        if hottest_row is not None and hottest_row.headline is not None:
            index = hottest_row.headline.hottest_gpu
            many = (hottest_row.record.gpu_count or 0) > 1
            hottest_name = f"{hottest_row.name}/{index}" if many and index is not None else hottest_row.name
            style = temperature_style(hottest, hottest_row.headline.temp_slowdown_c)
        use = use_sum / measured if measured else None
        return Summary(
            count, states, simulated, gpus, use, hottest, hottest_name, style, earning, jobs, oldest
        )

    def _take_digest(self, headlines: Iterable[Headline]) -> None:
        for headline in headlines:
            row = self.rows.get(headline.provider_id)
            if row is not None:
                row.measure(headline)
                self.newest_at = max(self.newest_at or 0.0, row.sampled_at or 0.0)
                self._changed.add(headline.provider_id)
                self.change_count += 1

    def _take_snapshot(self, page: FleetSnapshot) -> None:
        if page.page <= 1:
            self._staged = {}
        self._staged.update((provider.id, provider) for provider in page.providers)
        if page.page < page.pages:
            return
        staged, self._staged = self._staged, {}
        for provider_id in self.rows.keys() - staged.keys():
            del self.rows[provider_id]
        for provider in staged.values():
            self._put(provider)
        self._members_changed = self.is_loaded = True
        self.record_count += 1

    def _put(self, provider: Provider) -> None:
        row = self.rows.get(provider.id)
        if row is None:
            self.rows[provider.id] = Row(provider)
            self._members_changed = True
        else:
            if provider.state is not row.record.state:
                row.reason = None
            row.record = provider
            row.version += 1
        self._touch(provider.id)

    def _take_status(self, change: StatusChanged) -> None:
        row = self.rows.get(change.provider_id)
        if row is None:
            return
        row.record = _with_status(row.record, change)
        row.reason = change.status.reason
        row.version += 1
        self._touch(change.provider_id)

    def _remove(self, provider_id: str) -> None:
        if provider_id in self.rows:
            del self.rows[provider_id]
            self._members_changed = True
            self.change_count += 1
            self.record_count += 1

    def _touch(self, provider_id: str) -> None:
        self._changed.add(provider_id)
        self.change_count += 1
        self.record_count += 1


def _with_status(record: Provider, change: StatusChanged) -> Provider:
    status = change.status
    return msgspec.structs.replace(
        record,
        state=status.state,
        is_online=status.is_online,
        is_available=status.is_available,
        current_job_id=status.current_job_id,
        last_heartbeat=status.last_heartbeat or record.last_heartbeat,
    )
