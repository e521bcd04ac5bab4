"""What a process of ours writes to its log."""

import json
import logging
import re
import sys
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from qubix_tui.cli.logs import HIDDEN, JsonFormatter, TextFormatter, configure
from qubix_tui.protocol.tokens import Role, new_token

MOMENT = 1_769_860_800.25
TIME = "2026-01-31T12:00:00.250Z"


def record(message: str, *arguments: object, failed: bool = False, **extra: Any) -> logging.LogRecord:
    """A record as a call of a logger makes it."""
    exc_info = sys.exc_info() if failed else None
    made = logging.LogRecord("qubix.hub", logging.INFO, "hub.py", 1, message, arguments, exc_info)
    made.created = MOMENT
    vars(made).update(extra)
    return made


def failed_with(message: str) -> logging.LogRecord:
    """A record about an exception."""
    try:
        json.loads(message)
    except ValueError as error:
        error.args = (message,)
        return record("it failed", failed=True)
    raise AssertionError("the message is JSON")


def test_text_is_one_line_with_what_the_call_added() -> None:
    """Time in UTC with milliseconds, level, logger, message, then the fields of ``extra``."""
    written = TextFormatter().format(record("%s left", "rig-1", connection="c-7", address="127.0.0.1"))
    assert written == f"{TIME} INFO qubix.hub: rig-1 left connection=c-7 address=127.0.0.1"


def test_json_is_one_object_a_line() -> None:
    """The same, by name; numbers stay numbers, and what JSON has no word for is written as text."""
    written = JsonFormatter().format(
        record("two\nlines", connection="c-7", count=3, late=float("nan"), role=None)
    )
    assert "\n" not in written
    assert json.loads(written) == {
        "time": TIME,
        "level": "info",
        "logger": "qubix.hub",
        "message": "two\nlines",
        "connection": "c-7",
        "count": 3,
        "late": "nan",
        "role": None,
    }


def test_a_field_that_a_call_adds_replaces_none_of_ours() -> None:
    """``extra={"level": …}`` does not change how grave a record is."""
    assert json.loads(JsonFormatter().format(record("x", level="none", time=0)))["level"] == "info"


def test_an_exception_is_a_field_of_json() -> None:
    """The whole traceback, in one line of the log."""
    written = JsonFormatter().format(failed_with("out of paper"))
    assert "\n" not in written
    exception = json.loads(written)["exception"]
    assert exception.startswith("Traceback")
    assert exception.endswith("JSONDecodeError: out of paper")


def test_no_line_of_a_traceback_passes_for_a_record() -> None:
    """An exception that quotes a client's line break makes an indented line."""
    first, *others = (
        TextFormatter().format(failed_with(f"bad\n{TIME} INFO qubix.hub: all is well")).split("\n")
    )
    assert first == f"{TIME} INFO qubix.hub: it failed"
    assert all(line.startswith("  ") for line in others)
    assert others[-1] == f"  {TIME} INFO qubix.hub: all is well"


@given(st.text(), st.text())
def test_text_from_outside_makes_no_line_and_commands_no_terminal(message: str, field: str) -> None:
    """Whatever a message or a field holds, the record is one line of printable characters."""
    written = TextFormatter().format(record("%s", message, address=field))
    assert re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", written) is None
    assert written.startswith(f"{TIME} INFO qubix.hub: ")
    written.encode()


@given(st.text())
def test_whatever_was_said_is_read_back_from_json(message: str) -> None:
    """JSON keeps every character, and the line is ASCII."""
    written = JsonFormatter().format(record("%s", message))
    assert written.isascii()
    assert "\n" not in written
    assert "qbx_" in message or json.loads(written)["message"] == message


def test_control_characters_are_shown() -> None:
    """They are not just dropped: one who reads the log sees what was tried."""
    assert "\\x1b[2J \\u202eabc" in TextFormatter().format(record("\x1b[2J \u202eabc"))


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, Role.PROVIDER])
def test_a_token_is_hidden_wherever_it_is(formatter: logging.Formatter, role: Role) -> None:
    """In the message, its arguments, a field, an exception, the stack; cut or in capitals, too."""
    token = new_token(role)
    stacked = record("x")
    stacked.stack_info = f"Stack\n  token={token}"
    for one in (
        record(f"Bearer {token}"),
        record("%r", {"token": token}),
        record("x", header=token),
        record("x", headers=[token]),
        record("x" + token[:20]),
        record(token.upper()),
        failed_with(f"bad token {token}"),
        stacked,
    ):
        written = formatter.format(one)
        assert HIDDEN in written
        assert token[4:20].lower() not in written.lower()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_configure_logs_to_standard_error_from_a_level_on(
    log_format: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard output stays the command's own; the last call holds."""
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logging.root, "level", logging.root.level)
    configure(level="debug", log_format="text")
    configure(level="warning", log_format=log_format)
    logger = logging.getLogger("qubix.test")
    logger.info("not this")
    logger.warning("this", extra={"connection": "c-1"})
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    if log_format == "json":
        assert json.loads(line)["connection"] == "c-1"
    else:
        assert line.endswith("WARNING qubix.test: this connection=c-1")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_what_goes_for_all_records_is_in_each(
    log_format: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whichever logger it comes from, beside what the call itself adds."""
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logging.root, "level", logging.root.level)
    configure(level="info", log_format=log_format, fields={"worker": 2})
    logging.getLogger("qubix.test").info("this", extra={"connection": "c-1"})
    logging.getLogger("other").info("that")
    first, second = capsys.readouterr().err.splitlines()
    if log_format == "json":
        assert [json.loads(line)["worker"] for line in (first, second)] == [2, 2]
        assert json.loads(first)["connection"] == "c-1"
    else:
        assert sorted(first.split()[-2:]) == ["connection=c-1", "worker=2"]
        assert second.endswith(": that worker=2")


@pytest.mark.parametrize(("level", "log_format"), [("loud", "text"), ("info", "xml")])
def test_configure_refuses_what_it_does_not_know(level: str, log_format: str) -> None:
    """A level or a format that there is not."""
    with pytest.raises(ValueError, match=r"(?i)loud|xml"):
        configure(level=level, log_format=log_format)


def test_records_of_the_library_name_their_connection() -> None:
    """It adds the connection itself; the log has its id, by the same name as in our records."""

    class Connection:
        id = "c-9"

    assert TextFormatter().format(record("x", websocket=Connection())).endswith(": x connection=c-9")
