"""What applies of the console's settings, and what was changed on the screen. No Textual in it.

What is changed on the screen (the theme, the order, a saved view) is kept in ``changed.json`` beside the
person's ``console.toml``, and holds until the person sets the same thing anew there.
"""

import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from qubix_tui.console.settings import FILE_NAME, SCHEMA, Settings
from qubix_tui.settings import toml
from qubix_tui.settings.schema import Given, SettingsError

CHANGED_NAME: Final = "changed.json"


class Changed(msgspec.Struct, frozen=True):
    """A setting that was changed on the screen."""

    value: Any
    over: Any
    """What the file said then: when it says something else, the file is newer."""


class Kept(msgspec.Struct):
    """What the console itself keeps."""

    settings: dict[str, Changed] = {}
    """By key: ``display.theme``."""
    views: dict[str, str] = {}
    """Queries by name."""


class SettingsStore:
    """What applies, and what is kept.

    Args:
        directory: Where the files are; None to keep nothing.
        first: Settings that go before all others (flags), by key.
    """

    def __init__(self, directory: Path | None, first: Mapping[str, object] | None = None) -> None:
        self.complaints: list[str] = []
        """What is wrong with the files, a sentence each, with the line."""
        self._directory = directory
        self._first = dict(first or {})
        self._given = self._read_file()
        self._kept = self._read_kept()
        self.settings = self._settled()
        """What applies."""

    @property
    def path(self) -> Path | None:
        """Where the person's file is, or would be; None where nothing is kept."""
        return None if self._directory is None else self._directory / FILE_NAME

    @property
    def views(self) -> dict[str, str]:
        """All saved views: the file's and those saved on the screen."""
        return {**self.settings.views, **self._kept.views}

    def change(self, key: str, value: object) -> None:
        """Keep a setting that was changed on the screen.

        Raises:
            OSError: It can't be kept; it holds all the same.
        """
        self._first.pop(key, None)
        self._kept.settings[key] = Changed(value, self._from_file(key))
        self.settings = self._settled()
        self._write()

    def save_view(self, name: str, query: str) -> None:
        """Keep a view.

        Raises:
            OSError: It can't be kept; it is there all the same.
        """
        self._kept.views[name] = query
        self._write()

    def is_own_view(self, name: str) -> bool:
        """Whether a view was saved on the screen, and is not the person's file's."""
        return name in self._kept.views

    def remove_view(self, name: str) -> None:
        """Forget a view that was saved on the screen.

        Raises:
            OSError: The change can't be kept; it holds all the same.
        """
        del self._kept.views[name]
        self._write()

    def write_template(self) -> Path:
        """Write a file to begin with, and say where it is.

        Raises:
            OSError: There is one, or it can't be written.
        """
        if self.path is None:
            raise FileNotFoundError("this console keeps no files")
        with self.path.open("x", encoding="utf-8") as file:
            file.write(toml.template(SCHEMA))
        return self.path

    def _read_file(self) -> dict[str, Given]:
        if self.path is None or not self.path.exists():
            return {}
        try:
            return toml.read(SCHEMA, self.path, self.complaints)
        except SettingsError as error:
            self.complaints.append(str(error))
            return {}

    def _read_kept(self) -> Kept:
        if self._directory is None:
            return Kept()
        path = self._directory / CHANGED_NAME
        try:
            return msgspec.json.decode(path.read_bytes(), type=Kept)
        except FileNotFoundError:
            return Kept()
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            self.complaints.append(f"{path} can't be read, what was changed before is forgotten: {error}")
            return Kept()

    def _settled(self) -> Settings:
        values = {key: one.value for key, one in self._given.items()}
        for key, changed in self._kept.settings.items():
            if key in SCHEMA.settings and changed.over == self._from_file(key):
                with contextlib.suppress(ValueError):  # of another version: what the file says holds
                    values[key] = SCHEMA.check(key, changed.value)
        values.update(self._first)
        tables: dict[str, dict[str, Any]] = {}
        for key, value in values.items():
            table, _, name = key.partition(".")
            tables.setdefault(table, {})[name] = value
        return msgspec.convert(tables, Settings)

    def _from_file(self, key: str) -> object:
        given = self._given.get(key)
        value = SCHEMA.settings[key].default if given is None else given.value
        return msgspec.to_builtins(value)

    def _write(self) -> None:
        if self._directory is None:
            return
        content = msgspec.json.format(msgspec.json.encode(self._kept), indent=2)
        descriptor, name = tempfile.mkstemp(prefix=f".{CHANGED_NAME}.", dir=self._directory)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            Path(name).replace(self._directory / CHANGED_NAME)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
