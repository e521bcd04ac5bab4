"""A provider in full: health and processes of its GPUs, what its owner allows, its jobs, and the machine."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from qubix_tui.console import gpu_words
from qubix_tui.console.format import (
    MIB_PER_GIB,
    UNKNOWN,
    format_duration,
    format_mem,
    format_moment,
    format_money,
    format_price,
    safe,
)
from qubix_tui.console.job_book import JobRow
from qubix_tui.console.widgets.line_panel import Line
from qubix_tui.console.widgets.section_panel import LABEL_WIDTH, SectionPanel
from qubix_tui.console.widgets.tiles import cut
from qubix_tui.protocol.job_records import JobState
from qubix_tui.protocol.records import GpuMetrics, GpuProcess, Metrics, Provider, WorkloadParam
from qubix_tui.protocol.types import from_timestamp

MOST_JOBS: Final = 20
BENCHMARK: Final = "benchmark"
"""The workload that each agent offers, and whose result is figures."""


class About(NamedTuple):
    """What is known of a provider."""

    record: Provider | None
    metrics: Metrics | None
    jobs: Sequence[JobRow]
    """That it has or had, the newest first."""
    are_jobs_known: bool
    """Whether the hub has told of the jobs at all."""
    now: float


class AboutPanel(SectionPanel):
    """Everything about a provider that is no curve."""

    def __init__(self, *, ascii_only: bool = False) -> None:
        super().__init__(ascii_only=ascii_only)
        self._about: About | None = None

    def show(self, about: About, *, stale: bool = False) -> None:
        """Show what is known.

        Args:
            about: What.
            stale: Whether the newest sample is no longer of now.
        """
        self._about = about
        self.grown(stale=stale)

    def sections(self, width: int) -> Sequence[tuple[str, Sequence[Line]]]:
        """Give the sections."""
        about = self._about
        if about is None:
            return []
        return [
            ("now", self._now(about, width)),
            ("health", self._health(about, width)),
            ("processes", self._processes(about, width)),
            ("what its owner allows", self._allowed(about, width)),
            ("past jobs", self._past(about, width)),
            ("benchmark", self._benchmark(about, width)),
            ("machine", self._machine(about, width)),
        ]

    def _now(self, about: About, width: int) -> list[Line]:
        record = about.record
        if record is None or record.current_job_id is None:
            return []
        row = next((one for one in about.jobs if one.job.id == record.current_job_id), None)
        if row is None:
            return [self.row("job", safe(record.current_job_id), width)]
        job, progress = row.job, row.job.progress
        lines = [self.row("job", f"{job.id} ({job.workload}), attempt {job.attempt}", width)]
        share = progress.progress if progress is not None else None
        parts = [
            "no progress reported" if share is None else f"{share:.0f}%",
            f"runs for {format_duration(row.elapsed(about.now))}",
        ]
        eta = row.eta(about.now)
        if eta is not None:
            parts.append(f"{format_duration(eta)} left, it says")
        parts.append(f"cost so far {format_money(row.cost(about.now))}")
        lines.append(self.row("", ", ".join(parts), width))
        if progress is not None and progress.message:
            lines.append(self.row("says", safe(progress.message), width))
        return lines

    def _health(self, about: About, width: int) -> list[Line]:
        lines = []
        for gpu in _gpus(about):
            health, link = gpu_words.health(gpu), gpu_words.pcie_link(gpu)
            heat = "" if gpu.mem_temp_c is None else f"   memory {gpu.mem_temp_c:.0f}°"
            state = "" if gpu.state == "ok" else f"   {gpu.state}"
            words = f"{health.value}{f', {health.note}' if health.note else ''}"
            line: Line = [
                self.text(f"{_gpu_name(gpu):<{LABEL_WIDTH}}", "label"),
                self.text(f"{words:<28}", health.style),
                self.text(f"PCIe {link.value}", link.style),
                self.text(f" {link.note}" if link.note else "", "label"),
                self.text(heat + state, "warn" if state else "value"),
            ]
            lines.append(line)
            lines += [self.row("", ill.sentence, width, ill.style) for ill in gpu_words.illnesses(gpu)]
        return lines

    def _processes(self, about: About, width: int) -> list[Line]:
        lines = []
        for gpu in _gpus(about):
            if gpu.processes is None:
                lines.append(self.row(_gpu_name(gpu), f"{UNKNOWN} can't be listed", width, "label"))
            for number, process in enumerate(gpu.processes or ()):
                lines.append(self.row("" if number else _gpu_name(gpu), _process(process), width))
        return lines or [self.row("", "none on any GPU", width, "label")]

    def _allowed(self, about: About, width: int) -> list[Line]:
        record = about.record
        if record is None:
            return []
        lines = [self.row("price", f"{format_price(record.price_per_hour)}/h", width)]
        for workload in record.workloads:
            gpus = "" if workload.gpus is None else f"{workload.gpus} GPUs" if workload.gpus != 1 else "1 GPU"
            words = "   ".join(part for part in (gpus, safe(workload.description or "")) if part)
            lines.append(self.row(workload.name, words, width))
            lines += [self.row("", _parameter(param), width, "label") for param in workload.params]
        if not record.workloads:
            lines.append(self.row("workloads", "none: nothing can be run on it", width, "label"))
        return lines

    def _past(self, about: About, width: int) -> list[Line]:
        if not about.are_jobs_known:
            return [self.row("", "asking the hub", width, "label")]
        over = [row for row in about.jobs if row.job.state.is_final][:MOST_JOBS]
        lines = []
        for row in over:
            job = row.job
            when = job.finished_at or job.created_at
            style = "hot" if job.state is JobState.FAILED else "value"
            words = (
                f"{format_moment(from_timestamp(when), about.now)}  {job.state.value:<9}  "
                f"{format_duration(row.elapsed(about.now)):>7}  {format_money(job.cost_micros):>7}  "
                f"{job.id} ({job.workload}){f': {safe(job.reason)}' if job.reason else ''}"
            )
            lines.append([self.text(cut(words, width), style)])
        return lines or [self.row("", "none that the hub still knows", width, "label")]

    def _benchmark(self, about: About, width: int) -> list[Line]:
        done = (
            row.job
            for row in about.jobs
            if row.job.workload == BENCHMARK and row.job.state is JobState.COMPLETED
        )
        job = next(done, None)
        if job is None:
            record = about.record
            is_offered = record is not None and any(one.name == BENCHMARK for one in record.workloads)
            how = "; b starts it" if is_offered else ""
            return [self.row("", f"never run, as far as the hub knows{how}", width, "label")]
        when = format_moment(from_timestamp(job.finished_at or job.created_at), about.now)
        return [
            self.row("measured", when, width, "label"),
            *(self.row("", words, width) for words in benchmark_lines(job.result)),
        ]

    def _machine(self, about: About, width: int) -> list[Line]:
        record = about.record
        if record is None:
            return []
        total = record.ram_total_mb
        facts = {
            "CPU": f"{record.cpu_model or UNKNOWN}, {record.cpu_cores or UNKNOWN} cores",
            "RAM": UNKNOWN if total is None else f"{total / MIB_PER_GIB:.0f}G",
            "os": record.os,
            "driver": f"{record.driver_version or UNKNOWN}, CUDA {record.cuda_version or UNKNOWN}",
            "agent": record.agent_version,
            "location": record.location,
            "registered": format_moment(from_timestamp(record.registered_at), about.now),
            "id": record.id,
            "worker id": record.worker_id,
        }
        return [self.row(label, safe(value or UNKNOWN), width) for label, value in facts.items()]


def benchmark_lines(result: object) -> list[str]:
    """Give a benchmark's figures in words; nothing of a result that has none."""
    figures = result.get("figures") if isinstance(result, dict) else None
    lines = []
    for figure in figures if isinstance(figures, list) else []:
        if isinstance(figure, dict):
            value = figure.get("value")
            shown = f"{value:g}" if isinstance(value, (int, float)) else UNKNOWN
            what = f"  ({figure['what']})" if figure.get("what") else ""
            lines.append(safe(f"{figure.get('name', UNKNOWN)}  {shown} {figure.get('unit') or ''}{what}"))
    return lines


