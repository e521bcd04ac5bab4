"""What applies to a program: a flag before the environment, before its file, before the default."""

import argparse
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Generic

import msgspec

from qubix_tui.settings import toml
from qubix_tui.settings.schema import Given, S, Schema, SettingsError


class Applied(msgspec.Struct, Generic[S], frozen=True):
    """What applies to a program.

    Attributes:
        settings: Every value.
        origins: Where each came from, by key: a flag, a variable, a line, or ``default``.
        file: The file that was read, if any.
    """

    settings: S
    origins: dict[str, str]
    file: Path | None

    def values(self) -> dict[str, Any]:
        """Give every value by its key, in the order of the file."""
        tables = msgspec.to_builtins(self.settings)
        return {key: tables[key.partition(".")[0]][key.partition(".")[2]] for key in self.origins}


def apply(
    schema: Schema[S],
    arguments: argparse.Namespace,
    directory: Path,
    *,
    environment: Mapping[str, str] = os.environ,
    defaults: Mapping[str, object] | None = None,
    variables: Mapping[str, Given] | None = None,
) -> Applied[S]:
    """Settle every setting of a program.

    Args:
        schema: Its settings.
        arguments: Its flags and ``config``, the file asked for; None where not given.
        directory: Where its file is looked for where none was asked for: QUBIX_HOME.
        environment: The variables.
        defaults: Values that are only known here, by key.
        variables: What the environment says in another way than by `Schema.environment`, by key.

    Raises:
        SettingsError: A value can't be used; the message says where it was given.
    """
    file: Path | None = arguments.config or directory / schema.file_name
    if file is not None and arguments.config is None and not file.exists():
        file = None
    given = {
        **{key: Given(value, "default") for key, value in (defaults or {}).items()},
        **(toml.read(schema, file) if file else {}),
        **_from_environment(schema, environment),
        **(variables or {}),
        **_from_flags(schema, arguments),
    }
    schema.check_together(given)
    tables: dict[str, dict[str, Any]] = {}
    for key, one in given.items():
        table, _, name = key.partition(".")
        tables.setdefault(table, {})[name] = one.value
    origins = {key: given[key].origin if key in given else "default" for key in schema.settings}
    return Applied(msgspec.convert(tables, schema.type), origins, file)


def _from_environment(schema: Schema[Any], environment: Mapping[str, str]) -> dict[str, Given]:
    found = ((name, key, environment.get(name)) for name, key in schema.environment.items())
    return _checked(schema, ((name, key, text) for name, key, text in found if text), strict=False)


def _from_flags(schema: Schema[Any], arguments: argparse.Namespace) -> dict[str, Given]:
    found = ((name, key, getattr(arguments, name, None)) for name, key in schema.flags.items())
    return _checked(
        schema,
        (
            (f"--{name.replace('_', '-')}", key, str(value) if isinstance(value, Path) else value)
            for name, key, value in found
            if value is not None
        ),
    )


def _checked(
    schema: Schema[Any], found: Iterable[tuple[str, str, object]], *, strict: bool = True
) -> dict[str, Given]:
    given = {}
    for origin, key, value in found:
        try:
            checked = schema.check(key, value, strict=strict)
        except ValueError as error:
            raise SettingsError(f"{origin}: {error}") from None
        if key in schema.paths:
            checked = str(Path(checked).expanduser().absolute())
        given[key] = Given(checked, origin)
    return given
