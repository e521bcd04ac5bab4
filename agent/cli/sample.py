"""`qubix-agent sample`: what this machine tells, without a hub."""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from agent.cli.common import RawFormatter, sampler

if TYPE_CHECKING:
    from qubix_tui.protocol.records import Metrics

EXAMPLES = """\
examples:
  qubix-agent sample                  a table for people
  qubix-agent sample --json           one JSON document: the metrics as they would be sent
  qubix-agent sample --json --watch   one a line each second, until Ctrl-C
  qubix-agent sample --pcie           with what each GPU receives and sends over PCIe
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "sample",
        help="print what would be sent to a hub",
        description="Read this machine once and print it. It takes a second: rates need two readings.",
        epilog=EXAMPLES,
        formatter_class=RawFormatter,
    )
    parser.add_argument("--config", metavar="FILE", type=Path, default=argparse.SUPPRESS, help="its settings")
    parser.add_argument("--json", action="store_true", help="as JSON, exactly as it would be sent")
    parser.add_argument("--watch", action="store_true", help="go on each second until Ctrl-C")
    parser.add_argument(
        "--pcie",
        action="store_true",
        help="with PCIe throughput, which is never sent: it holds the NVIDIA driver for 40 ms a GPU",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print samples: the second one (the first has no rates), and with ``--watch`` all that follow."""
    from agent import settings
    from agent.sampler import Schedule
    from qubix_tui import home

    directory = home.home_dir()
    applied = settings.apply(arguments, directory).settings
    taking = sampler(applied, directory, pcie=arguments.pcie)
    schedule = Schedule(time.monotonic(), applied.sampling.interval_seconds)
    try:
        taking.sample()
        while True:
            now = time.monotonic()
            time.sleep(schedule.next_after(now) - now)
            show(taking.sample().metrics, as_json=arguments.json)
            if not arguments.watch:
                return 0
    finally:
        taking.close()


def show(metrics: "Metrics", *, as_json: bool) -> None:
    """Print one sample."""
    from agent.table import lines
    from qubix_tui.protocol.codec import encode_record

    if as_json:
        print(encode_record(metrics).decode(), flush=True)
    else:
        print("\n".join(lines(metrics)), end="\n\n" if sys.stdout.isatty() else "\n", flush=True)
