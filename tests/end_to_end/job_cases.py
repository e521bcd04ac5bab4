"""What may happen to a job."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

TARGETS: Final = ("hub", "agent", "supervisor", "job", "network")
"""Where there is one hub."""

SHARED_TARGETS: Final = (*TARGETS, "redis", "link")
"""Where several share a Redis; ``link`` is the network between one of them and that."""

PHASES: Final = ("queued", "assigned", "running", "finishing")
FAULTS: Final[Mapping[str, Sequence[str]]] = {"network": ("cut",), "link": ("cut", "stall")}


class Case(NamedTuple):
    """What happens to one job."""

    target: str
    fault: str
    """``kill``, ``freeze``; for a network ``cut`` (what was under way is lost), ``stall`` (it comes late)."""
    phase: str

    def __str__(self) -> str:
        return f"{self.fault} the {self.target} while {self.phase}"


def all_cases(targets: Sequence[str] = TARGETS) -> list[Case]:
    """Every fault at every moment. Before it runs, a job has neither a supervisor nor a process."""
    return [
        Case(target, fault, phase)
        for target, phase in itertools.product(targets, PHASES)
        if target not in {"supervisor", "job"} or phase in {"running", "finishing"}
        for fault in FAULTS.get(target, ("kill", "freeze"))
    ]
