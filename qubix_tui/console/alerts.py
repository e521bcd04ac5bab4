"""Alerts while somebody watches: rules about providers and jobs, what they found, and when that ended.

Pure: it is told what the hub said and what time it is. A rule is looked at where something changed, and
nowhere else. No Textual in it.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from qubix_tui.console.fleet import Row
from qubix_tui.console.format import format_duration, format_temp, safe
from qubix_tui.protocol.records import Job, JobState

KEPT_ALERTS: Final = 200

GAP_SECONDS: Final = 15.0
"""Two samples further apart than this say nothing of the time between them."""

Condition = Callable[[Row], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRule:
    """Something about a provider that somebody wants to be told."""

    name: str
    """In a few words, as it is listed: ``GPU hot``."""
    when: Condition
    """Whether it is so."""
    until: Condition | None = None
    """Whether it is over; None where that is as soon as it is no longer so. With a margin between the two a
    value that wavers is told once."""
    seconds: float = 0.0
    """How long it has to be so, in samples that came without a gap."""
    words: Callable[[Row], str]
    """What is so, in words, beside the provider's name."""
    style: str = "warn"
    rings: bool = False
    """Whether the terminal's bell is rung."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRule:
    """Something about a job that somebody wants to be told, once."""

    name: str
    states: frozenset[JobState]
    """Which it gets into."""
    style: str = "hot"
    rings: bool = False


Rule = ProviderRule | JobRule


@dataclass(slots=True, kw_only=True)
class Alert:
    """What a rule found."""

    number: int
    """Grows by one."""
    moment: float
    """When, hub time, seconds since the epoch."""
    rule: str
    text: str
    """The cause, in words that are harmless to show."""
    style: str
    rings: bool
    provider_id: str | None = None
    job_id: str | None = None
    is_moment: bool = False
    """Whether it is over as soon as it is told: a job that failed."""
    ended: float | None = None
    """When it was over; None where it is not."""


@dataclass(slots=True)
class _Held:
    """Where a rule is with a provider."""

    since: float
    seen: float
    alert: Alert | None = None


@dataclass(slots=True)
class Alerts:
    """Keeps to the rules.

    Args:
        rules: What is wanted.
    """

    rules: Sequence[Rule]
    kept: deque[Alert] = field(default_factory=lambda: deque(maxlen=KEPT_ALERTS))
    """The newest `KEPT_ALERTS`, oldest first."""
    count: int = 0
    """How many there ever were."""
    _held: dict[tuple[int, str], _Held] = field(default_factory=dict)
    _jobs: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_ALERTS))
    """Jobs that were told of already."""

    @property
    def open(self) -> int:
        """How many are not over."""
        return sum(held.alert is not None for held in self._held.values())

    def look(self, row: Row, now: float) -> list[Alert]:
        """Look at a provider of which something changed, and give what is new about it.

        Args:
            row: The provider, as it is now.
            now: Hub time, seconds since the epoch.
        """
        found = []
        provider_id = row.record.id
        for number, rule in enumerate(self.rules):
            if isinstance(rule, JobRule):
                continue
            key = number, provider_id
            held = self._held.get(key)
            if held is None:
                if not rule.when(row):
                    continue
                held = self._held[key] = _Held(since=now, seen=now)
            elif held.alert is None and not self._goes_on(rule, row, held, now):
                del self._held[key]
                continue
            elif held.alert is not None:
                if self._is_over(rule, row):
                    held.alert.ended = now
                    del self._held[key]
                continue
            held.seen = now
            if now - held.since >= rule.seconds:
                held.alert = self._tell(rule, f"{row.name}: {rule.words(row)}", now, provider_id=provider_id)
                found.append(held.alert)
        return found

    def look_at_job(self, job: Job, now: float) -> list[Alert]:
        """Look at a job that moved on, and give what is new about it."""
        if job.id in self._jobs:
            return []
        found = []
        for rule in self.rules:
            if isinstance(rule, JobRule) and job.state in rule.states:
                why = f": {job.reason}" if job.reason else ""
                text = f"job {job.id} ({job.workload}) {job.state}{why}"
                found.append(self._tell(rule, text, now, provider_id=job.provider_id, job_id=job.id))
        if found:
            self._jobs.append(job.id)
        return found

    def forget(self, provider_id: str, now: float) -> None:
        """A provider is gone for good: what was so of it is over."""
        for number in range(len(self.rules)):
            held = self._held.pop((number, provider_id), None)
            if held is not None and held.alert is not None:
                held.alert.ended = now

    @staticmethod
    def _goes_on(rule: ProviderRule, row: Row, held: _Held, now: float) -> bool:
        """Whether what has yet to last is still so, and was all the time."""
        if not rule.when(row):
            return False
        if now - held.seen > GAP_SECONDS:
            held.since = now
        return True

    @staticmethod
    def _is_over(rule: ProviderRule, row: Row) -> bool:
        return not rule.when(row) if rule.until is None else rule.until(row)

    def _tell(
        self,
        rule: Rule,
        text: str,
        now: float,
        *,
        provider_id: str | None = None,
        job_id: str | None = None,
    ) -> Alert:
        self.count += 1
        alert = Alert(
            number=self.count,
            moment=now,
            rule=rule.name,
            text=safe(text),
            style=rule.style,
            rings=rule.rings,
            is_moment=isinstance(rule, JobRule),
            provider_id=provider_id,
            job_id=job_id,
        )
        self.kept.append(alert)
        return alert


HOT_CELSIUS: Final = 85.0
HOT_SECONDS: Final = 30.0
COOL_CELSIUS: Final = 82.0
"""A GPU that was hot is so until it is cooler than this."""


def _temperature(row: Row) -> float | None:
    """The hottest GPU's, °C; None where it is not known, or no longer of now."""
    return row.headline.gpu_temp if row.headline is not None and row.record.is_online else None


