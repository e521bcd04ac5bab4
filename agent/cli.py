"""The `qubix-agent` command."""

import argparse
import contextlib
import logging
import math
import os
import socket
import stat
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from qubix_tui import __version__

if TYPE_CHECKING:
    from qubix_tui.protocol.records import Metrics

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

EXAMPLES = """\
examples:
  qubix-agent                                        offer this machine to the hub that runs on it
  qubix-agent --hub wss://hub.example.org --token-file /etc/qubix/token --price 0.45
  qubix-agent enroll --hub wss://hub.example.org     trade a code of that hub's operator for a token, once
  qubix-agent sample                                 what this machine tells, now, without a hub
  qubix-agent sample --json --watch                  the same, each second, exactly as it would be sent

It runs until SIGTERM or Ctrl-C, says goodbye to the hub and exits with 0. A hub that can't be reached is
tried for ever, and each new reason is said once on stderr. A hub that refuses (the token, a second agent with
the same identity) is asked again each minute.

exit codes: 0 ended as asked · 1 can't run (another agent uses the same QUBIX_HOME, say) · 2 wrong usage
"""

ENROLL_EXAMPLES = """\
examples:
  qubix-agent enroll --hub wss://hub.example.org           asks for the code
  qubix-agent enroll --hub wss://hub.example.org < code    reads it, for scripts; it is never an argument

The code comes from the hub's operator (qubix enroll new), works once, and is good for 15 minutes. What the
hub gives for it is kept in QUBIX_HOME, and from then on qubix-agent alone finds that hub and its token.
"""

SAMPLE_EXAMPLES = """\
examples:
  qubix-agent sample                  a table for people
  qubix-agent sample --json           one JSON document: the metrics as they would be sent
  qubix-agent sample --json --watch   one a line each second, until Ctrl-C
"""


