"""The `qubix-agent` command: reads the arguments, runs one subcommand, makes its failure one sentence."""

import io
import logging
import sys
from collections.abc import Sequence

from agent.cli import config, doctor, enroll, owner, run, sample, workloads
from agent.cli.common import Parser, RawFormatter, complain
from agent.state import StateError
from qubix_tui import __version__
from qubix_tui.command import exit_code
from qubix_tui.home import HomeError

EXAMPLES = """\
examples:
  qubix-agent                                        offer this machine to the hub that runs on it
  qubix-agent --hub wss://hub.example.org --token-file /etc/qubix/token --price 0.45
  qubix-agent enroll --hub wss://hub.example.org     trade a code of that hub's operator for a token, once
  qubix-agent config init                            write a commented agent.toml, which it reads at its start
  qubix-agent workloads list                         what a hub may have run here, and what not and why
  qubix-agent doctor                                 whether this machine can serve, and what to do where not
  qubix-agent pause --reason "I need it myself"      take the machine back; resume offers it again
  qubix-agent sample                                 what this machine tells, now, without a hub

It runs until SIGTERM or Ctrl-C, says goodbye to the hub and exits with 0. A hub that can't be reached is
tried for ever, and each new reason is said once on stderr. A hub that refuses (the token, a second agent with
the same identity) is asked again each minute.

exit codes: 0 done, or ended as asked · 1 can't run (another agent uses the same QUBIX_HOME, say)
2 wrong usage or settings · 3 no agent answers · 130 Ctrl-C
"""

SUBCOMMANDS = (enroll, config, doctor, workloads, owner, sample)


def build_parser() -> Parser:
    """Build the parser of `qubix-agent` and its subcommands."""
    parser = Parser(
        prog="qubix-agent",
        description="Tell a hub how this machine and its GPUs do, once a second.",
        epilog=EXAMPLES,
        formatter_class=RawFormatter,
    )
    parser.add_argument("--version", action="version", version=f"qubix-agent {__version__}")
    run.add_arguments(parser)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    for module in SUBCOMMANDS:
        module.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `qubix-agent`.

    Args:
        argv: The command line without the program's name (default: the real one).

    Returns:
        The exit code.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What a terminal can't show is no reason to show nothing.
        sys.stdout.reconfigure(errors="replace")
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    return exit_code(lambda: arguments.run(arguments), complain, (StateError, HomeError))
