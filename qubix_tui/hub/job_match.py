"""Which provider gets a job, and why none does.

A provider has to meet every rule. Of those that do, the cheapest is taken, of equally cheap ones the one that
lost the fewest jobs, of these the one that has been idle longest. Who failed this very job comes last.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from qubix_tui.hub.job_state import StoredJob
from qubix_tui.hub.provider_state import Entry
from qubix_tui.protocol.answers import Match, MatchRule
from qubix_tui.protocol.checks import printable
from qubix_tui.protocol.errors import ProtocolError
from qubix_tui.protocol.job_records import Job, Receipt
from qubix_tui.protocol.params import check_params
from qubix_tui.protocol.reasons import JobReason, reason_word
from qubix_tui.protocol.records import Provider, ProviderState, Workload

RECORDS_TABLE: Final = "provider_records"
"""How each provider did with its jobs."""

_FAULTS: Final = frozenset(
    {
        JobReason.LOST,
        JobReason.LEASE_EXPIRED,
        JobReason.REFUSED,
        JobReason.ACCEPT_TIMEOUT,
        JobReason.AGENT_RESTARTED,
        JobReason.NOT_STARTED,
        JobReason.UNKILLABLE,
    }
)
"""How an attempt ends through its provider, and not through the job."""

_PARAMS: Final = "params"

_BATCH: Final = 500
"""Providers that are looked at between two turns of the event loop, for an explanation."""


class TrackRecord(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How a provider did with its jobs."""

    attempts: int = 0
    faults: int = 0
    """Those of them that it lost."""
    idle_since: float = 0.0
    """When its last one ended (seconds since the epoch)."""

    def after(self, receipt: Receipt, now: float) -> "TrackRecord":
        """Give the record with one more attempt."""
        fault = reason_word(receipt.reason) in _FAULTS
        return TrackRecord(attempts=self.attempts + 1, faults=self.faults + fault, idle_since=now)

    @property
    def fault_share(self) -> float:
        """How many of its jobs it lost, in tenths: small differences are chance."""
        return round(self.faults / self.attempts, 1) if self.attempts else 0.0


NO_RECORD: Final = TrackRecord()


Connected = Callable[[Entry], bool]
"""Tells whether a provider's agent is connected, to whichever hub."""


class Rule(NamedTuple):
    """One thing that a provider has to be."""

    name: str
    passes: Callable[[Entry], bool]
    miss: Callable[[Entry], str]
    """What is wrong with one that is not, and what would change it."""


def order(record: TrackRecord, provider: Provider) -> tuple[float, float, float]:
    """Give the key by which providers are tried for a job."""
    price = provider.price_per_hour
    return float("inf") if price is None else price, record.fault_share, record.idle_since


def eligible(job: Job, candidates: Iterable[Entry], connected: Connected) -> list[Entry]:
    """Give the providers that meet every rule but those about the job's parameters, in their order."""
    rules = [rule for rule in rules_of(job, connected) if rule.name != _PARAMS]
    return [entry for entry in candidates if all(rule.passes(entry) for rule in rules)]


def choose(stored: StoredJob, candidates: Iterable[Entry]) -> Entry | None:
    """Give the first of the eligible providers that takes a job's parameters.

    Args:
        stored: The job.
        candidates: Those that are `eligible`, in the order in which they are to be tried.
    """
    last: dict[str, Entry] = {}
    for entry in candidates:
        if entry.id in stored.failed_on:
            last[entry.id] = entry
        elif _params_miss(entry, stored.job) is None:
            return entry
    failed = (last[provider_id] for provider_id in stored.failed_on if provider_id in last)
    return next((entry for entry in failed if _params_miss(entry, stored.job) is None), None)


def rules_of(job: Job, connected: Connected) -> list[Rule]:
    """Give what a provider has to be for a job."""
    return [*_asked(job), *_offering(job), *_ready(connected)]


def _asked(job: Job) -> Iterable[Rule]:
    """What the job itself asks for."""
    wanted = job.requires
    chosen, model, memory, price = (
        wanted.provider_id,
        wanted.gpu_model,
        wanted.min_gpu_mem_mb,
        wanted.max_price_per_hour,
    )
    yield Rule(
        "simulated",
        lambda entry: entry.stored.provider.simulated is wanted.simulated,
        lambda entry: f"{entry.id} is {'a real' if wanted.simulated else 'a simulated'} provider",
    )
    if chosen is not None:
        yield Rule(
            "provider",
            lambda entry: entry.id == chosen,
            lambda entry: f"{entry.id} is not {chosen}; without that wish it could be taken",
        )
    if model is not None:
        yield Rule(
            "gpu_model",
            lambda entry: model.lower() in (entry.stored.provider.gpu_model or "").lower(),
            lambda entry: f"{entry.id} has {entry.stored.provider.gpu_model or 'no known GPU'}, not {model}",
        )
    if memory is not None:
        yield Rule(
            "gpu_memory",
            lambda entry: (gpu_memory_mb(entry.stored.provider) or 0) >= memory,
            lambda entry: _memory_miss(entry, memory),
        )
    if price is not None:
        yield Rule("price", lambda entry: _affordable(entry, price), lambda entry: _price_miss(entry, price))


