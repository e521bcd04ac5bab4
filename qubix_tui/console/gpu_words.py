"""One GPU in words and numbers. No Textual in it."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from qubix_tui.console.format import (
    MIB_PER_GIB,
    UNKNOWN,
    format_age,
    format_mem,
    format_percent,
    format_power,
    format_rate,
    format_temp,
    safe,
)
from qubix_tui.protocol.records import GpuInfo, GpuMetrics

WARM_BELOW_SLOWDOWN: Final = 13.0
HOT_BELOW_SLOWDOWN: Final = 3.0
WARM_WITHOUT_SLOWDOWN: Final = 70.0
HOT_WITHOUT_SLOWDOWN: Final = 83.0

_JOULES_PER_KWH: Final = 3.6e6


class Fact(NamedTuple):
    """One value of a table."""

    label: str
    value: str
    style: str = "value"
    """How that is: ``value`` where it is nothing to look at."""
    note: str = ""
    """What else is to be said of it, less loudly."""


class Condition(NamedTuple):
    """What is out of the ordinary, in a word or two and as a sentence."""

    short: str
    sentence: str
    style: str


def temperature_bands(slowdown: float | None) -> tuple[tuple[float, str], tuple[float, str]]:
    """Give from which temperatures on a GPU is warm and hot, °C: by its own slowdown threshold, if known."""
    if slowdown is None:
        return (WARM_WITHOUT_SLOWDOWN, "warn"), (HOT_WITHOUT_SLOWDOWN, "hot")
    return (slowdown - WARM_BELOW_SLOWDOWN, "warn"), (slowdown - HOT_BELOW_SLOWDOWN, "hot")


def temperature_style(temperature: float | None, slowdown: float | None) -> str:
    """Give the style of a temperature: ``value``, ``warn`` or ``hot``."""
    if temperature is None:
        return "value"
    (warm, _), (hot, _) = temperature_bands(slowdown)
    return "hot" if temperature >= hot else "warn" if temperature >= warm else "value"


def power_style(gpu: GpuMetrics) -> str:
    """Give the style of a GPU's power: it is worth a colour only where it holds the GPU back."""
    return "warn" if any("power" in reason.lower() for reason in gpu.throttle or ()) else "value"


def model_name(gpu: GpuMetrics | None, info: GpuInfo | None) -> str:
    """Give a GPU's model without its maker's name; empty where it is not known."""
    name = (gpu.name if gpu is not None else None) or (info.name if info is not None else None) or ""
    return safe(name).removeprefix("NVIDIA ").removeprefix("GeForce ")


def condition(gpu: GpuMetrics, held_back: Mapping[str, float]) -> Condition | None:
    """Say why a GPU is slow, silent or ill; None where nothing is out of the ordinary.

    Args:
        gpu: Its newest values.
        held_back: The reasons it was held back for in the last minute, each with its share of that, 0 to 1.
    """
    match gpu.state:
        case "lost":
            return Condition("lost", "lost: the driver no longer answers for this GPU", "hot")
        case "asleep":
            return Condition("asleep", "asleep: nothing uses it, and it is not woken to be measured", "label")
        case "stale":
            age = gpu.ages.sample if gpu.ages is not None else None
            since = "the last values" if age is None else f"from {format_age(age)} ago"
            words = f"stale: the driver is late with its answer, these are {since}"
            return Condition("stale" if age is None else f"late {format_age(age)}", words, "warn")
    ills = illnesses(gpu)
    short = [ill.short for ill in ills]
    sentences = [ill.sentence for ill in ills]
    style = "hot" if any(ill.style == "hot" for ill in ills) else "warn" if ills else "label"
    now = [reason for reason in gpu.throttle or () if reason != "idle"]
    recent = {reason: share for reason, share in held_back.items() if reason != "idle"}
    if now:
        short.append(_words(now[0]))
        sentences.append(f"slow: held back by {_reasons(now, recent)}")
        style = "hot" if style == "hot" else "warn"
    elif recent:
        sentences.append(f"was held back by {_reasons(sorted(recent), recent)}")
    return Condition(", ".join(short), ", ".join(sentences), style) if sentences else None


def illnesses(gpu: GpuMetrics) -> list[Condition]:
    """Give what a GPU reports of its own health that is not as it should be, the worst first."""
    ills = []
    if gpu.row_remap_failure:
        ills.append(Condition("memory broken", "a row of memory could not be replaced: exchange it", "hot"))
    if gpu.xid:
        ills.append(Condition(f"Xid {gpu.xid}", f"driver error Xid {gpu.xid}", "hot"))
    if gpu.ecc_uncorrected:
        ills.append(Condition("ECC", f"{gpu.ecc_uncorrected} uncorrected memory errors", "hot"))
    if gpu.row_remap_pending:
        ills.append(Condition("reset due", "a row of memory is replaced at the next reset", "warn"))
    return ills


