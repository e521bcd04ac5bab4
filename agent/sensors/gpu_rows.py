"""Every GPU seen since the agent started, and how each is to be shown: current, stale, asleep or lost.

The rules: a GPU that was seen once is never forgotten, it is `lost` until it is back (by its UUID). What is
not current is `stale`, with the values last read for ten seconds and none after that. A MIG instance is a
division of a GPU, not a thing: it is shown as long as its GPU is read and has it.
"""

from collections.abc import Collection, Sequence
from typing import Final

import msgspec
import psutil

from agent.sensors.base import one_line
from agent.sensors.offer import Offer
from qubix_tui.protocol.records import GpuAges, GpuInfo, GpuMetrics, GpuProcess

STALE_VALUES_SECONDS: Final = 10.0
"""How long values are shown that could not be read again."""

_ROOM: Final = 58 * 1024
_GPU_SIZE: Final = 3_500
_INSTANCE_SIZE: Final = 1_600
"""Bytes of a sample, of a GPU and of a MIG instance with all their processes: no more than fits one frame."""

_NAME_LENGTH: Final = 32
"""Characters of a process's name: whoever runs jobs here chooses it, and must not make samples too large."""


class GpuRows:
    """What is known of each GPU.

    Args:
        offer: Which of them are spoken of.
    """

    def __init__(self, offer: Offer) -> None:
        self._offer = offer
        self._known: dict[str, GpuMetrics] = {}
        self._instances: list[GpuMetrics] = []
        self._read_at = 0.0
        self._names = ProcessNames()

    def __bool__(self) -> bool:
        """Whether any GPU was ever seen."""
        return bool(self._known or self._instances)

    def take(self, rows: Sequence[GpuMetrics], read_at: float) -> None:
        """Take in what was read of all GPUs, and when that was, monotonic seconds."""
        rows = [row for row in rows if self._offer.includes(row)]
        told = {row.uuid for row in rows}
        current: dict[str, GpuMetrics] = {}
        for row in (row for row in rows if row.parent_index is None):
            key = row.uuid or self._key_of(row, told) or row.pci_address or f"index {row.index}"
            before = msgspec.structs.replace(self._known.get(key, row), index=row.index)
            current[key] = self._named(row) if row.state == "ok" else identity(before, row.state)
        # One that was asleep until now told its UUID for the first time, at the place where it was seen.
        places = {row.pci_address for row in current.values()}
        for key, row in self._known.items():
            if row.uuid is not None or row.pci_address not in places:
                current.setdefault(key, identity(row, "lost"))
        self._known = current
        self._instances = [self._named(row) for row in rows if row.parent_index is not None]
        self._names.forget_others()
        self._read_at = read_at

    def lose(self) -> None:
        """Take all for lost: there is no driver that could tell."""
        self._known = {key: identity(row, "lost") for key, row in self._known.items()}
        self._instances = []

    def shown(self, now: float, *, fresh: bool, asleep: Collection[str]) -> list[GpuMetrics]:
        """Give the rows of a sample, each with an index of its own.

        Args:
            now: Monotonic seconds.
            fresh: Whether an answer came with this sample, be it to the question of an earlier one.
            asleep: The PCI addresses that sleep while nothing reads the GPUs.
        """
        rows = [self._as_of(row, now, fresh=fresh, asleep=asleep) for row in self._sorted()]
        rows += self._unseen(asleep)
        instances = [self._as_of(row, now, fresh=fresh, asleep=()) for row in self._instances]
        present = [row for row in rows if row.state != "lost"]
        gone = [row for row in rows if row.state == "lost"]
        return numbered([*present, *gone, *instances[: self._places()]])

    def identities(self, asleep: Collection[str]) -> list[GpuInfo]:
        """Give every GPU ever seen, the lost ones too, and those that have slept all the while."""
        return [
            GpuInfo(uuid=row.uuid, name=row.name, mem_total_mb=row.mem_total_mb)
            for row in [*self._sorted(), *self._unseen(asleep)]
        ]

    def lost(self) -> list[int]:
        """Give the indices that those are shown with which are lost."""
        return [row.index for row in self.shown(0.0, fresh=True, asleep=()) if row.state == "lost"]

    def missing(self) -> list[str]:
        """Give what is offered and not there."""
        return self._offer.missing([*self._known.values(), *self._instances])

    def among(self, indices: Collection[int]) -> frozenset[int]:
        """Give those of these indices that GPUs have which are spoken of."""
        return frozenset(indices) & {row.index for row in self._known.values()}

    def addresses(self) -> list[str]:
        """Give where on the PCI bus GPUs were seen."""
        return [row.pci_address for row in self._sorted() if row.pci_address is not None]

    @property
    def hidden(self) -> int:
        """How many MIG instances there is no room for."""
        return max(0, len(self._instances) - self._places())

    def _places(self) -> int:
        return max(0, (_ROOM - _GPU_SIZE * len(self._known)) // _INSTANCE_SIZE)

    def _unseen(self, asleep: Collection[str]) -> list[GpuMetrics]:
        """Give those that were never awake: what they are is not known, for to ask would wake them."""
        seen = self.addresses()
        rows = [
            GpuMetrics(index=index, pci_address=address, state="asleep")
            for index, address in enumerate(sorted(asleep))
        ]
        return [row for row in rows if row.pci_address not in seen and self._offer.includes(row)]

    def _sorted(self) -> list[GpuMetrics]:
        return sorted(self._known.values(), key=lambda row: row.index)

    def _key_of(self, row: GpuMetrics, told: Collection[str | None]) -> str | None:
        """Which known GPU one is that does not tell its UUID: the one of that place, else of that number."""
        others = {
            key: known for key, known in self._known.items() if known.uuid is None or known.uuid not in told
        }
        at_place = (
            key for key, known in others.items() if row.pci_address and known.pci_address == row.pci_address
        )
        numbered_so = (key for key, known in others.items() if known.index == row.index)
        return next(at_place, None) or (None if row.pci_address else next(numbered_so, None))

    def _named(self, row: GpuMetrics) -> GpuMetrics:
        return msgspec.structs.replace(
            row, name=one_line(row.name), processes=self._names.fill(row.processes)
        )

    def _as_of(self, row: GpuMetrics, now: float, *, fresh: bool, asleep: Collection[str]) -> GpuMetrics:
        if row.pci_address in asleep:
            return identity(row, "asleep")
        if row.state == "lost" or (fresh and row.state == "asleep"):
            return row
        age = max(0.0, now - self._read_at)
        if not fresh and age > STALE_VALUES_SECONDS:
            return identity(row, "stale")
        return msgspec.structs.replace(row, state=row.state if fresh else "stale", ages=_older(row.ages, age))


class ProcessNames:
    """Names of the processes that hold a GPU; each is asked for once."""

    def __init__(self) -> None:
        self._names: dict[int, str | None] = {}
        self._used: set[int] = set()

    def fill(self, processes: list[GpuProcess] | None) -> list[GpuProcess] | None:
        """Give the same list with names (None for a process that is gone, or of another container)."""
        if processes is None:
            return None
        return [msgspec.structs.replace(process, name=self._name(process.pid)) for process in processes]

    def forget_others(self) -> None:
        """Forget the processes that were not asked for since this was called last."""
        self._names = {pid: name for pid, name in self._names.items() if pid in self._used}
        self._used = set()

    def _name(self, pid: int) -> str | None:
        self._used.add(pid)
        if pid not in self._names:
            try:
                self._names[pid] = one_line(psutil.Process(pid).name()[:_NAME_LENGTH])
            except psutil.Error:
                self._names[pid] = None
        return self._names[pid]


def identity(row: GpuMetrics, state: str) -> GpuMetrics:
    """Give what stays true of a GPU that is not read."""
    return GpuMetrics(
        index=row.index,
        uuid=row.uuid,
        name=row.name,
        pci_address=row.pci_address,
        parent_index=row.parent_index,
        parent_uuid=row.parent_uuid,
        gpu_instance_id=row.gpu_instance_id,
        mem_total_mb=row.mem_total_mb,
        state=state,  # type: ignore[arg-type]  # one of the four
    )


def numbered(rows: Sequence[GpuMetrics]) -> list[GpuMetrics]:
    """Give each row an index of its own, and sort them by it. Where two have the same, the first keeps it."""
    taken: set[int] = set()
    result = []
    for row in rows:
        index = row.index
        if index in taken:
            index = max(taken) + 1
        taken.add(index)
        result.append(row if index == row.index else msgspec.structs.replace(row, index=index))
    return sorted(result, key=lambda row: row.index)


def _older(ages: GpuAges | None, seconds: float) -> GpuAges | None:
    if ages is None:
        return None
    return GpuAges(
        sample=_plus(ages.sample, seconds),
        five_seconds=_plus(ages.five_seconds, seconds),
        minute=_plus(ages.minute, seconds),
    )


def _plus(age: float | None, seconds: float) -> float | None:
    return None if age is None else round(age + seconds, 1)
