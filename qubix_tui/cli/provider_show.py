"""`qubix providers show`: all that a hub knows of one provider."""

import argparse
import math
from collections.abc import Iterator
from typing import Any

from qubix_tui.cli.common import add_hub_options, find_hub
from qubix_tui.cli.jobs import print_json
from qubix_tui.cli.reading import get_record
from qubix_tui.cli.submit import an_id
from qubix_tui.protocol.checks import printable
from qubix_tui.protocol.job_records import Job
from qubix_tui.protocol.records import GpuMetrics, Metrics, Provider
from qubix_tui.protocol.types import Timestamp, Wire

UNKNOWN = "—"
_MIB_PER_GIB = 1_024
_WIDTH = 2_000


class ProviderDocument(Wire, frozen=True, kw_only=True):
    """What `/api/providers/<id>` answers."""

    provider: Provider
    metrics: Metrics | None = None
    metrics_timestamp: Timestamp | None = None
    benchmark: Job | None = None


def add_parser(actions: "argparse._SubParsersAction[Any]") -> None:
    """Add the subcommand."""
    parser = actions.add_parser(
        "show",
        help="all about one",
        description="Show one provider: its record, its GPUs, its newest metrics and its last benchmark.",
    )
    parser.add_argument("provider_id", metavar="PROVIDER", type=an_id, help="as qubix providers lists it")
    parser.add_argument("--json", action="store_true", help="one document, for scripts")
    add_hub_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Ask for one provider and print it."""
    found = get_record(find_hub(arguments), f"/api/providers/{arguments.provider_id}", ProviderDocument)
    if arguments.json:
        print_json(found)
        return 0
    for name, text in _facts(found):
        print(f"{name:10} {printable(text, _WIDTH)}".rstrip())
    return 0


def _facts(found: ProviderDocument) -> Iterator[tuple[str, str]]:
    yield from _record(found.provider)
    yield from _newest(found)
    yield from _benchmark(found.benchmark)


def _record(provider: Provider) -> Iterator[tuple[str, str]]:
    job = f", runs {provider.current_job_id}" if provider.current_job_id else ""
    yield "provider", provider.id + (" (simulated)" if provider.simulated else "")
    yield "name", provider.name or UNKNOWN
    yield "state", f"{provider.state.value}{job}"
    yield "heard", provider.last_heartbeat or UNKNOWN
    yield "location", provider.location or UNKNOWN
    yield "price/h", _value(provider.price_per_hour)
    limit = f" (limit: {provider.limit})" if provider.limit else ""
    yield "cpu", f"{provider.cpu_model or UNKNOWN}, {_value(provider.cpu_cores)} cores{limit}"
    yield "ram", _gib(provider.ram_total_mb) + limit
    yield "os", provider.os or UNKNOWN
    yield "driver", f"{provider.driver_version or UNKNOWN}, CUDA {provider.cuda_version or UNKNOWN}"
    yield "agent", provider.agent_version or UNKNOWN
    yield "worker id", provider.worker_id
    yield "registered", provider.registered_at
    for number, gpu in enumerate(provider.gpus):
        memory = _gib(gpu.mem_total_mb)
        yield f"gpu {number}", f"{gpu.name or UNKNOWN}  {memory}  {gpu.uuid or UNKNOWN}"
    if not provider.gpus:
        yield "gpus", {None: UNKNOWN, 0: "none"}.get(provider.gpu_count, _value(provider.gpu_count))
    yield "workloads", ", ".join(workload.name for workload in provider.workloads) or "none"


def _newest(found: ProviderDocument) -> Iterator[tuple[str, str]]:
    metrics = found.metrics
    yield "", ""
    yield "metrics", found.metrics_timestamp or UNKNOWN
    if metrics is None:
        return
    yield (
        "  cpu",
        f"{_value(metrics.cpu_percent)} %  {_value(metrics.cpu_temp)} °C  load {_value(metrics.load1)}",
    )
    yield "  ram", f"{_value(metrics.ram_percent)} %  {_gib(metrics.ram_used_mb)} used"
    yield "  disk", f"{_value(metrics.disk_percent)} %  {_gib(metrics.disk_used_mb)} used"
    yield (
        "  network",
        (f"{_value(metrics.net_rx_bytes_per_sec)} B/s in  {_value(metrics.net_tx_bytes_per_sec)} B/s out"),
    )
    yield from ((f"  gpu {gpu.index}", _gpu(gpu)) for gpu in metrics.gpus)
    if metrics.gpu_note:
        yield "  gpus", metrics.gpu_note


def _gpu(gpu: GpuMetrics) -> str:
    return (
        f"{_value(gpu.util_percent)} %  {_gib(gpu.mem_used_mb)} of {_gib(gpu.mem_total_mb)}  "
        f"{_value(gpu.temp_c)} °C  {_value(gpu.power_w)} W"
    )


def _benchmark(job: Job | None) -> Iterator[tuple[str, str]]:
    yield "", ""
    if job is None:
        yield "benchmark", "none completed; qubix submit benchmark --provider ID --follow measures it"
        return
    # What a provider says of itself may have any form.
    result = job.result if isinstance(job.result, dict) else {}
    yield "benchmark", f"{result.get('measuredAt') or job.finished_at}  job {job.id}"
    versions = result.get("versions")
    said = versions.items() if isinstance(versions, dict) else ()
    words = [f"{name} {value}" for name, value in said if value is not None]
    yield "  versions", ", ".join([f"benchmark {result.get('benchmark') or UNKNOWN}", *words])
    figures, notes = result.get("figures"), result.get("notes")
    for figure in figures if isinstance(figures, list) else ():
        if isinstance(figure, dict):
            yield "", _figure(figure)
    for note in notes if isinstance(notes, list) else ():
        yield "  note", str(note)


def _figure(figure: dict[str, Any]) -> str:
    of = f" of {figure['gpu']}" if figure.get("gpu") else ""
    value = f"{_value(figure.get('value'))} {figure.get('unit') or ''}"
    return f"{figure.get('name') or UNKNOWN}{of}  {value}  ({figure.get('what') or UNKNOWN})"


def _value(value: object) -> str:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return f"{value:.6g}" if known else UNKNOWN


def _gib(mib: int | None) -> str:
    return UNKNOWN if mib is None else f"{mib / _MIB_PER_GIB:.1f} GiB"
