"""A place in ``workloads.toml``: the tables and values below it, and errors that say where they are."""

import difflib
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from agent.jobs.workload_schema import SCHEMA
from qubix_tui.protocol.checks import printable
from qubix_tui.settings.document import Document, KeyPath
from qubix_tui.settings.schema import LONGEST_SHOWN, SettingsError, shown

NAME_WORDS = "a name of 1 to 64 of A-Z a-z 0-9 . _ -"


class Place(NamedTuple):
    """A key in a document."""

    file: Document
    path: KeyPath = ()

    @property
    def name(self) -> str:
        """The key itself, without the tables around it."""
        return self.path[-1]

    def below(self, *keys: str) -> "Place":
        """Give the place of a key in this table."""
        return Place(self.file, (*self.path, *keys))

    def error(self, sentence: str) -> SettingsError:
        """Give an error that says where this is."""
        key = printable(".".join(self.path), LONGEST_SHOWN)
        return SettingsError(f"{self.file.origin(self.path)}: {key}: {sentence}")

    def unknown(self, known: Iterable[str], otherwise: str) -> SettingsError:
        """Give the error of a key that there is not."""
        close = difflib.get_close_matches(self.name, list(known), 1)
        return self.error(f"there is no such key; {f'did you mean {close[0]}?' if close else otherwise}")

    def table(self, content: object) -> dict[str, Any]:
        """Give the content back if it is a table.

        Raises:
            SettingsError: It is something else.
        """
        if not isinstance(content, dict):
            raise self.error(f"expected a table, [{'.'.join(self.path)}], not {shown(content)}")
        return content

    def values(self, content: Mapping[str, Any], kind: str, tables: Iterable[str] = ()) -> dict[str, Any]:
        """Give the values of a table, each in its type.

        Args:
            content: The table.
            kind: Which of `agent.jobs.workload_schema.Tables` it is.
            tables: What else it may hold; not given.

        Raises:
            SettingsError: A key is unknown, or its value is not what was expected.
        """
        known = [key.partition(".")[2] for key in SCHEMA.settings if key.startswith(f"{kind}.")]
        known += tables
        values = {}
        for key, value in content.items():
            if key in tables:
                continue
            if key not in known:
                raise self.below(key).unknown(known, f"the keys here are {', '.join(known)}")
            try:
                values[key] = SCHEMA.check(f"{kind}.{key}", value)
            except ValueError as error:
                raise self.below(key).error(str(error)) from None
        return values

    def check_form(self, value: str, form: Any, expected: str) -> None:  # noqa: ANN401 - a type of the wire
        """Check that a text can go over the wire.

        Raises:
            SettingsError: It can't.
        """
        try:
            msgspec.convert(value, form)
        except msgspec.ValidationError:
            raise self.error(f"expected {expected}, not {shown(value)}") from None

    def pattern(self, text: str) -> "re.Pattern[str]":
        """Read a regular expression.

        Raises:
            SettingsError: It is none.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return re.compile(text)
        except (re.error, RecursionError, OverflowError) as error:
            why = printable(str(error), LONGEST_SHOWN)
            raise self.error(f"no regular expression: {why}") from None
