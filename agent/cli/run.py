"""`qubix-agent`: offer this machine, until SIGTERM or Ctrl-C."""

import argparse
import os
import stat
from pathlib import Path

from agent.cli.common import (
    EXIT_USAGE,
    CommandError,
    add_hub_options,
    add_token_option,
    complain,
    default_name,
    report,
    sampler,
    transport,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags; one that is not given is None, and leaves the setting to others."""
    add_hub_options(parser, default=None)
    add_token_option(parser, default=None)
    parser.add_argument("--name", help="what people call this machine (default: its host name)")
    parser.add_argument("--location", help="where it stands, in your words")
    parser.add_argument("--price", metavar="N", type=float, help="price per hour, in the hub's currency")
    parser.add_argument("--interval", metavar="SECONDS", type=float, help="between samples (default: 1)")
    parser.add_argument("--lifeline", metavar="FD", type=int, help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the agent until it is told to end."""
    import asyncio

    from agent import settings
    from agent.jobs import workloads
    from agent.sensors.inventory import Owner
    from agent.service import Service
    from agent.state import locked, worker_id
    from agent.target import TargetError, TargetFinder
    from agent.transport import TransportError
    from qubix_tui import home
    from qubix_tui.client import BadUrl
    from qubix_tui.notify import Notifier

    check_lifeline(arguments.lifeline)
    directory = home.home_dir()
    applied = settings.apply(arguments, directory).settings
    hub, provider, jobs = applied.hub, applied.provider, applied.jobs
    file = workloads.owner_file(jobs.workloads_file, directory)
    # What is wrong with the file is said now, and not once it was tried out.
    workloads.read(file)
    token_file = Path(hub.token_file) if hub.token_file else None
    hidden = [hub.token_file] if hub.token_file else []
    with locked(directory / "agent") as state:
        service = Service(
            TargetFinder(hub.url, token_file, directory, transport(applied)),
            Owner(
                worker_id(state), provider.name or default_name(), provider.location, provider.price_per_hour
            ),
            state,
            sampler=sampler(applied, state),
            period=applied.sampling.interval_seconds,
            catalogue=lambda: workloads.Catalogue.load(file, user=jobs.user, hidden=hidden),
            lifeline=arguments.lifeline,
            notifier=Notifier.from_environment(),
            report=report,
            complain=complain,
        )
        try:
            asyncio.run(service.run())
        except (TargetError, TransportError, BadUrl) as error:
            raise CommandError(str(error), EXIT_USAGE) from None
    return 0


def check_lifeline(descriptor: int | None) -> None:
    """Check that a lifeline is one.

    Raises:
        CommandError: It is no descriptor of a pipe that this process inherited.
    """
    if descriptor is None:
        return
    try:
        mode = os.fstat(descriptor).st_mode
    except (OSError, OverflowError):
        mode = 0
    if not stat.S_ISFIFO(mode) and not stat.S_ISSOCK(mode):
        raise CommandError(
            f"--lifeline takes the number of an inherited pipe, and {descriptor} is none", EXIT_USAGE
        )
