"""The workload that every agent offers unless its owner says no: the benchmark of this machine."""

import sys
from pathlib import Path
from typing import Final

import agent
from agent.jobs.benchmark.bounds import (
    DEFAULT_DISK_MB,
    DEFAULT_SECONDS,
    LEAST_DISK_MB,
    LEAST_SECONDS,
    MOST_DISK_MB,
    MOST_SECONDS,
)
from agent.jobs.definition import Definition
from agent.jobs.launch import Limits, ProgressSource
from qubix_tui.protocol.records import WorkloadParam

MODULE: Final = "agent.jobs.benchmark"
COMMAND: Final = (sys.executable, "-P", "-m", MODULE)
ENVIRONMENT: Final = {"PYTHONPATH": str(Path(agent.__file__).parents[1])}
"""However the agent itself was found."""

LONGEST_SECONDS: Final = 3 * MOST_SECONDS
"""A slow disk takes its time over the last flush."""

BENCHMARK: Final = Definition(
    name="benchmark",
    description="Measures this machine: SHA-256, memory and disk, and the memory and FP32 rate of its GPUs.",
    command=(*COMMAND, "--seconds", "{seconds}", "--disk-mb", "{disk_mb}"),
    environment=ENVIRONMENT,
    params=(
        WorkloadParam(
            name="seconds", type="integer", default=DEFAULT_SECONDS, min=LEAST_SECONDS, max=MOST_SECONDS
        ),
        WorkloadParam(
            name="disk_mb", type="integer", default=DEFAULT_DISK_MB, min=LEAST_DISK_MB, max=MOST_DISK_MB
        ),
    ),
    gpus=None,
    limits=Limits(wall_seconds=LONGEST_SECONDS),
    progress=ProgressSource(kind="json"),
    # A program of ours, which takes two numbers; shut in, it would measure the sandbox's own directories.
    sandbox="none",
    network=True,
)
"""``benchmark``."""
