"""Alerts while somebody watches: rules about providers and jobs, what they found, and when that ended.

Pure: it is told what the hub said and what time it is. A rule is looked at where something changed, and
nowhere else. No Textual in it.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from qubix_tui.console.fleet import Row
from qubix_tui.console.format import safe
from qubix_tui.protocol.job_records import Job, JobState

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
    _held: dict[str, dict[int, _Held]] = field(default_factory=dict)
    """By provider and number of the rule: what is so, and nothing of all that is not."""
    _provider_rules: list[tuple[int, ProviderRule]] = field(init=False)
    _jobs: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_ALERTS))
    """Jobs that were told of already."""

    def __post_init__(self) -> None:
        self._provider_rules = [
            (number, rule) for number, rule in enumerate(self.rules) if isinstance(rule, ProviderRule)
        ]

    @property
    def open(self) -> int:
        """How many are not over."""
        return sum(state.alert is not None for held in self._held.values() for state in held.values())

    def look(self, row: Row, now: float) -> list[Alert]:
        """Look at a provider of which something changed, and give what is new about it.

        Args:
            row: The provider, as it is now.
            now: Hub time, seconds since the epoch.
        """
        provider_id = row.record.id
        held = self._held.get(provider_id)
        found: list[Alert] = []
        for number, rule in self._provider_rules:
            state = held.get(number) if held is not None else None
            if state is None:
                if not rule.when(row):
                    continue
                held = self._held.setdefault(provider_id, {})
                state = held[number] = _Held(since=now, seen=now)
            elif state.alert is not None:
                if self._is_over(rule, row):
                    state.alert.ended = now
                    self._forget(provider_id, number)
                continue
            elif not self._goes_on(rule, row, state, now):
                self._forget(provider_id, number)
                continue
            state.seen = now
            if now - state.since >= rule.seconds:
                state.alert = self._tell(rule, f"{row.name}: {rule.words(row)}", now, provider_id=provider_id)
                found.append(state.alert)
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
        for state in self._held.pop(provider_id, {}).values():
            if state.alert is not None:
                state.alert.ended = now

    def _forget(self, provider_id: str, number: int) -> None:
        held = self._held[provider_id]
        del held[number]
        if not held:
            del self._held[provider_id]

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
