"""How a process of ours logs: on standard error, as text for people or as one JSON object a line.

What a record says may come from outside, so that no line of it can pass for another record or command a
terminal, and anything that looks like a token is hidden, wherever in a record it is.
"""

import json
import logging
import math
import re
import sys
from collections.abc import Mapping
from typing import Final

from qubix_tui.protocol.types import to_timestamp

HIDDEN: Final = "qbx_[hidden]"
"""What stands in the place of a token."""

_TOKEN: Final = re.compile("qbx_[0-9a-z]+", re.IGNORECASE)

_UNPRINTABLE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters, those that change the direction of writing, and halves of characters."""

_OF_EVERY_RECORD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""Attributes that are not from a call's ``extra``."""

Field = str | int | float | bool | None


class _Formatter(logging.Formatter):
    """Hides tokens in what its subclasses make of a record, tracebacks and extra fields included."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        return _TOKEN.sub(HIDDEN, self._write(record))

    def _write(self, record: logging.LogRecord) -> str:
        raise NotImplementedError

    def _exception(self, record: logging.LogRecord) -> str | None:
        """Give the traceback, and the stack where one was asked for."""
        parts = []
        if record.exc_info and record.exc_info[0] is not None:
            parts.append(self.formatException(record.exc_info))
        if record.stack_info:
            parts.append(record.stack_info)
        return "\n".join(parts) or None


class TextFormatter(_Formatter):
    """One line a record: ``2026-01-31T12:00:00.000Z INFO qubix.hub: what happened connection=c-7``.

    A traceback follows on lines of its own. They are indented, so that none can pass for a record.
    """

    def _write(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in _extra(record).items())
        line = (
            f"{to_timestamp(record.created)} {record.levelname} {record.name}: {record.getMessage()}{fields}"
        )
        lines = [_printable(line)]
        exception = self._exception(record)
        if exception is not None:
            lines += [f"  {_printable(line)}" for line in exception.split("\n")]
        return "\n".join(lines)


class JsonFormatter(_Formatter):
    """One JSON object a line, in ASCII: time, level, logger, message, then what the call added.

    ``time`` is RFC 3339 in UTC with milliseconds; ``exception`` holds a traceback.
    """

    def _write(self, record: logging.LogRecord) -> str:
        fields: dict[str, Field] = {
            "time": to_timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        exception = self._exception(record)
        if exception is not None:
            fields["exception"] = exception
        added = {name: value for name, value in _extra(record).items() if name not in fields}
        return json.dumps(fields | added)


FORMATTERS: Final[dict[str, type[_Formatter]]] = {"text": TextFormatter, "json": JsonFormatter}


class _Adding(logging.Filter):
    """Adds the same to every record."""

    def __init__(self, fields: Mapping[str, Field]) -> None:
        super().__init__()
        self._fields = fields

    def filter(self, record: logging.LogRecord) -> bool:
        vars(record).update(self._fields)
        return True


def configure(*, level: str, log_format: str, fields: Mapping[str, Field] | None = None) -> None:
    """Make this process log to standard error; replaces what was configured before.

    Args:
        level: The lowest level that is written: ``debug``, ``info``, ``warning`` or ``error``.
        log_format: ``text`` or ``json``.
        fields: What is added to every record, beside what a call adds.

    Raises:
        ValueError: There is no such level or format.
    """
    if log_format not in FORMATTERS:
        raise ValueError(f"a log format is one of {', '.join(FORMATTERS)}, not {log_format!r}")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FORMATTERS[log_format]())
    if fields:
        handler.addFilter(_Adding(fields))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _extra(record: logging.LogRecord) -> dict[str, Field]:
    """Give what the call added, as values that any reader takes."""
    added = {name: value for name, value in vars(record).items() if name not in _OF_EVERY_RECORD}
    # The WebSocket library adds its connection to each of its own records.
    if (connection := added.pop("websocket", None)) is not None:
        added.setdefault("connection", getattr(connection, "id", connection))
    return {name: value if _is_plain(value) else str(value) for name, value in added.items()}


def _is_plain(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int)


def _printable(text: str) -> str:
    return _UNPRINTABLE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
