"""The settings of one program: their tables, types, defaults and reasons."""

import json
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Generic, TypeVar

import msgspec
from msgspec import Meta

from qubix_tui.command import EXIT_USAGE, CommandError
from qubix_tui.protocol.checks import printable

LONGEST_SHOWN: Final = 100
"""How many characters of a text that somebody gave are repeated in a sentence."""

S = TypeVar("S", bound=msgspec.Struct)

Text = Annotated[str, Meta(min_length=1)]
"""What most settings that are texts have to be."""


class SettingsError(CommandError):
    """A setting can't be used; the message says where it was given, what is wrong and what was expected.

    Args:
        message: One sentence.
        code: The exit code of a command that can't go on without it.
    """

    def __init__(self, message: str, code: int = EXIT_USAGE) -> None:
        super().__init__(message, code)


class Given(msgspec.Struct, frozen=True):
    """A value that somebody gave, and where."""

    value: Any
    origin: str


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One setting.

    Attributes:
        key: Its table and name: ``listen.port``.
        type: What its value has to be.
        default: What it is when nobody says.
        description: What it is for, empty where the name says it.
        example: A value to show, where there is no default.
        expected: A person's words for ``type``.
    """

    key: str
    type: Any
    default: Any
    description: str
    example: Any
    expected: str


class FreeTable(msgspec.Struct, frozen=True, kw_only=True):
    """A table whose names are the user's own.

    Attributes:
        type: What each of its values has to be.
        description: What it is for.
        examples: Values to show, by name.
        expected: A person's words for ``type``.
    """

    type: Any
    description: str
    examples: Mapping[str, Any]
    expected: str

    @property
    def is_of_texts(self) -> bool:
        """Whether dotted names are names with dots, and no tables in tables."""
        return not (isinstance(self.type, type) and issubclass(self.type, msgspec.Struct))


class Schema(Generic[S]):
    """What may be set for one program.

    Args:
        settings: A struct of structs, one for each table. The docstring of a table says what it is about; the
            `msgspec.Meta` of a setting has its description, an example, and, where the type alone does not
            say it, ``extra={"expected": words}``. A table whose names are the user's own is a ``dict`` of
            one type of value, with the same in its `msgspec.Meta`.
        file_name: What the file is called.
        command: The command whose ``init``, ``check`` and ``show`` deal with the file.
        heading: What a file to begin with says first, as comments.
        flags: Which setting each flag gives, by its name in the parsed arguments.
        environment: Which setting each variable gives.
        paths: The settings that are paths.
        checks: What a value has to stand beside its type, by key; of a list each item; of a table whose names
            are the user's own, by its name, each pair of name and value. They raise `ValueError` with the
            reason.
        check_together: Likewise for what was given as a whole; it raises `SettingsError`.
    """

    def __init__(
        self,
        settings: type[S],
        *,
        file_name: str,
        command: str,
        heading: str,
        flags: Mapping[str, str],
        environment: Mapping[str, str],
        paths: frozenset[str] = frozenset(),
        checks: Mapping[str, Callable[[Any], object]] | None = None,
        check_together: Callable[[Mapping[str, Given]], None] | None = None,
    ) -> None:
        self.type = settings
        self.file_name = file_name
        self.command = command
        self.heading = heading
        self.flags = flags
        self.environment = environment
        self.paths = paths
        self._checks = checks or {}
        self._check_together = check_together
        hints = typing.get_type_hints(settings)
        self.tables: dict[str, type[msgspec.Struct]] = {
            table: hint for table, hint in hints.items() if typing.get_origin(hint) is not dict
        }
        annotations = typing.get_type_hints(settings, include_extras=True)
        self.free_tables: dict[str, FreeTable] = {
            table: _describe_free(table, annotations[table]) for table in hints if table not in self.tables
        }
        """The tables whose names are the user's own."""
        self.settings: dict[str, Setting] = {
            f"{table}.{field.name}": _describe(
                table, field, typing.get_type_hints(struct, include_extras=True)[field.name]
            )
            for table, struct in self.tables.items()
            for field in msgspec.structs.fields(struct)
        }
        """Every setting by its key, in the order of the file."""

    def check(self, key: str, value: object, *, strict: bool = True) -> Any:  # noqa: ANN401 - the setting's type
        """Give a setting's value in its type.

        Args:
            key: Which setting.
            value: As it was given.
            strict: False to take numbers and truth values from text.

        Raises:
            ValueError: It can't be its value; the message says what was expected.
        """
        setting = self.settings[key]
        try:
            converted = msgspec.convert(value, setting.type, strict=strict)
        except msgspec.ValidationError:
            raise ValueError(f"expected {setting.expected}, not {shown(value)}") from None
        if (check := self._checks.get(key)) and converted is not None:
            for item in converted if isinstance(converted, tuple) else (converted,):
                check(item)
        return converted

    def check_free(self, table: str, name: str, value: object) -> Any:  # noqa: ANN401 - the table's type
        """Give a value of a table whose names are the user's own, in its type.

        Raises:
            ValueError: It can't be its value; the message says what was expected.
        """
        free = self.free_tables[table]
        try:
            converted = msgspec.convert(value, free.type)
        except msgspec.ValidationError:
            raise ValueError(f"expected {free.expected}, not {shown(value)}") from None
        if check := self._checks.get(table):
            check((name, converted))
        return converted

    def check_together(self, given: Mapping[str, Given]) -> None:
        """Check what only shows in all that was given.

        Raises:
            SettingsError: Some of it does not go together.
        """
        if self._check_together is not None:
            self._check_together(given)


