"""What simulated machines are made of: GPUs, hosts, names, places, prices."""

import hashlib
import random
from dataclasses import dataclass
from typing import Final

from qubix_tui import __version__
from qubix_tui.protocol.records import GpuInfo, ProviderSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuKind:
    """One kind of GPU, with figures of the real one. W, MiB, MHz, °C; price per GPU and hour."""

    model: str
    name: str
    """As NVML gives it."""
    mem_total_mb: int
    power_limit_w: float
    idle_w: float
    busy_c: float
    """What a well cooled one settles at under full load."""
    slowdown_c: float
    boost_mhz: int
    mem_clock_mhz: int
    price: float
    has_fan: bool
    counts: tuple[int, ...]
    """How many of them a machine has; each entry is as likely as the others."""


GPU_KINDS: Final = (
    GpuKind(
        model="RTX 3090",
        name="NVIDIA GeForce RTX 3090",
        mem_total_mb=24_576,
        power_limit_w=350,
        idle_w=21,
        busy_c=68,
        slowdown_c=95,
        boost_mhz=1_905,
        mem_clock_mhz=9_751,
        price=0.19,
        has_fan=True,
        counts=(1, 1, 2, 4),
    ),
    GpuKind(
        model="RTX 4090",
        name="NVIDIA GeForce RTX 4090",
        mem_total_mb=24_564,
        power_limit_w=450,
        idle_w=17,
        busy_c=66,
        slowdown_c=90,
        boost_mhz=2_595,
        mem_clock_mhz=10_501,
        price=0.40,
        has_fan=True,
        counts=(1, 2, 4, 4, 8),
    ),
    GpuKind(
        model="RTX 5090",
        name="NVIDIA GeForce RTX 5090",
        mem_total_mb=32_607,
        power_limit_w=575,
        idle_w=24,
        busy_c=70,
        slowdown_c=90,
        boost_mhz=2_655,
        mem_clock_mhz=14_001,
        price=0.62,
        has_fan=True,
        counts=(1, 1, 2, 4),
    ),
    GpuKind(
        model="L40S",
        name="NVIDIA L40S",
        mem_total_mb=46_068,
        power_limit_w=350,
        idle_w=34,
        busy_c=66,
        slowdown_c=92,
        boost_mhz=2_520,
        mem_clock_mhz=9_001,
        price=0.85,
        has_fan=False,
        counts=(1, 2, 4, 8),
    ),
    GpuKind(
        model="A100 80GB",
        name="NVIDIA A100-SXM4-80GB",
        mem_total_mb=81_920,
        power_limit_w=400,
        idle_w=61,
        busy_c=60,
        slowdown_c=89,
        boost_mhz=1_410,
        mem_clock_mhz=1_593,
        price=1.25,
        has_fan=False,
        counts=(2, 4, 8),
    ),
    GpuKind(
        model="H100 80GB",
        name="NVIDIA H100 80GB HBM3",
        mem_total_mb=81_559,
        power_limit_w=700,
        idle_w=72,
        busy_c=62,
        slowdown_c=87,
        boost_mhz=1_980,
        mem_clock_mhz=2_619,
        price=2.15,
        has_fan=False,
        counts=(1, 4, 8, 8),
    ),
    GpuKind(
        model="H200",
        name="NVIDIA H200",
        mem_total_mb=143_771,
        power_limit_w=700,
        idle_w=76,
        busy_c=61,
        slowdown_c=87,
        boost_mhz=1_980,
        mem_clock_mhz=3_201,
        price=2.90,
        has_fan=False,
        counts=(8,),
    ),
)

_KIND_WEIGHTS: Final = (22, 30, 14, 8, 10, 11, 5)
_DESKTOP_CPUS: Final = (
    ("AMD Ryzen 9 7950X", 32),
    ("AMD Ryzen Threadripper PRO 5975WX", 64),
    ("Intel Core i9-13900K", 32),
)
_SERVER_CPUS: Final = (("AMD EPYC 9654", 192), ("AMD EPYC 7763", 128), ("Intel Xeon Platinum 8480+", 112))
_NAMES: Final = ("rig", "atlas", "barn", "forge", "node", "mine", "lab", "attic", "delta", "vault")
_LOCATIONS: Final = (
    "Lisbon", "Oslo", "Montreal", "Dallas", "Frankfurt", "Warsaw", "Osaka", "Reykjavik", "Tallinn", "Seoul",
)  # fmt: skip
_DRIVERS: Final = (
    ("580.95.05", "13.0"),
    ("580.65.06", "13.0"),
    ("570.172.08", "12.8"),
    ("550.163.01", "12.4"),
)
_SYSTEMS: Final = ("Ubuntu 24.04.3 LTS", "Ubuntu 22.04.5 LTS", "Debian GNU/Linux 13", "Rocky Linux 9.6")


@dataclass(frozen=True, slots=True)
class MachineKind:
    """A machine as it was bought: its GPUs' kind and what it says of itself."""

    gpu: GpuKind
    spec: ProviderSpec


def pick_machine(seed: int, index: int, rng: random.Random) -> MachineKind:
    """Make up machine number ``index`` (from 0) of the fleet of ``seed``; always the same one."""
    kind = rng.choices(GPU_KINDS, _KIND_WEIGHTS)[0]
    count = rng.choice(kind.counts)
    name = f"{rng.choice(_NAMES)}-{index + 1:02d}"
    digest = hashlib.sha256(f"{seed}:{index}".encode()).hexdigest()
    cpu, cores = rng.choice(_DESKTOP_CPUS if kind.has_fan else _SERVER_CPUS)
    driver, cuda = rng.choice(_DRIVERS)
    spec = ProviderSpec(
        worker_id=f"{name}-{digest[:6]}",
        name=name,
        gpu_model=kind.model,
        gpu_count=count,
        gpu_mem_total_mb=count * kind.mem_total_mb,
        gpus=[
            GpuInfo(uuid=_uuid(digest, number), name=kind.name, mem_total_mb=kind.mem_total_mb)
            for number in range(count)
        ],
        cpu_model=cpu,
        cpu_cores=cores,
        ram_total_mb=rng.choice((64, 128, 256) if kind.has_fan else (512, 1024, 2048)) * 1024,
        os=rng.choice(_SYSTEMS),
        driver_version=driver,
        cuda_version=cuda,
        location=rng.choice(_LOCATIONS),
        price_per_hour=round(count * kind.price * rng.uniform(0.85, 1.2), 2),
        agent_version=__version__,
        simulated=True,
    )
    return MachineKind(kind, spec)


def _uuid(digest: str, number: int) -> str:
    text = hashlib.sha256(f"{digest}:{number}".encode()).hexdigest()
    return f"GPU-{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:32]}"
