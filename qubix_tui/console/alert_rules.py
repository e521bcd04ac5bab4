"""The alert rules that are there from the start, and those that somebody wrote. No Textual in it."""

from collections.abc import Mapping
from typing import Final

from qubix_tui.console.alerts import Condition, JobRule, ProviderRule, Rule
from qubix_tui.console.fleet import Row
from qubix_tui.console.format import format_duration, format_temp
from qubix_tui.console.query_eval import FIELDS, compiled
from qubix_tui.console.query_syntax import parse
from qubix_tui.console.settings import AlertRule, AlertSettings
from qubix_tui.protocol.job_records import JobState

COOLER_CELSIUS: Final = 3.0
"""A GPU that was hot is so until it is cooler than the limit by more than this."""


def rules_of(settings: AlertSettings, own: Mapping[str, AlertRule]) -> list[Rule]:
    """Give the rules that hold.

    Args:
        settings: Which of ours, and from where on.
        own: Those that the user wrote, by name.
    """
    ours = _ours(settings)
    return [
        *(rule for name, rule in ours.items() if name not in settings.off),
        *(_own(name, rule) for name, rule in own.items()),
    ]


def _ours(settings: AlertSettings) -> dict[str, Rule]:
    return {
        "hot": _hot(settings),
        "lost": ProviderRule(
            name="provider lost",
            when=_is_lost_while_busy,
            words=_lost_words,
            style="hot",
            rings=settings.bell,
        ),
        "gpu-lost": ProviderRule(
            name="GPU lost",
            when=_has_lost_gpus,
            until=_has_all_gpus,
            words=_lost_gpu_words,
            style="hot",
            rings=settings.bell,
        ),
        "job-failed": JobRule(name="job failed", states=frozenset({JobState.FAILED}), rings=settings.bell),
    }


def _own(name: str, rule: AlertRule) -> ProviderRule:
    return ProviderRule(
        name=name,
        when=_condition(rule.when),
        until=_condition(rule.until) if rule.until else None,
        seconds=rule.seconds,
        words=lambda _: rule.when if not rule.seconds else f"{rule.when} for {format_duration(rule.seconds)}",
        rings=rule.bell,
    )


def _condition(query: str) -> Condition:
    return compiled(parse(query, FIELDS))


def _hot(settings: AlertSettings) -> ProviderRule:
    limit, lasts = settings.hot_c, settings.hot_seconds

    def is_hot(row: Row) -> bool:
        temperature = _temperature(row)
        return temperature is not None and temperature >= limit

    def is_cool(row: Row) -> bool:
        temperature = _temperature(row)
        return temperature is not None and temperature < limit - COOLER_CELSIUS

    def words(row: Row) -> str:
        index = row.headline.hottest_gpu if row.headline is not None else None
        which = "" if index is None else f" {index}"
        since = f" for {format_duration(lasts)}" if lasts else ""
        return f"GPU{which} {format_temp(_temperature(row))}, {limit:g}° or more{since}"

    return ProviderRule(
        name="GPU hot",
        when=is_hot,
        until=is_cool,
        seconds=lasts,
        words=words,
        style="hot",
        rings=settings.bell,
    )


def _temperature(row: Row) -> float | None:
    """The hottest GPU's, °C; None where it is not known, or no longer of now."""
    return row.headline.gpu_temp if row.headline is not None and row.record.is_online else None


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
