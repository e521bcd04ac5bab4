"""Reading and writing ``hub.toml``: every error names the line, the key, and what was expected there."""

import difflib
import inspect
import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from qubix_tui.cli.common import EXIT_USAGE, CommandError
from qubix_tui.cli.hub_settings import SETTINGS, TABLES, Setting
from qubix_tui.hub import addresses
from qubix_tui.hub.proxies import TrustedProxies

MAX_FILE_BYTES = 64 * 1024

PATH_KEYS = frozenset({"listen.unix_socket", "tls.cert", "tls.key", "storage.data"})
"""Settings that are paths; in a file they are relative to its directory."""


_HEADING = """\
# How this hub listens, whom it lets in, and how much it takes.
# Every setting is shown with its default, or with an example where there is none; take the # away
# before those to change. `qubix hub config check` reads the file over, `qubix hub config show` tells
# what applies. A hub reads it when it starts.
"""


class ConfigError(CommandError):
    """A setting can't be used; the message says where it was given, what is wrong and what was expected."""

    def __init__(self, message: str) -> None:
        super().__init__(message, EXIT_USAGE)


class Given(msgspec.Struct, frozen=True):
    """A value that somebody gave, and where."""

    value: Any
    origin: str


_ITEM_CHECKS: Mapping[str, Callable[[str], object]] = {
    "access.allow_origins": addresses.parse_allowed_origin,
    "access.public_names": addresses.parse_public_name,
    "access.trusted_proxies": lambda text: TrustedProxies([text]),
}


def check(key: str, value: object, *, strict: bool = True) -> Any:  # noqa: ANN401 - as the setting's type says
    """Give a setting's value in its type.

    Args:
        key: Which setting.
        value: As it was given.
        strict: False to take numbers and truth values from text.

    Raises:
        ValueError: It can't be its value; the message says what was expected.
    """
    setting = SETTINGS[key]
    try:
        converted = msgspec.convert(value, setting.type, strict=strict)
    except msgspec.ValidationError:
        raise ValueError(f"expected {setting.expected}, not {_shown(value)}") from None
    if item_check := _ITEM_CHECKS.get(key):
        for item in converted:
            item_check(item)
    return converted


def read(path: Path) -> dict[str, Given]:
    """Read a file: what it sets, by key.

    Raises:
        ConfigError: It can't be read, or holds anything but settings.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(
            f"there is no {path}; `qubix hub config init {path}` writes one to begin with"
        ) from None
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror}") from None
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"{path} has more than {MAX_FILE_BYTES // 1024} KiB; that is no hub.toml")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path} line {line}: TOML is UTF-8, and a byte there is not") from None
    given = parse(text, str(path))
    return {key: _beside(path, one) if key in PATH_KEYS else one for key, one in given.items()}


def parse(text: str, name: str) -> dict[str, Given]:
    """Read the text of a file.

    Args:
        text: TOML.
        name: What to call it in errors.

    Raises:
        ConfigError: It is no TOML, or holds anything but settings.
    """
    document = _document(text, name)
    lines = _lines_of_keys(text)
    given = {}
    for path, value in _keys(document):
        origin = f"{name} line {lines[path]}"
        key = ".".join(path)
        if len(path) != 2 or key not in SETTINGS:
            raise ConfigError(f"{origin}: {_unknown(path, value)}")
        try:
            given[key] = Given(check(key, value), origin)
        except ValueError as error:
            raise ConfigError(f"{origin}: {key}: {error}") from None
    return given


def template() -> str:
    """Give a file that sets nothing and shows every setting with its default."""
    parts = [_HEADING]
    for table, struct in TABLES.items():
        about = "".join(f"# {line}\n" for line in inspect.cleandoc(struct.__doc__ or "").splitlines())
        parts.append(f"\n{about}[{table}]\n")
        parts.extend(_commented(setting) for key, setting in SETTINGS.items() if key.startswith(f"{table}."))
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


def _document(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        what, _, place = str(error).rpartition(" (at ")
        line = re.match(r"line (\d+)", place)
        number = line[1] if line else text.count("\n") + 1
        raise ConfigError(f"{name} line {number}: no TOML: {addresses.printable(what)}") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{name} holds a number, or tables in tables, beyond all measure") from None


def _keys(document: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Give table and name with the value; what is no table of ours by its one name."""
    for table, content in document.items():
        if table in TABLES and isinstance(content, dict):
            for name, value in content.items():
                yield (table, name), value
        else:
            yield (table,), content


def _lines_of_keys(text: str) -> dict[tuple[str, ...], int]:
    """Tell on which line each key of a valid document was set.

    A statement may span lines, so the document is read line by line further: a key that is there for the
    first time was set by the statement that begins after the last part that could be read.
    """
    found: dict[tuple[str, ...], int] = {}
    lines = text.replace("\r\n", "\n").split("\n")
    begin = None
    for number, line in enumerate(lines, 1):
        if begin is None and (not line.strip() or line.lstrip().startswith("#")):
            continue
        begin = begin or number
        try:
            document = tomllib.loads("\n".join(lines[:number]))
        except ValueError:
            continue
        for path, _ in _keys(document):
            found.setdefault(path, begin)
        begin = None
    return found


def _unknown(path: tuple[str, ...], value: object) -> str:
    table, shown = path[0], addresses.printable(".".join(path))
    names = {
        known: [key[len(known) + 1 :] for key in SETTINGS if key.startswith(f"{known}.")] for known in TABLES
    }
    if len(path) > 1:
        close = difflib.get_close_matches(path[1], names[table], 1)
        advice = f"did you mean {close[0]}?" if close else f"[{table}] has {', '.join(names[table])}"
        return f"there is no setting {shown}; {advice}"
    if table in TABLES:
        return f"{table} is a table, [{table}], with settings under it, not {_shown(value)}"
    for known in TABLES:
        if table in names[known]:
            return f"{shown} is set in a table: under [{known}]"
    close = difflib.get_close_matches(table, TABLES, 1)
    advice = f"did you mean [{close[0]}]?" if close else f"the tables are {', '.join(TABLES)}"
    return f"there is no table {shown}; {advice}"


def _shown(value: object) -> str:
    match value:
        case bool() | str():
            return addresses.printable(json.dumps(value, ensure_ascii=False))
        case dict():
            return "a table"
        case list() | tuple():
            return "a list of other things"
        case int() if abs(value) > 10**18:
            return "a number as large as that"
        case _:
            return addresses.printable(str(value))


def _beside(path: Path, given: Given) -> Given:
    return Given(str(path.absolute().parent / Path(given.value).expanduser()), given.origin)