def pcie_link(gpu: GpuMetrics) -> Fact:
    """Give the PCIe link as it is, ``4.0×16``, and what it could be where that is more.

    A link with fewer lanes than it could have is worth a colour. One of a lower generation is not: idle GPUs
    lower it to save power.
    """
    generation, width = gpu.pcie_link_gen, gpu.pcie_link_width
    if generation is None and width is None:
        return Fact("link", UNKNOWN)
    most_generation, most_width = gpu.pcie_link_gen_max, gpu.pcie_link_width_max
    is_narrow = width is not None and most_width is not None and width < most_width
    is_less = is_narrow or (
        generation is not None and most_generation is not None and generation < most_generation
    )
    note = f"of {_link(most_generation, most_width)}" if is_less else ""
    return Fact("link", _link(generation, width), "warn" if is_narrow else "value", note)


def health(gpu: GpuMetrics) -> Fact:
    """Give in a few words how a GPU's memory and driver are; ``—`` where it tells nothing of that."""
    ills = illnesses(gpu)
    if ills:
        return Fact("health", ", ".join(ill.short for ill in ills), ills[0].style)
    told = [gpu.ecc_corrected, gpu.ecc_uncorrected, gpu.row_remaps_correctable, gpu.row_remaps_uncorrectable]
    if all(value is None for value in told):
        return Fact("health", UNKNOWN)
    corrected = f"{gpu.ecc_corrected} corrected" if gpu.ecc_corrected else ""
    remapped = sum(value or 0 for value in told[2:])
    parts = [corrected, f"{remapped} rows replaced" if remapped else ""]
    return Fact("health", "ok", note=", ".join(part for part in parts if part))


def facts(gpu: GpuMetrics) -> list[Fact]:
    """Give everything a GPU says of itself, in the order of its worth; unknown values are ``—``."""
    slowdown = gpu.temp_slowdown_c
    limit = "" if slowdown is None else f"slows at {format_temp(slowdown)}"
    rates = gpu.pcie_rx_bytes_per_sec, gpu.pcie_tx_bytes_per_sec
    pcie = UNKNOWN if rates == (None, None) else f"↓{format_rate(rates[0])} ↑{format_rate(rates[1])}"
    table = [
        Fact("use", format_percent(gpu.util_percent)),
        Fact("memory", format_mem(gpu.mem_used_mb, gpu.mem_total_mb)),
        Fact("temp", format_temp(gpu.temp_c), temperature_style(gpu.temp_c, slowdown), limit),
        Fact("power", format_power(gpu.power_w, gpu.power_limit_w), power_style(gpu)),
        Fact("clocks", clocks(gpu), note=_performance(gpu)),
        Fact("fan", format_percent(gpu.fan_percent)),
        pcie_link(gpu),
        health(gpu),
        Fact("energy", energy(gpu.energy_j), note=_average(gpu)),
        *_memory_temperature(gpu),
        *([] if pcie == UNKNOWN else [Fact("PCIe", pcie)]),
    ]
    return table + _processes(gpu)


def clocks(gpu: GpuMetrics) -> str:
    """Give the clocks of the multiprocessors and of the memory, ``2520/10501MHz``."""
    known = [UNKNOWN if clock is None else str(clock) for clock in (gpu.sm_clock_mhz, gpu.mem_clock_mhz)]
    return UNKNOWN if known == [UNKNOWN, UNKNOWN] else f"{known[0]}/{known[1]}MHz"


def energy(joules: float | None) -> str:
    """Give the energy used since the driver was loaded, in kWh."""
    if joules is None:
        return UNKNOWN
    hours = joules / _JOULES_PER_KWH
    return f"{hours:.2f}kWh" if hours < 10 else f"{hours:.0f}kWh"


def _link(generation: int | None, width: int | None) -> str:
    return f"{UNKNOWN if generation is None else f'{generation}.0'}×{UNKNOWN if width is None else width}"


def _performance(gpu: GpuMetrics) -> str:
    return "" if gpu.performance_state is None else f"P{gpu.performance_state}"


def _average(gpu: GpuMetrics) -> str:
    return "" if gpu.avg_power_w is None else f"{gpu.avg_power_w:.0f}W mean"


def _memory_temperature(gpu: GpuMetrics) -> list[Fact]:
    if gpu.mem_temp_c is None:
        return []
    most = gpu.mem_temp_max_c
    style = "value" if most is None else temperature_style(gpu.mem_temp_c, most)
    return [
        Fact("mem temp", format_temp(gpu.mem_temp_c), style, f"slows at {format_temp(most)}" if most else "")
    ]


def _processes(gpu: GpuMetrics) -> list[Fact]:
    if gpu.processes is None:
        return [Fact("runs", UNKNOWN)]
    if not gpu.processes:
        return [Fact("runs", "no process")]
    largest = sorted(gpu.processes, key=lambda process: process.mem_used_mb or 0, reverse=True)
    rows: list[Fact] = []
    for process in largest:
        name = safe(process.name or f"pid {process.pid}")
        used = "" if process.mem_used_mb is None else f" {process.mem_used_mb / MIB_PER_GIB:.1f}G"
        rows.append(Fact("" if rows else "runs", name + used))
    return rows


def _reasons(reasons: list[str], shares: Mapping[str, float]) -> str:
    named = [
        f"{_words(reason)}, {max(1, round(100 * shares[reason]))}% of the last minute"
        if shares.get(reason)
        else _words(reason)
        for reason in reasons
    ]
    return "; ".join(named)


def _words(reason: str) -> str:
    return safe(reason).replace("_", " ")
