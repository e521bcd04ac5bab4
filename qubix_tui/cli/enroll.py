"""`qubix enroll`: let an agent in with a code that works once."""

import argparse
import asyncio
import json

from qubix_tui.cli.asking import ask
from qubix_tui.cli.common import Parser, RawFormatter, add_hub_options, find_hub
from qubix_tui.protocol.answers import Enrollment
from qubix_tui.protocol.requests import NewEnrollment

EXAMPLES = """\
examples:
  qubix enroll new --name rig-7
  qubix-agent enroll --hub wss://hub.example.org   there, on the machine with the GPUs

A code works once, for 15 minutes. The agent trades it for a token of its own, which is for that one provider.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand and its own."""
    parser = subparsers.add_parser(
        "enroll",
        help="make a code that lets one agent in",
        description="Let agents join a running hub.",
        epilog=EXAMPLES,
        formatter_class=RawFormatter,
    )
    actions = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser, required=True)
    new = actions.add_parser(
        "new", help="make a code", description="Make a code that lets one agent in, once."
    )
    new.add_argument("--name", help="what the provider's id is to begin with")
    new.add_argument("--json", action="store_true", help="one document, for scripts")
    add_hub_options(new)
    new.set_defaults(run=run_new)


def run_new(arguments: argparse.Namespace) -> int:
    """Make a code and show it."""
    target = find_hub(arguments)
    made: Enrollment = asyncio.run(ask(target, "enroll:new", NewEnrollment(name=arguments.name)))
    if arguments.json:
        print(json.dumps({"code": made.code, "expiresAt": made.expires_at}))
        return 0
    print(made.code)
    print(f"good once, until {made.expires_at}; on the machine that is to join: qubix-agent enroll --hub URL")
    return 0
