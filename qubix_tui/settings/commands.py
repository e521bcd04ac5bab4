"""The commands that write, check and show a program's file: ``config init|check|show``."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic

from qubix_tui import home
from qubix_tui.command import EXIT_FAILED
from qubix_tui.settings import toml
from qubix_tui.settings.layers import Applied
from qubix_tui.settings.schema import S, Schema, SettingsError


class ConfigCommands(Generic[S]):
    """``config`` below a program's command; each prints its result and gives the exit code.

    Args:
        file_name: What the file is called.
        schema: Gives the settings; asked only when a command runs.
        apply: Gives what applies, from the parsed arguments.
    """

    def __init__(
        self,
        file_name: str,
        schema: Callable[[], Schema[S]],
        apply: Callable[[argparse.Namespace], Applied[S]],
    ) -> None:
        self._file_name = file_name
        self._schema = schema
        self._apply = apply

    def add_parser(self, commands: "argparse._SubParsersAction[Any]", *, examples: str) -> None:
        """Add the command to those of a program."""
        config = commands.add_parser(
            "config",
            help=f"write, check or show {self._file_name}",
            description="Write, check or show the settings. A flag goes before the environment, "
            f"that before {self._file_name}, and that before the default.",
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        actions = config.add_subparsers(
            title="commands", metavar="COMMAND", parser_class=type(config), required=True
        )
        where = f"(default: {self._file_name} in $QUBIX_HOME)"
        init = actions.add_parser("init", help="write a commented file with every default; never overwrites")
        init.add_argument("file", metavar="FILE", type=Path, nargs="?", help=where)
        init.set_defaults(run=self.run_init)
        check = actions.add_parser(
            "check", help="read a file over: exit code 2 and a sentence if it is wrong"
        )
        check.add_argument("file", metavar="FILE", type=Path, nargs="?", help=where)
        check.set_defaults(run=self.run_check)
        show = actions.add_parser("show", help="say what applies, and where each value comes from")
        show.add_argument("--config", metavar="FILE", type=Path, default=argparse.SUPPRESS, help=where)
        show.add_argument("--json", action="store_true", help="for scripts")
        show.set_defaults(run=self.run_show)

    def run_init(self, arguments: argparse.Namespace) -> int:
        """Write a file to begin with.

        Raises:
            SettingsError: There is one, or it can't be written.
        """
        path = self._chosen_file(arguments)
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(toml.template(self._schema()))
        except FileExistsError:
            raise SettingsError(f"{path} is there already, and is left as it is", EXIT_FAILED) from None
        except OSError as error:
            raise SettingsError(f"can't write {path}: {error.strerror}", EXIT_FAILED) from None
        print(f"wrote {path}; it sets nothing yet: take the # away before what you want to change")
        return 0

    def run_check(self, arguments: argparse.Namespace) -> int:
        """Read a file over.

        Raises:
            SettingsError: It is wrong.
        """
        path, schema = self._chosen_file(arguments), self._schema()
        given = toml.read(schema, path)
        schema.check_together(given)
        print(f"{path} is good; it sets {len(given)} of {len(schema.settings)} settings")
        return 0

    def run_show(self, arguments: argparse.Namespace) -> int:
        """Say what applies.

        Raises:
            SettingsError: Something that was set is wrong.
        """
        applied = self._apply(arguments)
        values = applied.values()
        if arguments.json:
            settings = {
                key: {"value": value, "origin": applied.origins[key]} for key, value in values.items()
            }
            file = str(applied.file) if applied.file else None
            print(json.dumps({"file": file, "settings": settings}, indent=2, ensure_ascii=False))
            return 0
        print(f"file: {applied.file or f'none (no --config, and no {self._file_name} in QUBIX_HOME)'}")
        lines = [
            f"{key} = {'—' if value is None else toml.toml_value(value)}" for key, value in values.items()
        ]
        width = max(len(line) for line in lines if len(line) < 60)
        for line, origin in zip(lines, applied.origins.values(), strict=True):
            print(f"{line:{width}}  # {origin}")
        return 0

    def _chosen_file(self, arguments: argparse.Namespace) -> Path:
        chosen: Path = arguments.file or arguments.config or home.home_dir() / self._file_name
        return chosen
