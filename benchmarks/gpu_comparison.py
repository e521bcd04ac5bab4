"""What the agent tells of a GPU beside what nvidia-smi tells: which is which, and how near is near enough.

nvidia-smi is asked before and after the agent, for values move: the agent's must be within what the two
answers span, give or take a tolerance.
"""

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from agent.sensors.nvml_fields import throttle_words
from qubix_tui.protocol.records import GpuMetrics, GpuProcess

Value = bool | float | str | frozenset[str] | None

_UNKNOWN: Final = ("N/A", "[N/A]", "[Not Supported]", "[Unknown Error]", "[Insufficient Permissions]")


class Rule(NamedTuple):
    """One value: its member on the wire, its name in nvidia-smi, and how far apart the two may be."""

    member: str
    query: str
    tolerance: float = 0.0
    relative: float = 0.0
    read: Callable[[str], Value] = float

    @property
    def within(self) -> str:
        """The tolerance for people."""
        parts = [f"±{self.tolerance:g}"] if self.tolerance else []
        parts += [f"±{100 * self.relative:g} %"] if self.relative else []
        return " or ".join(parts) or "same"


class Finding(NamedTuple):
    """One line of the table."""

    member: str
    agent: str
    smi: str
    within: str
    agrees: bool


def _text(text: str) -> Value:
    return text


def _state(text: str) -> Value:
    return float(text.removeprefix("P"))


def _yes(text: str) -> Value:
    return text.lower() == "yes"


def _reasons(text: str) -> Value:
    return frozenset(throttle_words(int(text, 16)))


def _address(text: str) -> Value:
    domain, _, rest = text.lower().partition(":")
    return f"{int(domain, 16):04x}:{rest}"


RULES: Final = (
    Rule("index", "index"),
    Rule("uuid", "uuid", read=_text),
    Rule("name", "name", read=_text),
    Rule("pciAddress", "pci.bus_id", read=_address),
    Rule("utilPercent", "utilization.gpu", 10),
    Rule("memUtilPercent", "utilization.memory", 10),
    Rule("memUsedMb", "memory.used", 16),
    Rule("memTotalMb", "memory.total", 1),
    Rule("tempC", "temperature.gpu", 2),
    Rule("memTempC", "temperature.memory", 3),
    Rule("powerW", "power.draw", 10, 0.1),
    Rule("avgPowerW", "power.draw.average", 15, 0.15),
    Rule("powerLimitW", "enforced.power.limit", 0.01),
    Rule("smClockMhz", "clocks.sm", 30, 0.1),
    Rule("memClockMhz", "clocks.mem", 1),
    Rule("performanceState", "pstate", read=_state),
    Rule("fanPercent", "fan.speed", 5),
    Rule("throttle", "clocks_event_reasons.active", read=_reasons),
    Rule("eccCorrected", "ecc.errors.corrected.volatile.total"),
    Rule("eccUncorrected", "ecc.errors.uncorrected.volatile.total"),
    Rule("rowRemapsCorrectable", "remapped_rows.correctable"),
    Rule("rowRemapsUncorrectable", "remapped_rows.uncorrectable"),
    Rule("rowRemapPending", "remapped_rows.pending", read=_yes),
    Rule("rowRemapFailure", "remapped_rows.failure", read=_yes),
    Rule("pcieLinkGen", "pcie.link.gen.current"),
    Rule("pcieLinkGenMax", "pcie.link.gen.max"),
    Rule("pcieLinkWidth", "pcie.link.width.current"),
    Rule("pcieLinkWidthMax", "pcie.link.width.max"),
)

NOT_TOLD: Final = (
    "energyJ",
    "tempSlowdownC",
    "tempShutdownC",
    "memTempMaxC",
    "pcieRxBytesPerSec",
    "pcieTxBytesPerSec",
    "xid",
)
"""Members that nvidia-smi has no query for. The energy is compared through the power that comes of it."""


def parsed(rule: Rule, text: str) -> Value:
    """Read what nvidia-smi answered; None where it does not know."""
    return None if text in _UNKNOWN else rule.read(text)


def compared(rule: Rule, ours: Value, before: Value, after: Value) -> Finding:
    """Judge one value."""
    agrees = ours in (before, after)
    numbers = [value for value in (ours, before, after) if isinstance(value, int | float)]
    if len(numbers) == 3:
        low, high = min(numbers[1:]), max(numbers[1:])
        tolerance = max(rule.tolerance, rule.relative * high)
        agrees = low - tolerance <= numbers[0] <= high + tolerance
    elif all(isinstance(value, frozenset) for value in (ours, before, after)):
        # A reason may come or go between the questions.
        agrees = agrees or before & after <= ours <= before | after  # type: ignore[operator]
    smi = shown(before) if before == after else f"{shown(before)} … {shown(after)}"
    return Finding(rule.member, shown(ours), smi, rule.within, agrees)


def compared_processes(gpu: GpuMetrics, rows: Iterable[list[str]]) -> Finding:
    """Judge the compute processes of a GPU.

    Args:
        gpu: The agent's.
        rows: nvidia-smi's: UUID of the GPU, process id, MiB, path of the program.
    """
    ours = {process.pid: process for process in gpu.processes or () if process.kind == "compute"}
    theirs = {
        int(pid): GpuProcess(
            pid=int(pid),
            name=name.rpartition("/")[2][:32],
            mem_used_mb=None if used in _UNKNOWN else int(used),
        )
        for uuid, pid, used, name in rows
        if uuid == gpu.uuid
    }
    agrees = ours.keys() == theirs.keys() and all(
        process.name == theirs[pid].name
        and abs((process.mem_used_mb or 0) - (theirs[pid].mem_used_mb or 0)) <= 16
        for pid, process in ours.items()
    )
    return Finding("processes", _listed(ours.values()), _listed(theirs.values()), "±16 MiB each", agrees)


def shown(value: Value) -> str:
    """Write a value for the table."""
    if value is None:
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, frozenset):
        return ", ".join(sorted(value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _listed(processes: Iterable[GpuProcess]) -> str:
    return "; ".join(f"{one.pid} {one.name} {one.mem_used_mb} MiB" for one in processes) or "none"