def _gpus(about: About) -> Iterable[GpuMetrics]:
    return about.metrics.gpus if about.metrics is not None else ()


def _gpu_name(gpu: GpuMetrics) -> str:
    if gpu.parent_index is None:
        return f"GPU {gpu.index}"
    return f"GPU {gpu.parent_index} MIG {UNKNOWN if gpu.gpu_instance_id is None else gpu.gpu_instance_id}"


def _process(process: GpuProcess) -> str:
    used = "" if process.mem_used_mb is None else f"  {format_mem(process.mem_used_mb, None).split('/')[0]}G"
    kind = f"  {safe(process.kind)}" if process.kind else ""
    return f"{process.pid:>8}  {safe(process.name or UNKNOWN)}{used}{kind}"


def _parameter(param: WorkloadParam) -> str:
    limits: list[Any] = []
    if param.choices is not None:
        limits.append(f"one of {', '.join(str(choice) for choice in param.choices)}")
    if param.min is not None or param.max is not None:
        least = UNKNOWN if param.min is None else f"{param.min:g}"
        most = UNKNOWN if param.max is None else f"{param.max:g}"
        limits.append(f"{least} to {most}")
    limits.append("to be given" if param.default is None else f"else {param.default}")
    return safe(f"{param.name}: {param.type}, {', '.join(limits)}")
