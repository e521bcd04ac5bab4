"""A TOML file as a document whose every key has a line: what errors need to say where they are."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from qubix_tui.protocol.checks import printable
from qubix_tui.settings.schema import LONGEST_SHOWN, SettingsError

MAX_FILE_BYTES: Final = 64 * 1024

KeyPath = tuple[str, ...]
"""The tables around a key, and the key."""


class Document:
    """What a file says, and where.

    Args:
        text: TOML.
        name: What to call it in errors.

    Raises:
        SettingsError: It is no TOML; the message names the line.
    """

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self.content = _parse(text, name)
        self._lines = lines_of_keys(text)

    def origin(self, path: KeyPath) -> str:
        """Say where a key of it was set; of what is not in it, where the table around it begins."""
        while path and path not in self._lines:
            path = path[:-1]
        return f"{self.name} line {self._lines[path]}" if path else self.name


def read(path: Path, *, file_name: str, init: str) -> Document:
    """Read a file.

    Args:
        path: Which.
        file_name: What such a file is usually called.
        init: The command that writes one to begin with.

    Raises:
        SettingsError: It can't be read, or is no TOML.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise SettingsError(f"there is no {path}; `{init} {path}` writes one to begin with") from None
    except OSError as error:
        raise SettingsError(f"can't read {path}: {error.strerror}") from None
    if len(content) > MAX_FILE_BYTES:
        raise SettingsError(f"{path} has more than {MAX_FILE_BYTES // 1024} KiB; that is no {file_name}")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{path} line {line}: TOML is UTF-8, and a byte there is not") from None
    return Document(text, str(path))


def lines_of_keys(text: str) -> dict[KeyPath, int]:
    """Tell on which line each key of a valid document was first set, tables included.

    A statement ends with the first of its lines up to which it can be read by itself.
    """
    found: dict[KeyPath, int] = {}
    table: KeyPath = ()
    statement: list[str] = []
    begin = 0
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if not statement:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            begin = number
        statement.append(line)
        try:
            content = tomllib.loads("\n".join(statement))
        except ValueError:
            continue
        if statement[0].lstrip().startswith("["):
            table = _header(content)
            paths: Iterator[KeyPath] = (table[: length + 1] for length in range(len(table)))
        else:
            paths = _paths(content, table)
        for path in paths:
            found.setdefault(path, begin)
        statement = []
    return found


def _header(content: Mapping[str, Any]) -> KeyPath:
    """The table that a header, read by itself, opens."""
    path: list[str] = []
    inner: Any = content
    while isinstance(inner, dict) and inner:
        [(key, inner)] = inner.items()
        path.append(key)
    return tuple(path)


def _paths(content: Mapping[str, Any], above: KeyPath) -> Iterator[KeyPath]:
    for key, value in content.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from _paths(value, (*above, key))


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        what, _, place = str(error).rpartition(" (at ")
        line = re.match(r"line (\d+)", place)
        number = line[1] if line else text.count("\n") + 1
        raise SettingsError(f"{name} line {number}: no TOML: {printable(what, LONGEST_SHOWN)}") from None
    except (ValueError, RecursionError):
        raise SettingsError(f"{name} holds a number, or tables in tables, beyond all measure") from None