def _is_hot(row: Row) -> bool:
    temperature = _temperature(row)
    return temperature is not None and temperature >= HOT_CELSIUS


def _is_cool(row: Row) -> bool:
    temperature = _temperature(row)
    return temperature is not None and temperature < COOL_CELSIUS


def _hot_words(row: Row) -> str:
    index = row.headline.hottest_gpu if row.headline is not None else None
    which = "" if index is None else f" {index}"
    limit = f"{HOT_CELSIUS:.0f}° or more for {format_duration(HOT_SECONDS)}"
    return f"GPU{which} {format_temp(_temperature(row))}, {limit}"


def _is_lost_while_busy(row: Row) -> bool:
    return row.record.current_job_id is not None and not row.record.is_online


def _lost_words(row: Row) -> str:
    why = f" ({row.reason})" if row.reason else ""
    return f"{row.record.state}{why} while it has {row.record.current_job_id}"


def _has_lost_gpus(row: Row) -> bool:
    return row.record.is_online and row.headline is not None and bool(row.headline.gpus_lost)


def _has_all_gpus(row: Row) -> bool:
    return row.record.is_online and row.headline is not None and not row.headline.gpus_lost


def _lost_gpu_words(row: Row) -> str:
    count = row.headline.gpus_lost if row.headline is not None else None
    return f"{count} of {row.record.gpu_count or '?'} GPUs lost: the driver no longer answers for them"


def default_rules() -> dict[str, Rule]:
    """Give the rules that hold unless somebody has others, by the names that settings know them by."""
    return {
        "hot": ProviderRule(
            name="GPU hot",
            when=_is_hot,
            until=_is_cool,
            seconds=HOT_SECONDS,
            words=_hot_words,
            style="hot",
        ),
        "lost": ProviderRule(name="provider lost", when=_is_lost_while_busy, words=_lost_words, style="hot"),
        "gpu-lost": ProviderRule(
            name="GPU lost", when=_has_lost_gpus, until=_has_all_gpus, words=_lost_gpu_words, style="hot"
        ),
        "job-failed": JobRule(name="job failed", states=frozenset({JobState.FAILED})),
    }
