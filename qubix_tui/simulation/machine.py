"""A simulated machine: its GPUs' use, heat and memory, moved on tick by tick from a seed alone."""

import math
import random
from typing import Final

from qubix_tui.protocol.records import GpuMetrics, GpuProcess, Metrics
from qubix_tui.simulation.catalogue import GpuKind, pick_machine
from qubix_tui.simulation.workload import Mishap, Mishaps, Phase

POWER_LAG_SECONDS: Final = 2.0
HEAT_LAG_SECONDS: Final = 28.0
"""How slowly a GPU's temperature follows its power."""

FILL_PER_SECOND: Final = 0.07
"""Share of its memory that a GPU is filled with in a second."""

HOT_GPUS: Final = 0.02
"""Share of GPUs that are badly cooled: under load they reach their slowdown temperature."""

GREEDY_GPUS: Final = 0.12
"""Share of GPUs whose work would draw more than their limit."""

POWER_CAP: Final = "power cap"
THERMAL: Final = "thermal (hardware)"
IDLE: Final = "idle"


class Pace:
    """How far things move in one tick."""

    __slots__ = ("fill", "heat", "power", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.power = 1 - math.exp(-seconds / POWER_LAG_SECONDS)
        self.heat = 1 - math.exp(-seconds / HEAT_LAG_SECONDS)
        self.fill = min(1.0, FILL_PER_SECOND * seconds)


class Gpu:
    """One GPU's present."""

    __slots__ = (
        "_ambient_c", "_appetite", "_degrees_per_watt", "_index", "_kind", "_uuid", "energy_j", "mem_share",
        "pid", "power_w", "process", "temp_c", "throttle", "util",
    )  # fmt: skip

    def __init__(self, kind: GpuKind, index: int, uuid: str | None, rng: random.Random) -> None:
        self._kind = kind
        self._index = index
        self._uuid = uuid
        self._ambient_c = rng.uniform(24, 33)
        settles_at = kind.busy_c + rng.uniform(-5, 7)
        self._appetite = rng.uniform(1.0, 1.15) if rng.random() < GREEDY_GPUS else rng.uniform(0.78, 0.98)
        if rng.random() < HOT_GPUS:
            settles_at = kind.slowdown_c + rng.uniform(3, 9)
            self._appetite = rng.uniform(0.95, 1.05)
        self._degrees_per_watt = (settles_at - self._ambient_c) / kind.power_limit_w
        self.util = 0.0
        self.mem_share = 0.0
        self.power_w = kind.idle_w
        self.temp_c = self._ambient_c + self._degrees_per_watt * kind.idle_w
        self.energy_j = rng.uniform(1e7, 5e9)
        self.throttle: list[str] = [IDLE]
        self.pid: int | None = None
        self.process: str | None = None

    def settle(self, load: float, memory: float) -> None:
        """Put it where it would be after a long while at this load."""
        power, _ = self._wanted_power(load)
        self.power_w = power
        self.temp_c = min(self._ambient_c + self._degrees_per_watt * power, self._kind.slowdown_c - 4)
        self.mem_share = memory

    def advance(self, load: float, memory: float, pace: Pace) -> None:
        """Move on by one tick, towards ``load`` percent and ``memory`` as a share."""
        kind = self._kind
        self.util = min(max(load, 0.0), 100.0)
        wanted, capped = self._wanted_power(self.util)
        # Slowed down by heat it stays slow until it is some degrees cooler: without that it would flicker.
        was_hot = THERMAL in self.throttle
        is_hot = self.temp_c >= kind.slowdown_c - (6 if was_hot else 0)
        if is_hot:
            wanted *= 0.72
        self.power_w += (wanted - self.power_w) * pace.power
        target = self._ambient_c + self._degrees_per_watt * self.power_w
        self.temp_c += (target - self.temp_c) * pace.heat
        self.energy_j += self.power_w * pace.seconds
        if memory < self.mem_share:
            self.mem_share = memory
        else:
            self.mem_share += min(memory - self.mem_share, pace.fill)
        if is_hot:
            self.throttle = [THERMAL]
        elif capped:
            self.throttle = [POWER_CAP]
        else:
            self.throttle = [] if self.util > 0 else [IDLE]

    def _wanted_power(self, load: float) -> tuple[float, bool]:
        kind = self._kind
        wanted = kind.idle_w + (kind.power_limit_w - kind.idle_w) * self._appetite * (load / 100) ** 0.8
        return min(wanted, kind.power_limit_w), wanted > kind.power_limit_w

    def metrics(self) -> GpuMetrics:
        """Give its sample."""
        kind, util = self._kind, self.util
        used = 3 + int(self.mem_share * kind.mem_total_mb)
        slowed = 0.74 if THERMAL in self.throttle else 0.93 if POWER_CAP in self.throttle else 1.0
        works = util > 0
        return GpuMetrics(
            index=self._index,
            uuid=self._uuid,
            name=kind.name,
            util_percent=float(round(util)),
            mem_util_percent=float(round(util * 0.58)),
            mem_used_mb=used,
            mem_total_mb=kind.mem_total_mb,
            temp_c=float(round(self.temp_c)),
            mem_temp_c=None if kind.has_fan else float(round(self.temp_c + 7)),
            temp_slowdown_c=kind.slowdown_c,
            power_w=round(self.power_w, 1),
            power_limit_w=kind.power_limit_w,
            energy_j=round(self.energy_j, 1),
            sm_clock_mhz=int(kind.boost_mhz * slowed) if works else 210,
            mem_clock_mhz=kind.mem_clock_mhz if works else 405,
            fan_percent=float(min(100, max(30, round(self.temp_c * 1.9 - 70)))) if kind.has_fan else None,
            throttle=self.throttle,
            ecc_uncorrected=None if kind.has_fan else 0,
            processes=[GpuProcess(pid=self.pid, name=self.process, mem_used_mb=used, kind="compute")]
            if self.pid is not None
            else [],
        )

    def lost_metrics(self) -> GpuMetrics:
        """Give its sample while it is off the bus: who it was, and nothing else."""
        kind = self._kind
        return GpuMetrics(
            index=self._index,
            uuid=self._uuid,
            name=kind.name,
            mem_total_mb=kind.mem_total_mb,
            xid=79,
            state="lost",
        )


class Machine:
    """Machine number ``index`` of the fleet of ``seed``.

    The same seed, index and tick length give the same samples at the same tick, whenever they are taken.

    Args:
        seed: Which fleet.
        index: Which of its machines, from 0.
        tick_seconds: How much simulated time one `advance` is.
    """

    def __init__(self, seed: int, index: int, tick_seconds: float) -> None:
        rng = random.Random(f"{seed}:{index}")  # noqa: S311 - made up, and meant to be repeatable
        kind = pick_machine(seed, index, rng)
        self.spec = kind.spec
        self._rng = rng
        self._pace = Pace(tick_seconds)
        self._tick = 0
        self._gpus = [Gpu(kind.gpu, number, info.uuid, rng) for number, info in enumerate(kind.spec.gpus)]
        self._lost = rng.randrange(len(self._gpus))
        self._mishaps = Mishaps(rng)
        # Begun before the first tick: a fleet that all starts at once would look like what it is.
        self._phase = Phase(rng, -rng.uniform(0, 240), len(self._gpus))
        self._uptime_seconds = rng.uniform(3_600, 4_000_000)
        self._ram_base = rng.uniform(6, 22)
        self._cpu = rng.uniform(1, 6)
        self._disk = rng.uniform(18, 84)
        self._enter_phase()
        for number, gpu in enumerate(self._gpus):
            active = number < self._phase.active
            gpu.settle(self._phase.load(0.0) if active else 0.0, self._phase.memory if active else 0.0)

    @property
    def mishap(self) -> Mishap | None:
        """What is wrong with it now, if anything."""
        return self._mishaps.current

    def advance(self) -> None:
        """Move on by one tick."""
        self._tick += 1
        now = self._tick * self._pace.seconds
        self._mishaps.advance(now)
        if now >= self._phase.ends_at:
            self._phase = Phase(self._rng, now, len(self._gpus))
            self._enter_phase()
        phase, rng, pace = self._phase, self._rng, self._pace
        load, jitter = phase.load(now), phase.kind.jitter
        for number, gpu in enumerate(self._gpus):
            if number < phase.active:
                gpu.advance(load + jitter * (rng.random() + rng.random() - 1), phase.memory, pace)
            else:
                gpu.advance(0.0, 0.0, pace)
        wanted = 2 + 100 * phase.kind.host * phase.active * (0.4 + load / 160) + 3 * rng.random()
        self._cpu += (min(wanted, 97.0) - self._cpu) * 0.5
        self._disk = min(97.0, self._disk + 1e-5 * pace.seconds)

    def _enter_phase(self) -> None:
        phase = self._phase
        for number, gpu in enumerate(self._gpus):
            works = phase.kind.process is not None and number < phase.active
            gpu.pid = phase.pid + number if works else None
            gpu.process = phase.kind.process if works else None

    def metrics(self, sampled_at: str) -> Metrics:
        """Give the sample of this tick.

        Args:
            sampled_at: RFC 3339 time to mark it with; nothing else in it depends on a clock.
        """
        lost = self._lost if self.mishap is Mishap.GPU_LOST else None
        gpus = [
            gpu.lost_metrics() if number == lost else gpu.metrics() for number, gpu in enumerate(self._gpus)
        ]
        heard = [gpu for number, gpu in enumerate(self._gpus) if number != lost]
        spec, share = self.spec, self._phase.memory * self._phase.active / len(gpus)
        ram_percent = round(min(96.0, self._ram_base + 34 * share), 1)
        ram_total = spec.ram_total_mb or 0
        cores = spec.cpu_cores or 1
        traffic = self._phase.load(self._tick * self._pace.seconds) * self._phase.active * 2.1e4
        return Metrics(
            cpu_percent=round(self._cpu, 1),
            ram_percent=ram_percent,
            gpu_percent=round(sum(gpu.util for gpu in heard) / len(heard), 1) if heard else None,
            gpu_temp=float(round(max(gpu.temp_c for gpu in heard))) if heard else None,
            gpu_mem_used_mb=sum(gpu.mem_used_mb or 0 for gpu in gpus) if heard else None,
            gpu_mem_total_mb=spec.gpu_mem_total_mb,
            ram_used_mb=int(ram_total * ram_percent / 100),
            ram_total_mb=ram_total,
            cpu_temp=round(38 + self._cpu * 0.42, 1),
            load1=round(self._cpu / 100 * cores, 2),
            net_rx_bytes_per_sec=round(2_000 + max(0.0, traffic)),
            net_tx_bytes_per_sec=round(3_500 + max(0.0, traffic) / 6),
            disk_percent=round(self._disk, 1),
            uptime_seconds=round(self._uptime_seconds + self._tick * self._pace.seconds),
            gpus=gpus,
            sampled_at=sampled_at,
            seq=self._tick,
        )
