"""The `qubix` command: reads the arguments, runs one subcommand, turns its failure into one sentence."""

import sys
from collections.abc import Sequence

from qubix_tui import __version__
from qubix_tui.cli import (
    console,
    demo,
    enroll,
    hub,
    jobs,
    providers,
    simulate,
    stats,
    submit,
    token,
    watch,
    web,
)
from qubix_tui.cli.common import (
    EXIT_CODES,
    Parser,
    RawFormatter,
    add_display_options,
    add_hub_options,
)
from qubix_tui.command import exit_code
from qubix_tui.home import HomeError

EXAMPLES = f"""\
examples:
  qubix                                the console, on this machine's hub (started if there is none)
  qubix --hub wss://hub.example.org    the console, on another hub
  qubix hub --port 4000                a hub alone
  qubix providers --json               who is there, for scripts
  qubix submit benchmark --follow      run something there, and look on
  qubix jobs                           what runs, waits, and is over
  qubix watch marketplace provider:*   events as they come, one JSON document a line

{EXIT_CODES}
"""

SUBCOMMANDS = (demo, hub, providers, submit, jobs, stats, watch, web, simulate, token, enroll)


def build_parser() -> Parser:
    """Build the parser of `qubix` and all its subcommands."""
    parser = Parser(
        prog="qubix",
        description="See a GPU marketplace live: who is online, how its GPUs do, and how old that is.",
        epilog=EXAMPLES,
        formatter_class=RawFormatter,
    )
    parser.add_argument("--version", action="version", version=f"qubix {__version__}")
    add_hub_options(parser, default=None)
    add_display_options(parser, default=False)
    parser.set_defaults(run=console.run)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    for module in SUBCOMMANDS:
        module.add_parser(subparsers)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `qubix`.

    Args:
        arguments: The command line without the program's name (default: the real one).

    Returns:
        The exit code.
    """
    parser = build_parser()
    parsed = parser.parse_args(arguments)
    if parsed.run in {demo.run, hub.run} and parsed.hub is not None:
        parser.error("--hub is for a hub that runs already; demo and hub start one")
    return exit_code(lambda: parsed.run(parsed), complain, (HomeError,))


def complain(sentence: str) -> None:
    """Say one sentence on stderr."""
    print(f"qubix: {sentence}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
