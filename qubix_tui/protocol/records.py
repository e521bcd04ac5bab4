"""The records that messages carry: providers, metrics, jobs."""

from enum import StrEnum
from typing import Annotated, Any, Final, Literal

import msgspec

from qubix_tui.protocol.types import (
    Amount,
    Celsius,
    Count,
    Id,
    Integer,
    Name,
    Percent,
    Sentence,
    Timestamp,
    Wire,
)

MAX_GPU_PROCESSES: Final = 16
"""How many processes of one GPU a sample may list."""

MAX_CORES: Final = 256
"""How many cores a sample may tell of one by one."""

Limit = Literal["cgroup"]
"""Whose limits, tighter than the machine, its values are within: a control group's (a container)."""

CorePercent = Annotated[int, msgspec.Meta(ge=0, le=100)]


class ProviderState(StrEnum):
    """What a provider is to the marketplace, as the hub sees it."""

    AVAILABLE = "available"
    BUSY = "busy"
    PAUSED = "paused"
    UNREACHABLE = "unreachable"
    OFFLINE = "offline"

    @property
    def is_online(self) -> bool:
        """Whether the hub hears it."""
        return self is not ProviderState.OFFLINE and self is not ProviderState.UNREACHABLE

    @property
    def is_available(self) -> bool:
        """Whether it takes a job."""
        return self is ProviderState.AVAILABLE


class GpuInfo(Wire, frozen=True, kw_only=True):
    """One GPU's identity: what never changes while the driver stays loaded."""

    uuid: Name | None = None
    name: Name | None = None
    mem_total_mb: Count | None = None
    """MiB."""


class WorkloadParam(Wire, frozen=True, kw_only=True):
    """One declared parameter of a workload. What is None does not limit it."""

    name: Id
    type: Literal["string", "integer", "number", "boolean"]
    default: Any = None
    """None where a job must give it."""
    min: float | None = None
    max: float | None = None
    pattern: Sentence | None = None
    """A regular expression that the whole of a string must match."""
    choices: list[Any] | None = None


class Workload(Wire, frozen=True, kw_only=True):
    """A program that a provider's owner allows to be run, by name."""

    name: Id
    description: Sentence | None = None
    gpus: Count | None = None
    """How many it uses."""
    params: list[WorkloadParam] = []


class ProviderSpec(Wire, frozen=True, kw_only=True):
    """What a provider says of itself. Everything but ``workerId`` may be unknown."""

    worker_id: Id
    """Made once by the agent, at random, and kept in its state directory."""
    name: Name | None = None
    gpu_model: Name | None = None
    """The model that most of its GPUs are of."""
    gpu_count: Count | None = None
    gpu_mem_total_mb: Count | None = None
    """Of all GPUs, MiB."""
    gpus: list[GpuInfo] = []
    cpu_model: Name | None = None
    cpu_cores: Count | None = None
    ram_total_mb: Count | None = None
    """MiB."""
    limit: Limit | None = None
    """Where set, the cores and the RAM are those that the agent's control group may use, not the machine's
    (extension)."""
    os: Name | None = None
    driver_version: Name | None = None
    cuda_version: Name | None = None
    location: Name | None = None
    price_per_hour: Amount | None = None
    """In the hub's one currency."""
    agent_version: Name | None = None
    simulated: bool = False
    """Made up, by an operator: never matched unless a job asks for it."""
    workloads: list[Workload] = []
    """What its owner allows to be run."""


class Provider(ProviderSpec, frozen=True, kw_only=True):
    """A provider's record: what it says of itself and what the hub knows of it."""

    id: Id
    """Assigned by the hub at the first registration, and kept for good."""
    state: ProviderState
    is_online: bool
    is_available: bool
    current_job_id: Id | None = None
    registered_at: Timestamp
    """The first time ever."""
    last_heartbeat: Timestamp | None = None
    """When the hub last heard it, by the hub's clock."""


class ProviderStatus(Wire, frozen=True, kw_only=True):
    """``status`` of PROVIDER_STATUS_CHANGED."""

    is_online: bool
    is_available: bool
    state: ProviderState
    reason: Sentence | None = None
    """Why, in words, where there is more to say than the state."""
    current_job_id: Id | None = None
    last_heartbeat: Timestamp | None = None
    """When the hub last heard it, by the hub's clock."""


class GpuProcess(Wire, frozen=True, kw_only=True):
    """A process that holds a GPU."""

    pid: Count
    name: Name | None = None
    mem_used_mb: Count | None = None
    """MiB of the GPU's memory."""
    kind: Name | None = None
    """``compute`` or ``graphics``."""