def shown(value: object) -> str:
    """Say a value in a sentence, whatever it holds."""
    match value:
        case bool() | str():
            return printable(json.dumps(value, ensure_ascii=False), LONGEST_SHOWN)
        case dict():
            return "a table"
        case list() | tuple():
            return "a list of other things"
        case int() if abs(value) > 10**18:
            return "a number as large as that"
        case _:
            return printable(str(value), LONGEST_SHOWN)


def _describe(table: str, field: msgspec.structs.FieldInfo, annotation: object) -> Setting:
    notes = [note for note in typing.get_args(annotation)[1:] if isinstance(note, Meta)]
    descriptions = [note.description for note in notes if note.description]
    examples = [example for note in notes for example in note.examples or ()]
    words = [note.extra["expected"] for note in notes if note.extra and "expected" in note.extra]
    return Setting(
        key=f"{table}.{field.name}",
        type=annotation,
        default=field.default_factory() if field.default is msgspec.NODEFAULT else field.default,
        description="".join(descriptions),
        example=examples[0] if examples else None,
        expected=words[0] if words else _expected(annotation),
    )


def _describe_free(table: str, annotation: object) -> FreeTable:
    notes = [note for note in typing.get_args(annotation)[1:] if isinstance(note, Meta)]
    kind = typing.get_args(typing.get_args(annotation)[0])[1]
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        names = ", ".join(field.name for field in msgspec.structs.fields(kind))
        expected = f"a table, [{table}.NAME], with {names}"
    else:
        expected = _expected(kind)
    return FreeTable(
        type=kind,
        description="".join(note.description or "" for note in notes),
        examples=next((note.examples[0] for note in notes if note.examples), {}),
        expected=expected,
    )


def _expected(annotation: object) -> str:
    kind = msgspec.inspect.type_info(annotation)
    while isinstance(kind, msgspec.inspect.Metadata):
        kind = kind.type
    if isinstance(kind, msgspec.inspect.UnionType):
        kind = next(option for option in kind.types if not isinstance(option, msgspec.inspect.NoneType))
    match kind:
        case msgspec.inspect.IntType(ge=least, le=most):
            return f"a whole number from {least} to {most}"
        case msgspec.inspect.FloatType(gt=None, ge=least, le=most):
            return f"a number from {least:g} to {most:g}"
        case msgspec.inspect.FloatType(gt=below, le=most):
            return f"a number above {below:g} and at most {most:g}"
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.LiteralType(values=values):
            return " or ".join(f'"{value}"' for value in values)
        case msgspec.inspect.VarTupleType():
            return 'a list of texts in quotes, ["like", "this"]'
        case msgspec.inspect.StrType():
            return 'a text in quotes, "like this", that is not empty'
    raise TypeError(f"no words for {annotation}")
