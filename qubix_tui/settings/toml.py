"""Reading and writing a file of settings: every error has the line, the key, and what was expected there."""

import difflib
import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qubix_tui.protocol.checks import printable
from qubix_tui.settings.document import Document
from qubix_tui.settings.document import read as read_document
from qubix_tui.settings.schema import LONGEST_SHOWN, Given, Schema, Setting, SettingsError, shown


def read(schema: Schema[Any], path: Path, complaints: list[str] | None = None) -> dict[str, Given]:
    """Read a file: what it sets, by key. Paths in it are relative to its directory.

    Args:
        schema: What may be set.
        path: The file.
        complaints: As for `parse`.

    Raises:
        SettingsError: It can't be read, or, without ``complaints``, holds anything but settings.
    """
    document = read_document(path, file_name=schema.file_name, init=f"{schema.command} init")
    given = _settings(schema, document, complaints)
    return {key: _beside(path, one) if key in schema.paths else one for key, one in given.items()}


def parse(schema: Schema[Any], text: str, name: str, complaints: list[str] | None = None) -> dict[str, Given]:
    """Read the text of a file.

    Args:
        schema: What may be set.
        text: TOML.
        name: What to call it in errors.
        complaints: Takes what is wrong with single settings, for a program that goes on with the others.

    Raises:
        SettingsError: It is no TOML, or, without ``complaints``, holds anything but settings.
    """
    return _settings(schema, Document(text, name), complaints)


def _settings(schema: Schema[Any], document: Document, complaints: list[str] | None) -> dict[str, Given]:
    given = {}
    for path, value in _keys(schema, document.content):
        origin = document.origin(path)
        try:
            given[".".join(path)] = Given(_checked(schema, path, value), origin)
        except ValueError as error:
            if complaints is None:
                raise SettingsError(f"{origin}: {error}") from None
            complaints.append(f"{origin}: {error}")
    return given


def _checked(schema: Schema[Any], path: tuple[str, ...], value: object) -> Any:  # noqa: ANN401 - the setting's
    key = ".".join(path)
    try:
        if len(path) > 1 and path[0] in schema.free_tables:
            return schema.check_free(path[0], ".".join(path[1:]), value)
        if len(path) == 2 and key in schema.settings:
            return schema.check(key, value)
    except ValueError as error:
        raise ValueError(f"{printable(key, LONGEST_SHOWN)}: {error}") from None
    raise ValueError(_unknown(schema, path, value))


def template(schema: Schema[Any]) -> str:
    """Give a file that sets nothing and shows every setting with its default."""
    parts = [schema.heading]
    for table, struct in schema.tables.items():
        about = "".join(
            f"# {line}".rstrip() + "\n" for line in inspect.cleandoc(struct.__doc__ or "").splitlines()
        )
        parts.append(f"\n{about}[{table}]\n")
        parts.extend(
            _commented(setting) for key, setting in schema.settings.items() if key.startswith(f"{table}.")
        )
    for name, free in schema.free_tables.items():
        parts.append(f"\n# {free.description}\n")
        if free.is_of_texts:
            parts.append(f"[{name}]\n")
            for one, value in free.examples.items():
                parts.append(f"#{toml_value(one)} = {toml_value(value)}\n")
            continue
        for one, values in free.examples.items():
            parts.append(f"#[{name}.{toml_value(one)}]\n")
            parts.extend(f"#{field} = {toml_value(value)}\n" for field, value in values.items())
    return "".join(parts)


def toml_value(value: object) -> str:
    """Write a value of a setting as TOML (whose texts, numbers and lists are written as JSON writes them)."""
    if isinstance(value, str | bool | int | float):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    raise TypeError(f"{type(value).__name__} is no value of a setting")


def _commented(setting: Setting) -> str:
    name = setting.key.partition(".")[2]
    value = setting.default if setting.default is not None else setting.example
    note = f"# {setting.description}\n" if setting.description else ""
    if setting.default == () and setting.example:
        note = f"# {setting.description} For example {toml_value(setting.example)}.\n"
    return f"{note}#{name} = {toml_value(value)}\n"


def _keys(schema: Schema[Any], document: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Give table and name with the value; what is no table of ours by its one name."""
    for table, content in document.items():
        if table in schema.tables and isinstance(content, dict):
            for name, value in content.items():
                yield (table, name), value
        elif table in schema.free_tables and isinstance(content, dict):
            if schema.free_tables[table].is_of_texts:
                yield from _flat(content, (table,))
            else:
                yield from (((table, name), value) for name, value in content.items())
        else:
            yield (table,), content


def _flat(content: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Give the values of a table by their paths, those of tables in it too."""
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, (*above, name))
        else:
            yield (*above, name), value


def _unknown(schema: Schema[Any], path: tuple[str, ...], value: object) -> str:
    table, named = path[0], printable(".".join(path), LONGEST_SHOWN)
    names = {
        known: [key[len(known) + 1 :] for key in schema.settings if key.startswith(f"{known}.")]
        for known in schema.tables
    }
    if len(path) > 1:
        close = difflib.get_close_matches(path[1], names[table], 1)
        advice = f"did you mean {close[0]}?" if close else f"[{table}] has {', '.join(names[table])}"
        return f"there is no setting {named}; {advice}"
    if table in schema.tables:
        return f"{table} is a table, [{table}], with settings under it, not {shown(value)}"
    for known in schema.tables:
        if table in names[known]:
            return f"{named} is set in a table: under [{known}]"
    if table in schema.free_tables:
        return f"{table} is a table, [{table}], with names of your own under it, not {shown(value)}"
    tables = [*schema.tables, *schema.free_tables]
    close = difflib.get_close_matches(table, tables, 1)
    advice = f"did you mean [{close[0]}]?" if close else f"the tables are {', '.join(tables)}"
    return f"there is no table {named}; {advice}"


def _beside(path: Path, given: Given) -> Given:
    return Given(str(path.absolute().parent / Path(given.value).expanduser()), given.origin)