class GpuAges(Wire, frozen=True, kw_only=True):
    """How many seconds ago a GPU's values were read (extension): what changes slowly is read less often.

    What is in none of these is read once, when the driver is loaded.
    """

    sample: Amount | None = None
    """Of use, memory, ``tempC``, ``powerW``, clocks, ``throttle``, ``performanceState``: 0 unless stale."""
    five_seconds: Amount | None = None
    """Of ``fanPercent``, ``memTempC``, ``energyJ``, ``avgPowerW`` and ``processes``: read every 5 s."""
    minute: Amount | None = None
    """Of ``powerLimitW``, ECC, remapped rows and the current PCIe link: read every 60 s."""


class GpuMetrics(Wire, frozen=True, kw_only=True):
    """One GPU, or one MIG instance of one, at one moment.

    Temperatures in °C, memory in MiB, power in W, clocks in MHz.
    """

    index: Count
    """Its place among the machine's GPUs, from 0. MIG instances, and GPUs gone from the driver, come last."""
    uuid: Name | None = None
    name: Name | None = None
    pci_address: Name | None = None
    """Where it is on the PCI bus (extension): ``0000:01:00.0``."""
    parent_index: Count | None = None
    """Index of the GPU that this MIG instance is a part of; None for a whole GPU (extension)."""
    parent_uuid: Name | None = None
    """UUID of that GPU (extension)."""
    gpu_instance_id: Count | None = None
    """The driver's number of a MIG instance within its GPU (extension)."""
    util_percent: Percent | None = None
    """Part of the time in which any kernel ran."""
    mem_util_percent: Percent | None = None
    """Part of the time in which memory was read or written; not how full it is."""
    mem_used_mb: Count | None = None
    mem_total_mb: Count | None = None
    temp_c: Celsius | None = None
    mem_temp_c: Celsius | None = None
    temp_slowdown_c: Celsius | None = None
    """Where the GPU itself begins to slow down (extension)."""
    temp_shutdown_c: Celsius | None = None
    """Where it turns itself off (extension)."""
    mem_temp_max_c: Celsius | None = None
    """Where it begins to slow down for its memory's sake (extension)."""
    power_w: Amount | None = None
    avg_power_w: Amount | None = None
    """Mean since ``energyJ`` was read before (extension); None at first, and after that was reset."""
    power_limit_w: Amount | None = None
    energy_j: Amount | None = None
    """Joules since the driver was loaded."""
    sm_clock_mhz: Count | None = None
    mem_clock_mhz: Count | None = None
    performance_state: Count | None = None
    """From 0, the fastest, to 15 (extension)."""
    fan_percent: Percent | None = None
    pcie_rx_bytes_per_sec: Amount | None = None
    """Only where it was asked for: measuring it holds the driver."""
    pcie_tx_bytes_per_sec: Amount | None = None
    pcie_link_gen: Count | None = None
    """Generation of the PCIe link as it runs now (extension); many GPUs lower it while idle."""
    pcie_link_gen_max: Count | None = None
    """The highest that GPU and machine have in common (extension)."""
    pcie_link_width: Count | None = None
    """Lanes in use now (extension)."""
    pcie_link_width_max: Count | None = None
    throttle: list[Name] | None = None
    """Reasons in words; empty when it is not held back, None when that can't be told."""
    ecc_corrected: Count | None = None
    """Corrected memory errors since the driver was loaded (extension)."""
    ecc_uncorrected: Count | None = None
    """Uncorrected memory errors since the driver was loaded."""
    row_remaps_correctable: Count | None = None
    """Rows of memory replaced for correctable errors, ever (extension)."""
    row_remaps_uncorrectable: Count | None = None
    """Rows of memory replaced for uncorrectable errors, ever (extension)."""
    row_remap_pending: bool | None = None
    """Whether a row waits for the next reset to be replaced (extension)."""
    row_remap_failure: bool | None = None
    """Whether a row could not be replaced: the GPU is due for exchange (extension)."""
    xid: Integer | None = None
    """Number of the driver's newest error report on it."""
    state: Literal["ok", "stale", "asleep", "lost"] = "ok"
    """How its values are to be read: of now, older than they should be, absent for it sleeps, or gone."""
    ages: GpuAges | None = None
    """None where there are no values."""
    processes: Annotated[list[GpuProcess], msgspec.Meta(max_length=MAX_GPU_PROCESSES)] | None = None
    """Those with the most memory first; None when they can't be listed."""


class AgentCost(Wire, frozen=True, kw_only=True):
    """What the agent itself costs the machine."""

    cpu_percent: Amount | None = None
    """Of one core."""
    rss_mb: Amount | None = None
    """Memory of all its processes, MiB."""
    sample_ms: Amount | None = None
    """How long taking the sample took."""


