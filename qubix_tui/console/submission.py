"""A job that somebody is about to submit: what was typed, what is wrong with it, and who could take it.

No Textual in it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from qubix_tui.console.format import MIB_PER_GIB, format_price
from qubix_tui.protocol.channels import is_id
from qubix_tui.protocol.errors import ProtocolError
from qubix_tui.protocol.job_records import Requirements
from qubix_tui.protocol.params import check_params, param_text
from qubix_tui.protocol.records import Provider, Workload, WorkloadParam
from qubix_tui.protocol.requests import SubmitJob

BOOLEANS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}

MAX_RETRIES: Final = 100

_TYPE_WORDS: Final = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}


class DraftError(ValueError):
    """Something typed can't be taken.

    Args:
        field: The name of the field.
        message: What would be right.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class Preview(NamedTuple):
    """Who could take a job now, as far as the console can tell: the hub decides."""

    matching: int
    offering: int
    """Those of all that offer the workload, whatever they do now."""
    least: float | None
    """The lowest price per hour; None where none that matches tells one."""
    most: float | None


@dataclass(slots=True)
class Draft:
    """The fields of the form, as they were typed."""

    workload: Workload | None = None
    params: dict[str, str] = field(default_factory=dict)
    gpu: str = ""
    memory: str = ""
    """GiB of one GPU."""
    price: str = ""
    """At most, per hour."""
    provider: str = ""
    simulated: bool = False
    timeout: str = ""
    """Seconds."""
    retries: str = ""

    def requires(self) -> Requirements:
        """Give what the job asks of its provider.

        Raises:
            DraftError: A field can't be taken.
        """
        memory = _number("memory", self.memory, "GiB")
        provider = self.provider.strip()
        if provider and not is_id(provider):
            raise DraftError("provider", "provider: expected an id, as the fleet's details show it")
        return Requirements(
            gpu_model=self.gpu.strip() or None,
            min_gpu_mem_mb=None if memory is None else round(memory * MIB_PER_GIB),
            max_price_per_hour=_number("price", self.price, "a price per hour"),
            provider_id=provider or None,
            simulated=self.simulated,
        )

    def job(self) -> SubmitJob:
        """Give what is to be submitted.

        Raises:
            DraftError: A field can't be taken, or is missing.
        """
        if self.workload is None:
            raise DraftError("workload", "workload: choose one")
        given = {
            param.name: value_of(param, self.params.get(param.name, ""))
            for param in self.workload.params
            if self.params.get(param.name, "").strip()
        }
        try:
            # Patterns were written by the workload's owner: those that may take hours are for the agent.
            check_params(self.workload, given, foreign_patterns=True)
        except ProtocolError as error:
            name = (error.field or "").removeprefix("data.params.")
            raise DraftError(f"param-{name}", error.message) from None
        retries = _number("retries", self.retries, "a whole number")
        if retries is not None and (retries != int(retries) or retries > MAX_RETRIES):
            raise DraftError("retries", f"retries: expected a whole number up to {MAX_RETRIES}")
        return SubmitJob(
            workload=self.workload.name,
            params=given,
            requires=self.requires(),
            timeout_seconds=_number("timeout", self.timeout, "seconds"),
            retries=int(retries or 0),
        )


def value_of(param: WorkloadParam, text: str) -> object:
    """Read a parameter's value as it was typed.

    Raises:
        DraftError: It is not of the declared type.
    """
    typed = text.strip()
    try:
        match param.type:
            case "integer":
                return int(typed)
            case "number":
                return float(typed)
            case "boolean":
                return BOOLEANS[typed.lower()]
            case _:
                return text
    except (ValueError, KeyError):
        raise DraftError(f"param-{param.name}", f"{param.name}: expected {_TYPE_WORDS[param.type]}") from None


def hint(param: WorkloadParam) -> str:
    """Say in a few words what a parameter takes."""
    words: list[str] = []
    if param.choices is not None:
        words.append(" or ".join(str(choice) for choice in param.choices))
    else:
        words.append(_TYPE_WORDS[param.type])
    if param.min is not None:
        words.append(f"from {param.min:g}")
    if param.max is not None:
        words.append(f"up to {param.max:g}")
    words.append("needed" if param.default is None else f"else {_default_text(param)}")
    return ", ".join(words)


def _default_text(param: WorkloadParam) -> str:
    return param_text(param.default) if isinstance(param.default, (str, int, float)) else str(param.default)


def offered(providers: Iterable[Provider]) -> dict[str, Workload]:
    """Give the workloads that some providers offer, by name; of two declarations of a name the first."""
    workloads: dict[str, Workload] = {}
    for provider in providers:
        for workload in provider.workloads:
            workloads.setdefault(workload.name, workload)
    return dict(sorted(workloads.items()))


def preview(requires: Requirements, workload: str | None, providers: Iterable[Provider]) -> Preview:
    """Give who could take a job now.

    Args:
        requires: What the job asks for.
        workload: What is to run; None for anything.
        providers: All there are.
    """
    offering = [
        one for one in providers if workload is None or any(known.name == workload for known in one.workloads)
    ]
    matching = [one for one in offering if _fits(requires, one)]
    prices = [one.price_per_hour for one in matching if one.price_per_hour is not None]
    return Preview(len(matching), len(offering), min(prices, default=None), max(prices, default=None))


def preview_words(seen: Preview) -> str:
    """Say who could take a job now, and what it would cost."""
    if not seen.matching:
        return f"No provider matches now (of {seen.offering} that offer it); the job would wait."
    count = "1 provider matches" if seen.matching == 1 else f"{seen.matching} providers match"
    if seen.least is None or seen.most is None:
        return f"{count} now; what it would cost is not known."
    prices = format_price(seen.least)
    if seen.most != seen.least:
        prices = f"{prices} to {format_price(seen.most)}"
    return f"{count} now; an hour costs {prices}, the cheapest is taken first."


def _fits(requires: Requirements, provider: Provider) -> bool:
    model, price = requires.gpu_model, provider.price_per_hour
    most = requires.max_price_per_hour
    return (
        provider.is_available
        and provider.simulated is requires.simulated
        and (requires.provider_id is None or provider.id == requires.provider_id)
        and (model is None or model.lower() in (provider.gpu_model or "").lower())
        and (requires.min_gpu_mem_mb is None or _memory(provider) >= requires.min_gpu_mem_mb)
        and (most is None or (price is not None and price <= most))
    )


def _memory(provider: Provider) -> int:
    """Give the memory of a provider's largest GPU, MiB; of like ones where they are not told one by one."""
    told = max((gpu.mem_total_mb or 0 for gpu in provider.gpus), default=0)
    return told or (provider.gpu_mem_total_mb or 0) // max(1, provider.gpu_count or 1)


def _number(name: str, text: str, what: str) -> float | None:
    typed = text.strip()
    if not typed:
        return None
    try:
        value = float(typed)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise DraftError(name, f"{name}: expected {what}")
    return value
