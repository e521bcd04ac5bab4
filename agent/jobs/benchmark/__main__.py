"""``python -m agent.jobs.benchmark``: measures, reports progress, and leaves a result as JSON.

Progress goes to the file that ``QUBIX_PROGRESS`` names and the result to the one that ``QUBIX_RESULT`` names;
run by hand, without them, the result goes to stdout.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from agent.jobs.benchmark.bounds import DEFAULT_DISK_MB, DEFAULT_SECONDS, MOST_DISK_MB, MOST_SECONDS
from agent.jobs.benchmark.progress import Progress
from agent.jobs.benchmark.run import Run


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark.

    Args:
        argv: The command line without the program's name (default: the real one).

    Returns:
        0; 1 if the machine computed something wrong.
    """
    parser = argparse.ArgumentParser(
        prog="python -m agent.jobs.benchmark", description="Measure this machine: cores, memory, disk, GPUs."
    )
    parser.add_argument(
        "--seconds", type=float, default=DEFAULT_SECONDS, help="how long, at most (default %(default)s)"
    )
    parser.add_argument(
        "--disk-mb",
        type=int,
        default=DEFAULT_DISK_MB,
        help="MiB to write to the working directory and read back, at most (default %(default)s)",
    )
    arguments = parser.parse_args(argv)
    if not 0 < arguments.seconds <= MOST_SECONDS or not 0 < arguments.disk_mb <= MOST_DISK_MB:
        parser.error(f"it takes --seconds up to {MOST_SECONDS} and --disk-mb up to {MOST_DISK_MB}")
    progress = Progress(os.environ.get("QUBIX_PROGRESS"), arguments.seconds)
    result_file = os.environ.get("QUBIX_RESULT")
    log = sys.stdout if result_file else sys.stderr

    def say(line: str) -> None:
        log.write(f"{line}\n")
        log.flush()

    run = Run(progress, say)
    run.measure(Path(), arguments.seconds, arguments.disk_mb)
    result = json.dumps(run.result(), ensure_ascii=False)
    if result_file:
        Path(result_file).write_text(result, encoding="utf-8")
    else:
        sys.stdout.write(f"{result}\n")
    progress.finish()
    return 1 if run.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