class UsageError(Exception):
    """The command line can't be acted on; the message is one sentence."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence that says where help is."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and exit with 2."""
        self.exit(EXIT_USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def build_parser() -> Parser:
    """Build the parser of `qubix-agent` and its subcommands."""
    parser = Parser(
        prog="qubix-agent",
        description="Tell a hub how this machine and its GPUs do, once a second.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"qubix-agent {__version__}")
    parser.add_argument(
        "--hub",
        metavar="URL",
        help="the hub's address (default: $QUBIX_HUB, else the hub of this machine, else ws://localhost:3001)",
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        type=Path,
        help="file with the token to show there (default: $QUBIX_TOKEN, else the local hub's own)",
    )
    parser.add_argument("--name", help="what people call this machine (default: its host name)")
    parser.add_argument("--location", help="where it stands, in your words")
    parser.add_argument("--price", metavar="N", type=float, help="price per hour, in the hub's currency")
    parser.add_argument(
        "--insecure", action="store_true", help="allow the token over plain ws:// beyond this machine"
    )
    parser.add_argument("--lifeline", metavar="FD", type=int, help=argparse.SUPPRESS)
    parser.set_defaults(command=run_agent)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    sample = subparsers.add_parser(
        "sample",
        help="print what would be sent to a hub",
        description="Read this machine once and print it. It takes a second: rates need two readings.",
        epilog=SAMPLE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sample.add_argument("--json", action="store_true", help="as JSON, exactly as it would be sent")
    sample.add_argument("--watch", action="store_true", help="go on each second until Ctrl-C")
    sample.set_defaults(command=run_sample)
    enroll = subparsers.add_parser(
        "enroll",
        help="trade a code for a token of this machine's own",
        description="Join a hub: trade a code of its operator for a token that is for this provider alone.",
        epilog=ENROLL_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    enroll.add_argument("--hub", metavar="URL", default=argparse.SUPPRESS, help="the hub's address")
    enroll.add_argument(
        "--insecure",
        action="store_true",
        default=argparse.SUPPRESS,
        help="allow the code and the token over plain ws:// beyond this machine",
    )
    enroll.set_defaults(command=run_enroll)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `qubix-agent`.

    Args:
        argv: The command line without the program's name (default: the real one).

    Returns:
        The exit code.
    """
    parser = build_parser()
    arguments = parser.parse_args(argv)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        code: int = arguments.command(arguments)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (`head`, say) has what it wanted. Python would complain again when it flushes at exit.
        sys.stdout = None
        return 0
    return code


def run_agent(arguments: argparse.Namespace) -> int:
    """Run the agent until it is told to end."""
    import asyncio

    from agent.sensors.inventory import Owner
    from agent.service import Service
    from agent.state import StateError, locked, worker_id
    from agent.target import TargetError, TargetFinder
    from qubix_tui import home
    from qubix_tui.client import BadUrl

    try:
        check_lifeline(arguments.lifeline)
        price = check_price(arguments.price)
        name = check_line("--name", arguments.name) or default_name()
        location = check_line("--location", arguments.location)
        directory = home.home_dir()
        with locked(directory / "agent") as state:
            service = Service(
                TargetFinder(arguments.hub, arguments.token_file, directory),
                Owner(worker_id(state), name, location, price),
                state,
                lifeline=arguments.lifeline,
                insecure=arguments.insecure,
                report=report,
                complain=complain,
            )
            asyncio.run(service.run())
    except (UsageError, TargetError, BadUrl) as error:
        complain(str(error))
        return EXIT_USAGE
    except (StateError, home.HomeError) as error:
        complain(str(error))
        return EXIT_FAILED
    return 0


def run_enroll(arguments: argparse.Namespace) -> int:
    """Trade a code, read from stdin, for a token that is kept."""
    import asyncio

    from agent import enrolment
    from agent.state import StateError, identity
    from agent.target import DEFAULT_URL, asked_url
    from qubix_tui import home
    from qubix_tui.client import BadUrl, check_url

    try:
        directory = home.home_dir()
        url = asked_url(arguments.hub) or home.running_hub(home=directory) or DEFAULT_URL
        code = read_code(url)
        # The code is as good as a token.
        check_url(url, token=code, insecure=arguments.insecure)
        with identity(directory / "agent") as (state, worker):
            kept = asyncio.run(enrolment.enroll(url, code, worker, state))
    except (UsageError, BadUrl) as error:
        complain(str(error))
        return EXIT_USAGE
    except (enrolment.EnrollFailed, StateError, home.HomeError) as error:
        complain(str(error))
        return EXIT_FAILED
    report(f"enrolled as {kept.provider_id} at {url}; qubix-agent now finds that hub by itself")
    return 0


def read_code(url: str) -> str:
    """Ask for an enrollment code, on the terminal or from whatever stdin is.

    Raises:
        UsageError: What was given can be none.
    """
    from qubix_tui.protocol.tokens import read_code as meant

    if sys.stdin.isatty():
        print(f"enrollment code for {url}: ", end="", file=sys.stderr, flush=True)
    code = meant(sys.stdin.readline(256).strip())
    if code is None:
        raise UsageError(
            "that is no enrollment code: expected four groups of four letters and digits, "
            "as qubix enroll new shows them"
        )
    return code


def run_sample(arguments: argparse.Namespace) -> int:
    """Print samples: the second one (the first has no rates), and with ``--watch`` all that follow."""
    from agent.sampler import Sampler, Schedule
    from qubix_tui import home

    try:
        sampler = Sampler(home.home_dir())
    except home.HomeError as error:
        complain(str(error))
        return EXIT_FAILED
    schedule = Schedule(time.monotonic())
    try:
        sampler.sample()
        while True:
            now = time.monotonic()
            time.sleep(schedule.next_after(now) - now)
            show(sampler.sample().metrics, as_json=arguments.json)
            if not arguments.watch:
                return 0
    finally:
        sampler.close()


def show(metrics: "Metrics", *, as_json: bool) -> None:
    """Print one sample."""
    from agent.table import lines
    from qubix_tui.protocol.codec import encode_record

    if as_json:
        print(encode_record(metrics).decode(), flush=True)
    else:
        print("\n".join(lines(metrics)), end="\n\n" if sys.stdout.isatty() else "\n", flush=True)


def report(line: str) -> None:
    """Say one line on stdout."""
    _write(1, line)


def complain(sentence: str) -> None:
    """Say one sentence on stderr."""
    _write(2, f"qubix-agent: {sentence}")


def _write(descriptor: int, line: str) -> None:
    # A full disk, or a reader that has gone, is no reason to stop; nor may a rest in a buffer fail at exit.
    with contextlib.suppress(OSError):
        os.write(descriptor, f"{line}\n".encode())


def default_name() -> str | None:
    """The machine's own name, without its domain."""
    from agent.sensors.base import one_line

    return one_line(socket.gethostname().split(".")[0])


def check_line(option: str, text: str | None) -> str | None:
    """Give a text of the owner's back if the wire takes it.

    Raises:
        UsageError: It is empty, too long, or holds control characters.
    """
    from agent.sensors.base import one_line

    if text is not None and one_line(text) != text:
        raise UsageError(f"{option} takes one line of at most 128 characters, without control characters")
    return text


def check_price(price: float | None) -> float | None:
    """Give the price back if it is one.

    Raises:
        UsageError: It is negative or no number.
    """
    if price is not None and not (math.isfinite(price) and price >= 0):
        raise UsageError("--price takes a number from 0 up, such as 0.45")
    return price


def check_lifeline(descriptor: int | None) -> None:
    """Check that a lifeline is one.

    Raises:
        UsageError: It is no descriptor of a pipe that this process inherited.
    """
    if descriptor is None:
        return
    try:
        mode = os.fstat(descriptor).st_mode
    except (OSError, OverflowError):
        mode = 0
    if not stat.S_ISFIFO(mode) and not stat.S_ISSOCK(mode):
        raise UsageError(f"--lifeline takes the number of an inherited pipe, and {descriptor} is none")


if __name__ == "__main__":
    sys.exit(main())
