"""The fleet's rows as plain values, for files. No Textual in it."""

from collections.abc import Callable, Iterable
from typing import Final

from qubix_tui.console.fleet import Row, measured
from qubix_tui.console.saving import Table, Value
from qubix_tui.protocol.types import to_timestamp


def _trouble(row: Row) -> str | None:
    trouble = row.trouble()
    return None if trouble is None else trouble.word


VALUES: Final[dict[str, Callable[[Row], Value]]] = {
    "id": lambda row: row.record.id,
    "name": lambda row: row.name,
    "state": lambda row: row.record.state.value,
    "reason": lambda row: row.reason,
    "trouble": _trouble,
    "simulated": lambda row: row.record.simulated,
    "gpu_count": lambda row: row.record.gpu_count,
    "gpu_model": lambda row: row.record.gpu_model,
    "gpu_percent": lambda row: row.use,
    "gpu_mem_used_mib": measured(lambda sample: sample.gpu_mem_used_mb),
    "gpu_mem_total_mib": lambda row: row.record.gpu_mem_total_mb,
    "gpu_temp_c": measured(lambda sample: sample.gpu_temp),
    "power_w": measured(lambda sample: sample.power_w),
    "power_limit_w": measured(lambda sample: sample.power_limit_w),
    "cpu_percent": measured(lambda sample: sample.cpu_percent),
    "ram_percent": measured(lambda sample: sample.ram_percent),
    "price_per_hour": lambda row: row.record.price_per_hour,
    "location": lambda row: row.record.location,
    "job_id": lambda row: row.record.current_job_id,
    "sampled_at": lambda row: None if row.sampled_at is None else to_timestamp(row.sampled_at),
}
"""Name, with its unit, and value of each column."""


def fleet_table(rows: Iterable[Row]) -> Table:
    """Give the table of some rows, in their order."""
    return Table("fleet", list(VALUES), [[value(row) for value in VALUES.values()] for row in rows])