class Metrics(Wire, frozen=True, kw_only=True):
    """``metrics`` of GPU_METRICS_UPDATE: one sample of one machine."""

    cpu_percent: Percent | None = None
    """Over all cores; where a control group limits the CPU, of what it may use."""
    ram_percent: Percent | None = None
    """What is not available to a new program."""
    gpu_percent: Percent | None = None
    """Mean over GPUs; None without one."""
    gpu_temp: Celsius | None = None
    """The hottest GPU's, °C."""
    gpu_mem_used_mb: Count | None = None
    """Sum over GPUs, MiB."""
    gpu_mem_total_mb: Count | None = None
    """Sum over GPUs, MiB."""
    ram_used_mb: Count | None = None
    """MiB."""
    ram_total_mb: Count | None = None
    """MiB."""
    swap_used_mb: Count | None = None
    """MiB (extension)."""
    swap_total_mb: Count | None = None
    """MiB; 0 where there is none (extension)."""
    cpu_core_percents: Annotated[list[CorePercent], msgspec.Meta(max_length=MAX_CORES)] | None = None
    """Each core's use, rounded (extension). None where a control group limits the CPU, whose quota is of no
    particular cores, and for more cores than may be listed."""
    cpu_mhz: Count | None = None
    """Mean clock of the cores, MHz (extension)."""
    cpu_temp: Celsius | None = None
    """°C."""
    load1: Amount | None = None
    """Processes that ran or waited to, averaged over one minute."""
    net_rx_bytes_per_sec: Amount | None = None
    """Over the machine's own network devices: no loopback, no bridges of containers."""
    net_tx_bytes_per_sec: Amount | None = None
    """Over the machine's own network devices: no loopback, no bridges of containers."""
    disk_percent: Percent | None = None
    """How full the disk is that jobs would work on."""
    disk_used_mb: Count | None = None
    """Of the same disk, MiB (extension)."""
    disk_total_mb: Count | None = None
    """Of the same disk, MiB (extension)."""
    disk_read_bytes_per_sec: Amount | None = None
    """Of the same disk, by all programs; None where no single disk is behind it (extension)."""
    disk_write_bytes_per_sec: Amount | None = None
    """Of the same disk, by all programs; None where no single disk is behind it (extension)."""
    uptime_seconds: Amount | None = None
    limit: Limit | None = None
    """Where set, CPU and RAM (and swap) are of what the agent's control group may use, as far as it limits
    them, not of the whole machine (extension)."""
    gpus: list[GpuMetrics] = []
    gpu_note: Sentence | None = None
    """Why there are no GPU values, in words (extension): ``no NVIDIA GPU found (NVML not installed)``."""
    sampled_at: Timestamp | None = None
    """By the provider's own clock."""
    seq: Count | None = None
    """Grows by one per sample; a jump is a gap."""
    agent: AgentCost | None = None


class Headline(Wire, frozen=True, kw_only=True):
    """One provider's newest sample in a fleet digest: what a row of a table needs."""

    provider_id: Id
    timestamp: Timestamp
    """When the hub received the sample, by the hub's clock."""
    seq: Count | None = None
    cpu_percent: Percent | None = None
    ram_percent: Percent | None = None
    gpu_percent: Percent | None = None
    gpu_temp: Celsius | None = None
    """The hottest GPU's, °C."""
    hottest_gpu: Count | None = None
    """Index of the GPU that ``gpuTemp`` belongs to."""
    temp_slowdown_c: Celsius | None = None
    """Slowdown threshold of that GPU."""
    gpu_mem_used_mb: Count | None = None
    """Sum over GPUs, MiB."""
    gpu_mem_total_mb: Count | None = None
    """Sum over GPUs, MiB."""
    power_w: Amount | None = None
    """Sum over the GPUs that tell."""
    power_limit_w: Amount | None = None
    """Sum over the GPUs that tell."""
    throttle: list[Name] | None = None
    """Union of the reasons of all GPUs, ``idle`` left out."""
    gpus_lost: Count | None = None
    """How many GPUs are gone from the driver."""


class GpuHistoryPoint(Wire, frozen=True, kw_only=True):
    """One GPU in one step of history. Memory in MiB, temperature in °C, power in W."""

    util_percent: Percent | None = None
    mem_used_mb: Count | None = None
    temp_c: Celsius | None = None
    power_w: Amount | None = None


class HistoryPoint(Wire, frozen=True, kw_only=True):
    """One step of a provider's past, as the hub received it: the last sample of the step."""

    timestamp: Timestamp
    """When the step begins."""
    cpu_percent: Percent | None = None
    ram_percent: Percent | None = None
    gpu_percent: Percent | None = None
    gpu_temp: Celsius | None = None
    net_rx_bytes_per_sec: Amount | None = None
    """(Extension.)"""
    net_tx_bytes_per_sec: Amount | None = None
    """(Extension.)"""
    gpus: list[GpuHistoryPoint] = []
