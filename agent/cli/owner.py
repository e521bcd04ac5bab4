"""`qubix-agent pause|resume|drain|status`: how an owner commands the running agent."""

import argparse
import json
from typing import TYPE_CHECKING

from agent.cli.common import EXIT_UNREACHABLE, EXIT_USAGE, CommandError, complain

if TYPE_CHECKING:
    from agent.status import Status

_HELP = {
    "pause": "take this machine back: no job begins here until resume",
    "drain": "let what runs finish, and begin nothing new",
    "resume": "offer this machine again",
    "status": "say how the running agent does",
}

_DONE = {
    "pause": "paused",
    "drain": "draining: what runs is finished, and nothing new begins",
    "resume": "offered again",
}


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommands."""
    for name, words in _HELP.items():
        parser = subparsers.add_parser(
            name,
            help=words,
            description=f"{words[0].upper()}{words[1:]}. It speaks to the agent that runs with this "
            "QUBIX_HOME; no hub has a say in it.",
        )
        if name in {"pause", "drain"}:
            parser.add_argument("--reason", metavar="TEXT", help="why, for those who look at the hub")
        parser.add_argument("--json", action="store_true", help="the whole status as JSON, for scripts")
        parser.set_defaults(run=run, do=name)


def run(arguments: argparse.Namespace) -> int:
    """Have the agent do it, and say how it is after that."""
    import msgspec

    from agent import control, status
    from qubix_tui import home

    try:
        command = msgspec.convert(
            {"do": arguments.do, "reason": getattr(arguments, "reason", None)}, control.Command
        )
    except msgspec.ValidationError:
        raise CommandError(
            "--reason takes one line of at most 1024 characters, without control characters", EXIT_USAGE
        ) from None
    try:
        reply = control.ask(home.home_dir() / "agent", command)
    except control.ControlError as error:
        raise CommandError(str(error), EXIT_UNREACHABLE) from None
    if reply.status is None:
        raise CommandError(reply.error or "the agent gives no reason")
    if reply.warning is not None:
        complain(reply.warning)
    if arguments.json:
        print(json.dumps(msgspec.to_builtins(reply.status), indent=2))
    elif arguments.do == "status":
        print("\n".join(status.lines(reply.status)))
    else:
        print(f"{_DONE[arguments.do]}{_hub_words(reply.status)}")
    return 0


def _hub_words(shown: "Status") -> str:
    if shown.hub_knows:
        return ""
    return f"; the hub will hear of it when it is reached ({shown.hub.why_not or 'it has not answered yet'})"