def _offering(job: Job) -> Iterable[Rule]:
    """What the provider's owner has to allow."""
    yield Rule(
        "workload",
        lambda entry: workload_of(entry.stored.provider, job.workload) is not None,
        lambda entry: f"{entry.id} does not offer {job.workload}; {offers(entry)}",
    )
    yield Rule(
        _PARAMS,
        # Of one that does not offer the workload there is nothing to say here.
        lambda entry: _params_miss(entry, job) is None,
        lambda entry: f"{entry.id}: {_params_miss(entry, job)}",
    )


def _ready(connected: Connected) -> Iterable[Rule]:
    """What it has to be at the moment."""
    yield Rule(
        "online",
        lambda entry: entry.state.is_online and connected(entry),
        lambda entry: f"{entry.id} is {'not connected' if entry.state.is_online else entry.state.value}",
    )
    yield Rule("available", _is_free, _busy_miss)


def _is_free(entry: Entry) -> bool:
    return not entry.stored.paused and entry.stored.provider.current_job_id is None


def _busy_miss(entry: Entry) -> str:
    current = entry.stored.provider.current_job_id
    if current is not None:
        return f"{entry.id} has {current}, and is free when that is over"
    return f"{entry.id} is {ProviderState.PAUSED.value}: {entry.stored.reason or 'its owner keeps it'}"


def workload_of(provider: Provider, name: str) -> Workload | None:
    """Give a provider's declaration of a workload, None where it does not offer it."""
    return next((workload for workload in provider.workloads if workload.name == name), None)


def gpu_memory_mb(provider: Provider) -> int | None:
    """Give the memory of a provider's largest GPU in MiB; None where it is not known."""
    known = [gpu.mem_total_mb for gpu in provider.gpus if gpu.mem_total_mb is not None]
    if known:
        return max(known)
    if provider.gpu_mem_total_mb is None or not provider.gpu_count:
        return None
    return provider.gpu_mem_total_mb // provider.gpu_count


def _memory_miss(entry: Entry, wanted: int) -> str:
    memory = gpu_memory_mb(entry.stored.provider)
    has = "GPUs of unknown memory" if memory is None else f"a GPU with {memory} MiB"
    return f"{entry.id} has {has}; {wanted} MiB are asked for"


def _affordable(entry: Entry, most: float) -> bool:
    price = entry.stored.provider.price_per_hour
    return price is not None and price <= most


def _price_miss(entry: Entry, most: float) -> str:
    price = entry.stored.provider.price_per_hour
    if price is None:
        return f"{entry.id} names no price; a job without a highest price could be taken"
    return f"{entry.id} takes {price:.10g} an hour; {most:.10g} is the most that the job pays"


def _params_miss(entry: Entry, job: Job) -> str | None:
    workload = workload_of(entry.stored.provider, job.workload)
    if workload is None:
        return None
    try:
        check_params(workload, job.params, foreign_patterns=True)
    except ProtocolError as error:
        return error.message
    return None


def offers(entry: Entry) -> str:
    """Say what a provider offers."""
    names = ", ".join(workload.name for workload in entry.stored.provider.workloads)
    return f"it offers {printable(names, 200)}" if names else "it offers nothing"


async def explain(stored: StoredJob, providers: Sequence[Entry], connected: Connected, now: float) -> Match:
    """Tell, rule by rule, how many providers would do, and how near the nearest of the others comes.

    Args:
        stored: A job that waits.
        providers: All that there are.
        connected: Which of them can be told something.
        now: Seconds since the epoch.
    """
    rules = rules_of(stored.job, connected)
    passing = [0] * len(rules)
    nearest: list[tuple[int, Entry] | None] = [None] * len(rules)
    closest: tuple[int, Entry, Rule] | None = None
    whole = 0
    for number, entry in enumerate(providers, 1):
        if number % _BATCH == 0:
            await asyncio.sleep(0)
        missed = [index for index, rule in enumerate(rules) if not rule.passes(entry)]
        whole += not missed
        for index in range(len(rules)):
            passing[index] += index not in missed
        for index in missed:
            held = nearest[index]
            if held is None or len(missed) < held[0]:
                nearest[index] = (len(missed), entry)
        if missed and (closest is None or len(missed) < closest[0]):
            closest = (len(missed), entry, rules[missed[0]])
    answers = [
        MatchRule(rule=rule.name, passing=count, nearest=near and rule.miss(near[1])[:1024])
        for rule, count, near in zip(rules, passing, nearest, strict=True)
    ]
    answers.append(_sum_up(whole, closest))
    if stored.not_before > now:
        wait = f"the next attempt is due in {stored.not_before - now:.0f} s"
        answers.append(MatchRule(rule="delay", passing=0, nearest=wait))
    return Match(job_id=stored.job.id, providers=len(providers), rules=answers)


def _sum_up(whole: int, closest: tuple[int, Entry, Rule] | None) -> MatchRule:
    if whole:
        words = "a provider is there: it is this job's turn next, or after those that came before it"
    elif closest is None:
        words = "no provider has registered yet"
    else:
        missed, entry, rule = closest
        others = {1: "", 2: "; one more rule is not met"}.get(
            missed, f"; {missed - 1} more rules are not met"
        )
        words = f"{rule.miss(entry)}{others}"
    return MatchRule(rule="all", passing=whole, nearest=words[:1024])
