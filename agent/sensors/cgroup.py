"""The limits of the control group that this process is in: CPU quota and memory, cgroup version 1 and 2.

Inside a container they, and not the machine's size, are what there is. Groups are nested and a limit of an
outer one holds for all within: of each kind the tightest one on the path counts, and what is used is what the
group that has it uses. (Sources: the kernel's documents cgroup-v2, cgroup-v1/memory, scheduler/sched-bwc.)
"""

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from agent.sensors.mounts import Mount, read_mounts

PROC: Final = Path("/proc/self")

LOOK_SECONDS: Final = 60.0
"""How often limits, which hardly ever change, are looked for."""

_NANOSECONDS: Final = 1_000_000_000
_MICROSECONDS: Final = 1_000_000


class CpuQuota(NamedTuple):
    """How much processor time a group may have."""

    cores: float
    """Seconds of it per second."""
    used_seconds: Callable[[], float | None]
    """Gives what the group had so far, None where that can't be told."""


class MemoryUse(NamedTuple):
    """Bytes of memory that a group has, less what the kernel would give back at once (unused page cache)."""

    used: int
    swap_used: int | None


class MemoryLimit(NamedTuple):
    """How much memory a group may have, in bytes."""

    total: int
    swap_total: int | None
    """None where that is not limited, or can't be told."""
    use: Callable[[], MemoryUse | None]
    """Gives what the group has now, None where that can't be told."""


class Limits(NamedTuple):
    """What holds for this process; None where nothing does."""

    cpu: CpuQuota | None = None
    memory: MemoryLimit | None = None


class ControlGroup:
    """Finds the limits, and looks again now and then.

    Args:
        proc: This process's directory in /proc.
    """

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._limits = Limits()
        self._looked_at: float | None = None

    def limits(self, now: float) -> Limits:
        """Give the limits.

        Args:
            now: Monotonic seconds.
        """
        if self._looked_at is None or now - self._looked_at >= LOOK_SECONDS:
            self._limits, self._looked_at = read_limits(self._proc), now
        return self._limits


class _Tree(NamedTuple):
    """One hierarchy of control groups, as far as this process sees it."""

    mount: Mount
    group: str
    """This process's own, from the root of the hierarchy."""

    def levels(self) -> list[Path]:
        """Give the directories of its group and of those around it, the innermost first."""
        group = PurePosixPath(self.group)
        # In a container the path may lead out of what is mounted: then the mount is the group itself.
        if ".." in group.parts or not group.is_relative_to(self.mount.root):
            return [self.mount.point]
        below = group.relative_to(self.mount.root)
        return [self.mount.point / part for part in (below, *below.parents)]


def read_limits(proc: Path = PROC) -> Limits:
    """Look for the limits of this process."""
    trees = _trees(proc)
    quotas: list[CpuQuota] = []
    limits: list[MemoryLimit] = []
    unified = trees.get("")
    for level in unified.levels() if unified else ():
        quotas.extend(_quota_v2(level))
        limits.extend(_memory_v2(level))
    cpu, memory = trees.get("cpu"), trees.get("memory")
    for level in cpu.levels() if cpu else ():
        quotas.extend(_quota_v1(level, cpu, trees.get("cpuacct")))
    for level in memory.levels() if memory else ():
        limits.extend(_memory_v1(level))
    # Of equal limits the outermost: what it uses holds what the others use. `min` gives the first.
    return Limits(
        min(reversed(quotas), key=lambda quota: quota.cores, default=None),
        min(reversed(limits), key=lambda limit: limit.total, default=None),
    )


def _trees(proc: Path) -> dict[str, _Tree]:
    """Give the hierarchies by controller; that of version 2, which has them all, under the empty name."""
    try:
        lines = (proc / "cgroup").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return {}
    groups = {
        controller: path
        for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2)
        for controller in controllers.split(",")
    }
    found: dict[str, _Tree] = {}
    for mount in read_mounts(proc / "mountinfo"):
        names = [""] if mount.kind == "cgroup2" else mount.options if mount.kind == "cgroup" else ()
        for name in names:
            if name in groups:
                found.setdefault(name, _Tree(mount, groups[name]))
    return found


def _quota_v2(level: Path) -> Iterator[CpuQuota]:
    quota, _, period = (_text(level / "cpu.max") or "").partition(" ")
    if quota.isdecimal() and period.isdecimal() and int(period):

        def used() -> float | None:
            microseconds = _members(level / "cpu.stat").get("usage_usec")
            return None if microseconds is None else microseconds / _MICROSECONDS

        yield CpuQuota(int(quota) / int(period), used)


def _quota_v1(level: Path, cpu: _Tree | None, accounts: _Tree | None) -> Iterator[CpuQuota]:
    quota, period = _number(level / "cpu.cfs_quota_us"), _number(level / "cpu.cfs_period_us")
    # -1 is no limit.
    if cpu is None or quota is None or not period or quota <= 0:
        return
    # Another hierarchy may do the accounting, and its groups need not be the same.
    account = None if accounts is None else accounts.mount.point / level.relative_to(cpu.mount.point)
    known = account if accounts is not None and account in accounts.levels() else None

    def used() -> float | None:
        nanoseconds = None if known is None else _number(known / "cpuacct.usage")
        return None if nanoseconds is None else nanoseconds / _NANOSECONDS

    yield CpuQuota(quota / period, used)


def _memory_v2(level: Path) -> Iterator[MemoryLimit]:
    total = _number(level / "memory.max")
    if total is not None:

        def use() -> MemoryUse | None:
            used = _number(level / "memory.current")
            if used is None:
                return None
            spare = _members(level / "memory.stat").get("inactive_file", 0)
            return MemoryUse(max(0, used - spare), _number(level / "memory.swap.current"))

        yield MemoryLimit(total, _number(level / "memory.swap.max"), use)


def _memory_v1(level: Path) -> Iterator[MemoryLimit]:
    total = _number(level / "memory.limit_in_bytes")
    if total is None:
        return
    # Here memory and swap are counted together.
    both = _number(level / "memory.memsw.limit_in_bytes")

    def use() -> MemoryUse | None:
        used = _number(level / "memory.usage_in_bytes")
        if used is None:
            return None
        members = _members(level / "memory.stat")
        return MemoryUse(max(0, used - members.get("total_inactive_file", 0)), members.get("total_swap"))

    yield MemoryLimit(total, None if both is None else max(0, both - total), use)


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None


def _number(path: Path) -> int | None:
    """Read a number; None where there is none (``max`` stands for no limit)."""
    text = _text(path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def _members(path: Path) -> dict[str, int]:
    """Read lines of a name and a number."""
    pairs = (line.split() for line in (_text(path) or "").splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}
