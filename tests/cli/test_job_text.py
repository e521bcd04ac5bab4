"""What is said of jobs on a terminal and in a pipe."""

import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qubix_tui.cli.job_text import LogPrinter, duration, harmless, money, status_line
from qubix_tui.cli.submit import parameter
from qubix_tui.protocol.job_records import JobProgress, JobState, LogPiece
from qubix_tui.protocol.reasons import JobReason


class Stream(io.TextIOWrapper):
    """A stream that may be a terminal."""

    def __init__(self, *, terminal: bool = False) -> None:
        self.bytes = io.BytesIO()
        super().__init__(self.bytes, encoding="utf-8", newline="\n")
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    def text(self) -> str:
        self.flush()
        return self.bytes.getvalue().decode()


def piece(text: str, start: int = 0, **members: object) -> LogPiece:
    """A piece of stdout."""
    return LogPiece(
        attempt=1,
        stream="stdout",
        from_=start,
        text=text,
        timestamp="2026-01-31T12:00:00.000Z",
        **members,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("micros", "text"),
    [(None, "—"), (0, "0.000000"), (7, "0.000007"), (1_000_000, "1.000000"), (12_345_678, "12.345678")],
)
def test_money_is_exact(micros: int | None, text: str) -> None:
    """To the millionth; unknown is a dash."""
    assert money(micros) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "—"), (0, "0.0s"), (59.94, "59.9s"), (60, "1m 0s"), (3_725, "1h 2m"), (273_600, "3d 4h")],
)
def test_durations(seconds: float | None, text: str) -> None:
    """Two units at most."""
    assert duration(seconds) == text


def test_a_bar_only_where_there_is_a_percentage() -> None:
    """A job that reports none shows its time, and no invented bar."""
    silent = JobProgress(status=JobState.RUNNING, elapsed_seconds=75.0)
    assert status_line(silent) == "running  1m 15s"
    half = JobProgress(status=JobState.RUNNING, progress=50.0, message="epoch\x1b 2", eta_seconds=9)
    assert status_line(half) == f"running  [{'#' * 12}{'.' * 12}] 50%  9.0s left  epoch� 2"


@given(st.text())
def test_nothing_that_a_terminal_obeys_gets_there(text: str) -> None:
    """Whatever a job prints: printable characters, line ends and tabs; plain text stays as it is."""
    shown = harmless(text)
    assert all(character.isprintable() or character in "\n\t" for character in shown)
    if text.isprintable():
        assert shown == text


def test_a_bare_carriage_return_ends_a_line() -> None:
    """Progress bars of jobs become lines; DOS line ends stay single."""
    assert harmless("10%\r20%\rdone\r\n") == "10%\n20%\ndone\n"


def test_a_pipe_gets_the_exact_text() -> None:
    """Escapes, line ends and all."""
    out, err = Stream(), Stream()
    LogPrinter(out, err).show(piece("a\x1b[31m\r\nb"))
    assert (out.text(), err.text()) == ("a\x1b[31m\r\nb", "")


def test_what_is_missing_is_said() -> None:
    """Bytes dropped by the log limit, and those that a reader skipped, each on a line of its own."""
    out, err = Stream(terminal=True), Stream()
    printer = LogPrinter(out, err)
    printer.show(piece("abc"))
    printer.show(piece("x\n", 10))
    printer.show(piece("y\n", 99, dropped=87))
    assert out.text() == "abcx\ny\n"
    assert err.text() == (
        "\nqubix: 7 bytes of stdout skipped; qubix jobs logs has them\n"
        "qubix: 87 bytes of stdout dropped: its log limit is reached\n"
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x=5", 5),
        ("x=0.5", 0.5),
        ("x=true", True),
        ('x="5"', "5"),
        ("x=resnet50", "resnet50"),
        ("x=", ""),
        ("x=a=b", "a=b"),
        ("x=NaN", "NaN"),
        ("x=[1]", "[1]"),
        ("x=null", "null"),
    ],
)
def test_parameters_are_read_as_json_where_they_are(text: str, value: object) -> None:
    """Numbers, booleans and quoted texts; all else is a text as it stands."""
    name, found = parameter(text)
    assert (name, found, type(found)) == ("x", value, type(value))


def test_every_reason_is_explained_in_the_guide() -> None:
    """In the order of the contract, and no others."""
    guide = (Path(__file__).parents[2] / "docs" / "operating.md").read_text(encoding="utf-8")
    table = guide.partition("| reason | what it means |")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `([a-z_]+)` \|", table, flags=re.MULTILINE) == [word.value for word in JobReason]
