"""A job's log, put together from its pieces."""

from itertools import pairwise
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qubix_tui.console.job_log import KEPT_LINES, MAX_LINE, TRIMMED_AT_ONCE, JobLog, LogLine, find, shown
from qubix_tui.protocol.events import JobLogged
from qubix_tui.protocol.types import to_timestamp
from tests.console.records import NOW


def piece(text: str, start: int = 0, stream: str = "stdout", dropped: int = 0) -> JobLogged:
    """A piece of a log."""
    return JobLogged(
        job_id="j",
        stream="stderr" if stream == "stderr" else "stdout",
        from_=start,
        text=text,
        dropped=dropped,
        timestamp=to_timestamp(NOW),
    )


def log_of(*texts: str) -> JobLog:
    """A log that came in these pieces, one right after the other."""
    log, at = JobLog(), 0
    for text in texts:
        log.take(piece(text, at))
        at += len(text.encode())
    return log


def texts(log: JobLog) -> list[str]:
    """Its lines."""
    return [line.text for line in log.lines]


def test_lines_are_joined_over_pieces() -> None:
    """Where a piece ends is no end of a line; an empty line is none to show twice."""
    log = log_of("one\ntw", "o\nthr", "ee", "\n")
    assert texts(log) == ["one", "two", "three"]
    log.take(piece("four", 14))
    assert texts(log)[-1] == "four"


def test_streams_are_told_apart() -> None:
    """Errors have their colour, and both may be in the middle of a line."""
    log = JobLog()
    log.take(piece("wor", 0))
    log.take(piece("oops: ", 0, "stderr"))
    log.take(piece("king\n", 3))
    log.take(piece("bad\n", 6, "stderr"))
    assert log.lines == [LogLine("working", "value"), LogLine("oops: bad", "warn")]


def test_what_overwrites_itself_is_shown_as_it_is_at_the_end() -> None:
    """A progress bar is one line, whether its carriage returns come in one piece or in several."""
    assert texts(log_of("10%\r20%\r30%", "\r40%\ndone\n")) == ["40%", "done"]
    assert texts(log_of("windows\r\nlines\r\n")) == ["windows", "lines"]


def test_what_is_missing_is_said() -> None:
    """Bytes skipped for a slow reader, bytes lost to the limit, and another attempt."""
    log = log_of("one\n")
    log.take(piece("three\n", 1_500))
    log.take(piece("four\n", 1_506, dropped=2_000_000))
    log.take(piece("again\n", 0))
    assert texts(log) == [
        "one",
        "— 1.5kB were not sent here —",
        "three",
        "four",
        "— 2.0MB were lost: the log is longer than it may be —",
        "— another attempt —",
        "again",
    ]


def test_colours_are_left_out_and_all_else_that_steers_is_marked() -> None:
    """Nothing that a job prints reaches the terminal as a command."""
    assert shown("\x1b[1;31mred\x1b[0m \x1b]0;title\x07done\x1b[2K") == "red done"
    assert shown("bell\x07 \u202ebidi") == "bell� �bidi"
    assert shown("a\tb") == "a       b"


def test_it_is_bounded() -> None:
    """The newest lines are kept, and a line is not longer than anybody reads."""
    log = log_of("".join(f"{number}\n" for number in range(KEPT_LINES + TRIMMED_AT_ONCE + 5)))
    assert KEPT_LINES <= len(log.lines) <= KEPT_LINES + TRIMMED_AT_ONCE
    assert log.removed + len(log.lines) == KEPT_LINES + TRIMMED_AT_ONCE + 5
    assert len(log_of("x" * 10 * MAX_LINE).lines[0].text) == MAX_LINE


def test_a_line_goes_on_after_others_were_let_go() -> None:
    """Its place is counted from the first line ever."""
    log = log_of("".join(f"{number}\n" for number in range(KEPT_LINES + TRIMMED_AT_ONCE)))
    at = len("".join(f"{number}\n" for number in range(KEPT_LINES + TRIMMED_AT_ONCE)))
    log.take(piece("half", at))
    log.take(piece("way\n", at + 4))
    assert texts(log)[-1] == "halfway"


def test_cleared_it_begins_anew() -> None:
    """What comes again is not taken for another attempt."""
    log = log_of("one\n", "two\n")
    log.clear()
    log.take(piece("one\n", 0))
    assert texts(log) == ["one"]


@pytest.mark.parametrize(
    ("start", "step", "found"), [(0, 1, 2), (2, 1, 2), (3, 1, 2), (0, -1, 2), (2, -1, 2), (-1, 1, 2)]
)
def test_search_goes_round(start: int, step: int, found: int) -> None:
    """In both directions, whatever the case; nothing is found where nothing is."""
    lines = [LogLine("a"), LogLine("b"), LogLine("An Error"), LogLine("c")]
    assert find(lines, "ERROR", start, step) == found
    assert find(lines, "nothing", start, step) is None
    assert find([], "x", start, step) is None


@given(st.text(max_size=200), st.lists(st.integers(0, 200), max_size=6))
def test_where_it_is_cut_makes_no_difference(text: str, cuts: list[int]) -> None:
    """Any text, in any pieces: the same lines, all of them harmless; no line is lost or made up."""
    text = text.encode(errors="replace").decode()
    edges = sorted({0, *(min(cut, len(text)) for cut in cuts), len(text)})
    whole, parts = JobLog(), JobLog()
    whole.take(piece(text))
    for begin, end in pairwise(edges):
        parts.take(piece(text[begin:end], len(text[:begin].encode())))
    assert [line for line in texts(parts) if line] == [line for line in texts(whole) if line]
    letters = "".join(texts(whole))
    assert all(category(letter) not in {"Cc", "Cf", "Zl", "Zp"} for letter in letters)
