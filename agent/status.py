"""How a running agent is: what `qubix-agent status` shows, for people and for scripts."""

from collections.abc import Iterator

import msgspec

from agent.table import UNKNOWN
from qubix_tui.protocol.records import AgentCost
from qubix_tui.protocol.requests import SetStatus


class Document(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Base of the parts: camelCase names, and None (``null``) for what is not known."""


class HubStatus(Document, frozen=True, kw_only=True):
    """The tie to the hub."""

    url: str
    state: str
    """As `qubix_tui.client.ConnectionState` names it."""
    provider_id: str | None = None
    """What the hub registered this machine as, last."""
    registered_at: str | None = None
    """Since when; None while it is not registered."""
    why_not: str | None = None
    """Why it is not."""
    next_attempt_seconds: float | None = None


class SampleStatus(Document, frozen=True, kw_only=True):
    """What was read, and what of it was sent."""

    taken: int
    sent: int
    age_seconds: float | None
    """Of the newest."""


class GpuStatus(Document, frozen=True, kw_only=True):
    """One GPU that is offered."""

    index: int
    name: str | None
    uuid: str | None
    state: str


class JobStatus(Document, frozen=True, kw_only=True):
    """One job that is held here."""

    job_id: str
    attempt: int
    workload: str
    state: str
    """``assigned``, ``running``, or ``ended``: the hub has yet to hear how."""
    progress: float | None = None
    """Percent, as the job says."""
    message: str | None = None


class Status(Document, frozen=True, kw_only=True):
    """All of it."""

    version: str
    pid: int
    started_at: str
    worker_id: str
    hub: HubStatus
    availability: SetStatus
    """What the owner wishes."""
    hub_knows: bool
    """Whether the hub has heard of that."""
    jobs: list[JobStatus]
    samples: SampleStatus
    cost: AgentCost | None
    gpus: list[GpuStatus]
    gpu_note: str | None


def lines(status: Status) -> Iterator[str]:
    """Give the lines for people; `—` stands for what is not known."""
    hub = status.hub
    if hub.registered_at is not None:
        yield _line("registered", f"as {hub.provider_id} since {hub.registered_at}")
    else:
        yield _line("registered", "no" if hub.provider_id is None else f"not now; last as {hub.provider_id}")
    yield _line("hub", f"{hub.url}  {hub.state.lower()}")
    if hub.why_not is not None:
        yield _line("", hub.why_not)
    if hub.next_attempt_seconds is not None:
        yield _line("", f"tried again in {hub.next_attempt_seconds:.0f} s")
    yield _line("takes jobs", _availability(status))
    for job in status.jobs:
        done = UNKNOWN if job.progress is None else f"{job.progress:g}%"
        words = "" if job.message is None else f"  {job.message}"
        yield _line("job", f"{job.job_id}  {job.workload}  {job.state}  {done}{words}")
    samples = status.samples
    age = UNKNOWN if samples.age_seconds is None else f"{samples.age_seconds:.1f} s"
    yield _line("samples", f"{samples.sent} sent of {samples.taken}, the newest {age} old")
    if status.gpu_note is not None:
        yield _line("gpus", status.gpu_note)
    for gpu in status.gpus:
        yield _line(f"gpu {gpu.index}", f"{gpu.name or UNKNOWN}  {gpu.state}")
        yield _line("", gpu.uuid or UNKNOWN)
    if status.cost is not None:
        yield _line("agent", _cost(status.cost))
    yield _line("", f"process {status.pid} since {status.started_at}, version {status.version}")


def _availability(status: Status) -> str:
    wish = status.availability
    if not (wish.paused or wish.draining):
        return "yes"
    said = f"no, {'paused' if wish.paused else 'draining'}"
    if wish.reason is not None:
        said += f": {wish.reason}"
    return said if status.hub_knows else f"{said} (the hub has yet to hear of it)"


def _cost(cost: AgentCost) -> str:
    cpu = UNKNOWN if cost.cpu_percent is None else f"{cost.cpu_percent}% of a core"
    rss = UNKNOWN if cost.rss_mb is None else f"{cost.rss_mb} MiB"
    took = UNKNOWN if cost.sample_ms is None else f"{cost.sample_ms} ms a sample"
    return f"{cpu}  {rss}  {took}"


def _line(label: str, text: str) -> str:
    return f"{label:<12}{text}"
