"""`qubix-agent enroll`: trade a code of a hub's operator for a token of this machine's own."""

import argparse
import sys
from typing import TYPE_CHECKING

from agent.cli.common import EXIT_USAGE, CommandError, RawFormatter, add_hub_options, report, transport

if TYPE_CHECKING:
    from agent.settings import AgentSettings
    from qubix_tui.settings.layers import Applied

EXAMPLES = """\
examples:
  qubix-agent enroll --hub wss://hub.example.org           asks for the code
  qubix-agent enroll --hub wss://hub.example.org < code    reads it, for scripts; it is never an argument

The code comes from the hub's operator (qubix enroll new), works once, and is good for 15 minutes. What the
hub gives for it is kept in QUBIX_HOME, and from then on qubix-agent alone finds that hub and its token.
"""

_NOT_KEPT = {"hub.ca_file": "ca_file", "hub.proxy": "proxy", "hub.insecure": "insecure"}
"""How a hub was reached is the owner's to set: what was said by a flag is not kept."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "enroll",
        help="trade a code for a token of this machine's own",
        description="Join a hub: trade a code of its operator for a token that is for this provider alone.",
        epilog=EXAMPLES,
        formatter_class=RawFormatter,
    )
    add_hub_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Trade a code, read from stdin, for a token that is kept."""
    import asyncio

    from agent import enrolment, settings
    from agent.state import identity
    from agent.target import DEFAULT_URL
    from agent.transport import TransportError
    from qubix_tui import home
    from qubix_tui.client import BadUrl, check_url

    directory = home.home_dir()
    applied = settings.apply(arguments, directory)
    hub = applied.settings.hub
    url = hub.url or home.running_hub(home=directory) or DEFAULT_URL
    code = read_code(url)
    try:
        # The code is as good as a token.
        check_url(url, token=code, insecure=hub.insecure)
        with identity(directory / "agent") as (state, worker):
            kept = asyncio.run(enrolment.enroll(url, code, worker, state, transport(applied.settings)))
    except (BadUrl, TransportError) as error:
        raise CommandError(str(error), EXIT_USAGE) from None
    except enrolment.EnrollFailed as error:
        raise CommandError(str(error)) from None
    report(f"enrolled as {kept.provider_id} at {url}; qubix-agent now finds that hub by itself")
    for line in to_be_set(applied):
        report(line)
    return 0


def to_be_set(applied: "Applied[AgentSettings]") -> list[str]:
    """Give what the agent needs beside the enrollment, as lines of ``agent.toml``."""
    from qubix_tui.settings.toml import toml_value

    values = applied.values()
    lines = [
        f"  {name} = {toml_value(values[key])}"
        for key, name in _NOT_KEPT.items()
        if applied.origins[key].startswith("--")
    ]
    return ["it needs these too; put them into agent.toml, under [hub]:", *lines] if lines else []


def read_code(url: str) -> str:
    """Ask for an enrollment code, on the terminal or from whatever stdin is.

    Raises:
        CommandError: What was given can be none.
    """
    from qubix_tui.protocol.tokens import read_code as meant

    if sys.stdin.isatty():
        print(f"enrollment code for {url}: ", end="", file=sys.stderr, flush=True)
    code = meant(sys.stdin.readline(256).strip())
    if code is None:
        raise CommandError(
            "that is no enrollment code: expected four groups of four letters and digits, "
            "as qubix enroll new shows them",
            EXIT_USAGE,
        )
    return code
