"""What a simulated machine is kept busy with: phases that follow one another, and the mishaps between."""

import math
import random
from dataclasses import dataclass
from enum import Enum
from typing import Final


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseKind:
    """One way to use a machine. Ranges are drawn from when a phase begins."""

    name: str
    seconds: tuple[float, float]
    util: tuple[float, float]
    """Percent of a GPU at work."""
    swing: float
    """How far use swings slowly around that, in points."""
    jitter: float
    """How far it jumps from one sample to the next, in points."""
    memory: tuple[float, float]
    """Share of the GPU's memory that it fills."""
    dips: bool
    """Whether it pauses now and then to write a checkpoint."""
    host: float
    """Share of the host's CPUs per GPU at work."""
    process: str | None


IDLE: Final = PhaseKind(
    name="idle",
    seconds=(30, 240),
    util=(0, 0),
    swing=0,
    jitter=0,
    memory=(0.0, 0.01),
    dips=False,
    host=0.0,
    process=None,
)
_PHASES: Final = (
    IDLE,
    PhaseKind(
        name="training",
        seconds=(240, 1500),
        util=(94, 99),
        swing=0,
        jitter=2,
        memory=(0.78, 0.97),
        dips=True,
        host=0.05,
        process="python3",
    ),
    PhaseKind(
        name="inference",
        seconds=(180, 900),
        util=(30, 65),
        swing=22,
        jitter=9,
        memory=(0.70, 0.92),
        dips=False,
        host=0.03,
        process="vllm",
    ),
    PhaseKind(
        name="render",
        seconds=(60, 420),
        util=(97, 100),
        swing=0,
        jitter=1,
        memory=(0.25, 0.55),
        dips=False,
        host=0.02,
        process="blender",
    ),
)
_PHASE_WEIGHTS: Final = (30, 34, 24, 12)


class Phase:
    """A phase under way on one machine."""

    __slots__ = (
        "_dip_every",
        "_started",
        "_swing_every",
        "active",
        "ends_at",
        "kind",
        "memory",
        "pid",
        "util",
    )

    def __init__(self, rng: random.Random, now: float, gpu_count: int) -> None:
        kind = rng.choices(_PHASES, _PHASE_WEIGHTS)[0]
        self.kind = kind
        self.ends_at = now + rng.uniform(*kind.seconds)
        self.util = rng.uniform(*kind.util)
        self.memory = rng.uniform(*kind.memory)
        self.pid = rng.randrange(2_000, 400_000)
        whole_machine = rng.random() < 0.65
        self.active = gpu_count if whole_machine else rng.randint(1, gpu_count)
        """How many GPUs it runs on, counted from the first."""
        self._started = now
        self._swing_every = rng.uniform(60, 240)
        self._dip_every = rng.uniform(50, 140)

    def load(self, now: float) -> float:
        """Give the percentage of a GPU that it wants at a moment."""
        kind, age = self.kind, now - self._started
        if kind.dips and age % self._dip_every < 5.0:
            return self.util * 0.15
        return self.util + kind.swing * math.sin(age * math.tau / self._swing_every)


class Mishap(Enum):
    """What happens to a machine now and then."""

    PAUSED = "paused"
    """Its owner takes it back for a while."""
    SILENT = "silent"
    """Its network stalls: connected, but nothing comes."""
    AWAY = "away"
    """It drops off and comes back."""
    GPU_LOST = "gpu lost"
    """One GPU falls off the bus until the driver is reloaded."""


_MISHAPS: Final[dict[Mishap, tuple[float, float]]] = {
    Mishap.PAUSED: (60, 400),
    Mishap.SILENT: (16, 27),
    Mishap.AWAY: (20, 90),
    Mishap.GPU_LOST: (60, 300),
}
"""How many seconds each lasts."""

_MISHAP_WEIGHTS: Final = (3, 3, 2, 1)
MEAN_SECONDS_BETWEEN_MISHAPS: Final = 2_400.0


class Mishaps:
    """One machine's mishaps, one at a time."""

    __slots__ = ("_changes_at", "_rng", "current")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.current: Mishap | None = None
        self._changes_at = rng.expovariate(1 / MEAN_SECONDS_BETWEEN_MISHAPS)

    def advance(self, now: float) -> None:
        """Begin or end one when its time has come."""
        if now < self._changes_at:
            return
        if self.current is not None:
            self.current = None
            self._changes_at = now + self._rng.expovariate(1 / MEAN_SECONDS_BETWEEN_MISHAPS)
        else:
            self.current = self._rng.choices(tuple(_MISHAPS), _MISHAP_WEIGHTS)[0]
            self._changes_at = now + self._rng.uniform(*_MISHAPS[self.current])
