"""One GPU in words and numbers. No Textual in it."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from qubix_tui.console.format import (
    MIB_PER_GIB,
    UNKNOWN,
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
    style = "value"
    for start, band in temperature_bands(slowdown):
        if temperature is not None and temperature >= start:
            style = band
    return style


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
            return Condition(
                "stale", "stale: the driver is late with its answer, these are the last values", "warn"
            )
    short, sentences, style = [], [], "label"
    if gpu.xid:
        short.append(f"Xid {gpu.xid}")
        sentences.append(f"driver error Xid {gpu.xid}")
        style = "hot"
    if gpu.ecc_uncorrected:
        short.append("ECC")
        sentences.append(f"{gpu.ecc_uncorrected} uncorrected memory errors")
        style = "hot"
    now = [reason for reason in gpu.throttle or () if reason != "idle"]
    recent = {reason: share for reason, share in held_back.items() if reason != "idle"}
    if now:
        short.append(_words(now[0]))
        sentences.append(f"slow: held back by {_reasons(now, recent)}")
        style = "hot" if style == "hot" else "warn"
    elif recent:
        sentences.append(f"was held back by {_reasons(sorted(recent), recent)}")
    return Condition(", ".join(short), ", ".join(sentences), style) if sentences else None


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
        Fact("clocks", clocks(gpu)),
        Fact("fan", format_percent(gpu.fan_percent)),
        Fact("PCIe", pcie),
        Fact("energy", energy(gpu.energy_j)),
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
