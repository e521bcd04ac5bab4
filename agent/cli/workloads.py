"""`qubix-agent workloads`: write, check and show what may be run on this machine."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli.common import EXIT_FAILED, CommandError, RawFormatter

if TYPE_CHECKING:
    from agent.jobs.definition import Definition
    from agent.jobs.workloads import Catalogue

EXAMPLES = """\
examples:
  qubix-agent workloads init           a commented workloads.toml in QUBIX_HOME, where the agent looks for it
  qubix-agent workloads check          exit code 2 and a sentence with line and key if it is wrong
  qubix-agent workloads list           what is offered, what is not and why; each sandbox is tried out for it
  qubix-agent workloads list --json    the same, for scripts
"""

_WHERE = "(default: as agent.toml says, else workloads.toml in $QUBIX_HOME)"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand and its own."""
    workloads = subparsers.add_parser(
        "workloads",
        help="write, check or show what may be run here",
        description="What a hub may have run on this machine: the owner's workloads.toml, and the benchmark.",
        epilog=EXAMPLES,
        formatter_class=RawFormatter,
    )
    actions = workloads.add_subparsers(
        title="commands", metavar="COMMAND", parser_class=type(workloads), required=True
    )
    init = actions.add_parser("init", help="write a commented file to begin with; never overwrites")
    init.set_defaults(run=run_init)
    check = actions.add_parser("check", help="read a file over: exit code 2 and a sentence if it is wrong")
    check.set_defaults(run=run_check)
    shown = actions.add_parser("list", help="say what is offered, what is not, and why")
    shown.add_argument("--json", action="store_true", help="for scripts")
    shown.set_defaults(run=run_list)
    for parser in (init, check, shown):
        parser.add_argument("file", metavar="FILE", type=Path, nargs="?", help=_WHERE)


def run_init(arguments: argparse.Namespace) -> int:
    """Write a file to begin with."""
    from agent.jobs.workload_file import FILE_NAME
    from agent.jobs.workload_template import template
    from qubix_tui import home

    asked, _ = _applied(arguments)
    path = asked or home.home_dir() / FILE_NAME
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(template())
    except FileExistsError:
        raise CommandError(f"{path} is there already, and is left as it is", EXIT_FAILED) from None
    except OSError as error:
        raise CommandError(f"can't write {path}: {error.strerror}", EXIT_FAILED) from None
    print(f"wrote {path}; it allows nothing yet: take the # away before what you want to offer")
    return 0


def run_check(arguments: argparse.Namespace) -> int:
    """Read a file over."""
    from agent.jobs import workloads

    path = _existing(arguments)
    definitions = workloads.read(path)
    if path is None:
        print("there is no workloads.toml: the built-in benchmark alone is offered")
    else:
        print(f"{path} is good; it makes {_counted(len(definitions), 'workload')} with the built-in one")
    return 0


def run_list(arguments: argparse.Namespace) -> int:
    """Try everything out, and say what is offered."""
    from agent.jobs.workloads import Catalogue

    path = _existing(arguments)
    _, user = _applied(arguments)
    catalogue = Catalogue.load(path, user=user)
    if arguments.json:
        print(json.dumps(_as_json(catalogue, path), indent=2, ensure_ascii=False))
    else:
        print(f"file: {path or 'none (there is no workloads.toml)'}")
        print("\n".join(_lines(catalogue)))
    return 0


def _applied(arguments: argparse.Namespace) -> tuple[Path | None, str | None]:
    """The file that was asked for, by argument or setting, and whom jobs run as."""
    from agent import settings
    from qubix_tui import home

    jobs = settings.apply(arguments, home.home_dir()).settings.jobs
    asked = arguments.file or (Path(jobs.workloads_file) if jobs.workloads_file else None)
    return asked, jobs.user


def _existing(arguments: argparse.Namespace) -> Path | None:
    from agent.jobs.workloads import owner_file
    from qubix_tui import home

    asked, _ = _applied(arguments)
    return owner_file(None if asked is None else str(asked), home.home_dir())


def _as_json(catalogue: "Catalogue", path: Path | None) -> dict[str, Any]:
    import msgspec

    return {
        "file": None if path is None else str(path),
        "workloads": [
            {
                **msgspec.to_builtins(entry.definition.record()),
                "offered": entry.reason is None,
                "reason": entry.reason,
                "sandbox": entry.definition.sandbox,
                "user": entry.user,
            }
            for entry in catalogue.entries
        ],
    }


def _lines(catalogue: "Catalogue") -> list[str]:
    width = max((len(entry.definition.name) for entry in catalogue.entries), default=0)
    lines = []
    for entry in catalogue.entries:
        state = "offered" if entry.reason is None else f"NOT OFFERED: {entry.reason}"
        lines.append(f"{entry.definition.name:{width}}  {state}")
        lines.append(f"{'':{width}}  {_about(entry.definition, entry.user)}")
    return lines or ["nothing is offered: the file allows nothing, and has benchmark = false"]


def _about(definition: "Definition", user: str | None) -> str:
    gpus = "all GPUs" if definition.gpus is None else _counted(definition.gpus, "GPU")
    sandbox = "no sandbox" if definition.sandbox == "none" else definition.sandbox
    params = ", ".join(
        param.name if param.default is None else f"{param.name} ({json.dumps(param.default)})"
        for param in definition.params
    )
    return f"{sandbox} · {gpus} · as {user or 'the agent'} · {params or 'no parameters'}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
