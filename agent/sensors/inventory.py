"""What the machine is: everything of its record that does not change from sample to sample."""

import math
import platform
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from agent.sensors.base import MIB, one_line
from agent.sensors.cgroup import Limits, read_limits
from agent.sensors.gpu import GpuReading
from agent.sensors.host import effective, label
from agent.sensors.memory import machine_memory
from qubix_tui import __version__
from qubix_tui.protocol.records import GpuInfo, Limit, ProviderSpec

_CPUINFO: Final = Path("/proc/cpuinfo")
_CPU_KEYS: Final = ("model name", "hardware", "cpu model", "model")


class HostFacts(NamedTuple):
    """The machine without its GPUs."""

    cpu_model: str | None
    cpu_cores: int | None
    """Logical ones: those that ``cpuPercent`` is over. A quota counts as so many as it takes to use it up."""
    ram_total_mb: int
    os: str | None
    limit: Limit | None = None


class Owner(NamedTuple):
    """What the owner says of the machine."""

    worker_id: str
    name: str | None = None
    location: str | None = None
    price_per_hour: float | None = None


def read_host(limits: Limits | None = None) -> HostFacts:
    """Look at the machine once.

    Args:
        limits: What this process may have of it (default: what its control group says).
    """
    ram = machine_memory().total
    limits = effective(read_limits() if limits is None else limits, ram)
    return HostFacts(
        cpu_model=one_line(cpu_model()),
        cpu_cores=psutil.cpu_count() if limits.cpu is None else math.ceil(limits.cpu.cores),
        ram_total_mb=round((ram if limits.memory is None else limits.memory.total) / MIB),
        os=one_line(operating_system()),
        limit=label(limits),
    )


def cpu_model(cpuinfo: Path = _CPUINFO) -> str | None:
    """The CPU's name as its maker gave it."""
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine() or None
    values: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        values.setdefault(key.strip().lower(), " ".join(value.split()))
    return next((values[key] for key in _CPU_KEYS if values.get(key)), None) or platform.machine() or None


def operating_system() -> str:
    """Distribution, kernel and architecture: ``Debian GNU/Linux 12 (bookworm), Linux 6.1.0 x86_64``."""
    kernel = f"{platform.system()} {platform.release()} {platform.machine()}"
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return kernel
    return f"{release['PRETTY_NAME']}, {kernel}"


def most_common_model(gpus: Sequence[GpuInfo]) -> str | None:
    """The name that most GPUs have; of several, the one that comes first."""
    names = Counter(gpu.name for gpu in gpus if gpu.name is not None)
    return names.most_common(1)[0][0] if names else None


def provider_spec(owner: Owner, host: HostFacts, gpus: GpuReading) -> ProviderSpec:
    """Put together what a provider registers with."""
    unified = bool(gpus.unified)
    known = [gpu.mem_total_mb for gpu in gpus.identities if gpu.mem_total_mb is not None]
    return ProviderSpec(
        worker_id=owner.worker_id,
        name=owner.name,
        gpu_model=most_common_model(gpus.identities),
        # Nobody counted before there was an answer.
        gpu_count=len(gpus.identities) if gpus.settled else None,
        gpu_mem_total_mb=sum(known) if known else host.ram_total_mb if unified else None,
        gpus=gpus.identities,
        cpu_model=host.cpu_model,
        cpu_cores=host.cpu_cores,
        ram_total_mb=host.ram_total_mb,
        os=host.os,
        limit=host.limit,
        driver_version=gpus.driver_version,
        cuda_version=gpus.cuda_version,
        location=owner.location,
        price_per_hour=owner.price_per_hour,
        agent_version=__version__,
    )
