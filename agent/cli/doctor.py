"""`qubix-agent doctor`: look whether this machine can serve."""

import argparse
import json
import os
import sys
from pathlib import Path

from agent.cli.common import EXIT_FAILED, RawFormatter, add_hub_options, add_token_option, transport

EXAMPLES = """\
examples:
  qubix-agent doctor                          everything that has to be so, with the remedy where it is not
  qubix-agent doctor --json                   the same for scripts
  qubix-agent doctor --hub wss://hub.example.org --ca ca.pem

Run it as the user that the agent runs as. It sends nothing and changes nothing, and leaves a running agent
alone; a GPU that sleeps is woken.

exit codes: 0 this machine can serve · 1 it can't · 2 wrong usage or settings
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "doctor",
        help="look whether this machine can serve, and say what to do where it can't",
        description="Look at the machine, its GPUs, and the way to the hub.",
        epilog=EXAMPLES,
        formatter_class=RawFormatter,
    )
    add_hub_options(parser)
    add_token_option(parser)
    parser.add_argument("--json", action="store_true", help="one document, for scripts")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Look, tell, and give 0 if this machine can serve."""
    import asyncio

    import msgspec

    from agent import doctor, settings
    from agent.doctor.finding import lines
    from agent.jobs.workloads import JOB_USER
    from agent.sensors.offer import Offer
    from agent.target import TargetFinder
    from qubix_tui import home

    directory = home.home_dir()
    applied = settings.apply(arguments, directory).settings
    hub = applied.hub
    token_file = Path(hub.token_file) if hub.token_file else None
    patient = doctor.Patient(
        home=directory,
        finder=TargetFinder(hub.url, token_file, directory, transport(applied)),
        offer=Offer(applied.gpus.offer),
        gpu_is_on=applied.sensors.gpu,
        job_user=applied.jobs.user or (JOB_USER if os.geteuid() == 0 else None),
    )
    findings = asyncio.run(doctor.examine(patient))
    serves = doctor.can_serve(findings)
    if arguments.json:
        document = {"canServe": serves, "findings": findings}
        print(json.dumps(msgspec.to_builtins(document), indent=2))
    else:
        for line in lines(findings, ascii_only=not speaks_unicode()):
            print(line)
        print("\nthis machine can serve" if serves else "\nthis machine can't serve as it is")
    return 0 if serves else EXIT_FAILED


def speaks_unicode() -> bool:
    """Whether stdout takes more than ASCII."""
    try:
        "✓—…".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
