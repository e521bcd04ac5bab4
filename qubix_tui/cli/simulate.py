"""`qubix simulate`: a made-up fleet, labelled as such, for demonstrations, screenshots and load."""

import argparse
import asyncio
import signal
import sys
from typing import TYPE_CHECKING

from qubix_tui.cli.common import (
    EXIT_FAILED,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
    CommandError,
    RawFormatter,
    add_hub_options,
    find_hub,
)

if TYPE_CHECKING:
    from qubix_tui.cli.common import Target
    from qubix_tui.simulation import SimulationReport

EXAMPLES = """\
examples:
  qubix simulate --providers 128                  a fleet to look at, beside a running hub or console
  qubix simulate --providers 1000 --hz 1 --seed 7  the same thousand every time

Every simulated provider is marked SIM wherever it is shown, and is gone when this ends.
"""

MOST_PROVIDERS = 20_000


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "simulate",
        help="connect made-up providers, labelled SIM",
        description="Connect made-up providers to a hub. "
        "Needs an operator's token (on this machine it is found).",
        epilog=EXAMPLES,
        formatter_class=RawFormatter,
    )
    parser.add_argument("--providers", metavar="N", type=_count, default=128, help="(default: 128)")
    parser.add_argument("--hz", metavar="H", type=_rate, default=1.0, help="samples a second (default: 1)")
    parser.add_argument("--seed", metavar="S", type=int, default=1, help="same seed, same fleet (default: 1)")
    add_hub_options(parser)
    parser.set_defaults(run=run)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST_PROVIDERS:
        raise argparse.ArgumentTypeError(f"expected 1 to {MOST_PROVIDERS} providers, not {text!r}")
    return int(text)


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.01 <= value <= 10:
        raise argparse.ArgumentTypeError(f"expected 0.01 to 10 samples a second, not {text!r}")
    return value


def run(arguments: argparse.Namespace) -> int:
    """Simulate until SIGTERM or Ctrl-C."""
    return asyncio.run(_simulate(find_hub(arguments), arguments))


async def _simulate(target: "Target", arguments: argparse.Namespace) -> int:
    from qubix_tui.client import BadUrl
    from qubix_tui.simulation import SimulationRefused, simulate

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    print(
        f"simulating on {target.url}, {arguments.hz:g} Hz, SIM on every screen; Ctrl-C ends it",
        file=sys.stderr,
    )
    try:
        await simulate(
            target.url,
            target.token,
            providers=arguments.providers,
            hz=arguments.hz,
            seed=arguments.seed,
            stop=stop,
            report=_show,
        )
    except SimulationRefused as error:
        raise CommandError(str(error), EXIT_UNREACHABLE if error.unreachable else EXIT_FAILED) from None
    except BadUrl as error:
        raise CommandError(str(error), EXIT_USAGE) from None
    return 0


def _show(report: "SimulationReport") -> None:
    print(report, file=sys.stderr)
