"""What a job says of its progress, read in the way that its owner chose. Nothing a job writes can break it.

Percentages are clamped to 0 to 100, messages are made one harmless line, what makes no sense is passed over.
"""

import contextlib
import math
import os
import re
import signal
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final, Literal, Protocol

import msgspec

from agent.jobs.beneath import open_beneath, read_beneath
from agent.jobs.launch import ProgressSource
from agent.sensors.base import one_line

PROGRESS_FILE: Final = ".qubix-progress"

MAX_LINE_BYTES: Final = 4096
MAX_MESSAGE: Final = 200
MAX_READ_BYTES: Final = 64 * 1024
"""Of a progress file at a time: who writes more between two looks is read from there on."""

_KEPT_LINES: Final = 64
_SEARCH_SECONDS: Final = 0.1
_SLOW_SEARCHES: Final = 3
"""So many searches that ran out of time, and the pattern is not tried again."""

_FRACTION_BYTES: Final = 64
_LINE_END: Final = re.compile(rb"[\r\n]+")
_TQDM: Final = re.compile(
    r"(?:(?P<message>[^|]{0,200}?): *)?(?P<percent>\d{1,3})%\|[^|]*\|[^\[]{0,80}"
    r"(?:\[\d[\d:]*<(?P<eta>\d[\d:]*))?"
)


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The newest that is known. ``progress`` is 0 to 100 or, unknown, None; ``eta`` is in seconds."""

    progress: float | None = None
    message: str | None = None
    source: Literal["reported", "parsed", "none"] = "none"
    eta: float | None = None


class Reader(Protocol):
    """A way to read progress."""

    def feed(self, stream: str, chunk: bytes) -> None:
        """Take what the job has just written to ``stdout`` or ``stderr``."""

    def read(self) -> Report:
        """Give the newest; the same as before where there is nothing new."""


def reader_of(source: ProgressSource, directory: Path) -> Reader:
    """Make the reader of a job that works in ``directory``."""
    match source.kind:
        case "json":
            return JsonLines(directory, PROGRESS_FILE)
        case "fraction_file":
            return FractionFile(directory, source.path or "")
        case "regex":
            return Pattern(source.pattern or "")
        case "tqdm":
            return Pattern(_TQDM)
        case "none":
            return Silent()


class Silent:
    """Reads nothing: no percentage is invented."""

    def feed(self, stream: str, chunk: bytes) -> None:
        """Pass over it."""

    def read(self) -> Report:
        """Give what is known, which is nothing."""
        return Report()


class JsonLines:
    """Reads lines of JSON that the job appends to a file of its own.

    Args:
        directory: Where the job works.
        path: The file in there.
    """

    def __init__(self, directory: Path, path: str) -> None:
        self._directory = directory
        self._path = path
        self._offset = 0
        self._rest = b""
        self._newest = Report()

    def feed(self, stream: str, chunk: bytes) -> None:
        """Pass over it: the file alone counts."""

    def read(self) -> Report:
        """Give the newest that a whole line of the file says."""
        with contextlib.suppress(OSError):
            for line in self._new_lines():
                self._newest = parse_line(line, self._newest)
        return self._newest

    def _new_lines(self) -> Iterator[bytes]:
        descriptor = open_beneath(self._directory, self._path)
        try:
            size = os.fstat(descriptor).st_size
            if size < self._offset:
                # It was written anew.
                self._offset, self._rest = 0, b""
            if size - self._offset > MAX_READ_BYTES:
                self._offset, self._rest = size - MAX_READ_BYTES, b""
            chunk = os.pread(descriptor, MAX_READ_BYTES, self._offset)
        finally:
            os.close(descriptor)
        self._offset += len(chunk)
        *lines, rest = (self._rest + chunk).split(b"\n")
        # Beyond its end nobody reads a line that is too long; what is kept is enough to know that it is.
        self._rest = rest[: MAX_LINE_BYTES + 1]
        yield from (line for line in lines if len(line) <= MAX_LINE_BYTES)


def parse_line(line: bytes, before: Report) -> Report:
    """Read one line of a progress file; ``before`` where it says nothing."""
    try:
        said: Any = msgspec.json.decode(line)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return before
    if not isinstance(said, dict):
        return before
    progress = percentage(said["progress"]) if "progress" in said else before.progress
    message = said.get("message", before.message)
    return Report(
        progress=progress,
        message=one_line(message, MAX_MESSAGE) if isinstance(message, str) else None,
        source="none" if progress is None else "reported",
        eta=_seconds(said.get("etaSeconds")),
    )


class FractionFile:
    """Reads a file that holds one number from 0 to 1.

    Args:
        directory: Where the job works.
        path: The file in there.
    """

    def __init__(self, directory: Path, path: str) -> None:
        self._directory = directory
        self._path = path
        self._newest = Report()

    def feed(self, stream: str, chunk: bytes) -> None:
        """Pass over it: the file alone counts."""

    def read(self) -> Report:
        """Give what the file says, or said last."""
        with contextlib.suppress(OSError):
            content = read_beneath(self._directory, self._path, limit=_FRACTION_BYTES)
            progress = percentage(_number(content.decode(errors="replace")), scale=100)
            if progress is not None:
                self._newest = Report(progress=progress, source="parsed")
        return self._newest


class Pattern:
    """Searches the newest lines of a job's output. A search that takes too long is broken off.

    Args:
        pattern: A regular expression with the groups that `agent.jobs.launch.ProgressSource` names.
    """

    def __init__(self, pattern: str | re.Pattern[str]) -> None:
        self._pattern: re.Pattern[str] | None = re.compile(pattern)
        self._lines: dict[str, _Lines] = {"stdout": _Lines(), "stderr": _Lines()}
        self._slow = 0
        self._newest = Report()

    def feed(self, stream: str, chunk: bytes) -> None:
        """Keep the newest lines of what the job has just written."""
        self._lines[stream].feed(chunk)

    def read(self) -> Report:
        """Give what the newest line says that the pattern finds something in."""
        for lines in self._lines.values():
            if self._pattern is not None:
                self._search(self._pattern, lines.take())
        return self._newest

    def _search(self, pattern: re.Pattern[str], lines: list[bytes]) -> None:
        try:
            with _time_limit(_SEARCH_SECONDS):
                for line in reversed(lines):
                    match = pattern.search(line.decode(errors="replace"))
                    report = None if match is None else _from_match(match)
                    if report is not None:
                        self._newest = report
                        return
        except _TooSlow:
            self._slow += 1
            if self._slow >= _SLOW_SEARCHES:
                self._pattern = None


class _Lines:
    """The newest lines of a stream, the unfinished one included: bars are redrawn in place."""

    def __init__(self) -> None:
        self._whole: deque[bytes] = deque(maxlen=_KEPT_LINES)
        self._rest = b""
        self._rest_is_new = False

    def feed(self, chunk: bytes) -> None:
        *lines, rest = _LINE_END.split(chunk)
        if lines:
            self._whole.append((self._rest + lines[0])[:MAX_LINE_BYTES])
            self._whole.extend(line[:MAX_LINE_BYTES] for line in lines[1:])
            self._rest = b""
        self._rest = (self._rest + rest)[:MAX_LINE_BYTES]
        self._rest_is_new = bool(self._rest)

    def take(self) -> list[bytes]:
        lines = list(self._whole)
        if self._rest_is_new:
            lines.append(self._rest)
        self._whole.clear()
        self._rest_is_new = False
        return lines


def _from_match(match: re.Match[str]) -> Report | None:
    """What a match says, None where its groups hold no number."""
    groups = match.groupdict()
    if groups.get("fraction") is not None:
        progress = percentage(_number(groups["fraction"]), scale=100)
    elif groups.get("done") is not None and groups.get("total") is not None:
        done, total = _number(groups["done"]), _number(groups["total"])
        progress = percentage(done / total, scale=100) if done is not None and total else None
    elif groups.get("percent") is not None:
        progress = percentage(_number(groups["percent"]))
    else:
        progress = percentage(_number(match[1])) if match.re.groups else None
    if progress is None:
        return None
    return Report(
        progress=progress,
        message=one_line(groups.get("message"), MAX_MESSAGE),
        source="parsed",
        eta=_clock_seconds(groups.get("eta")),
    )


def percentage(value: object, *, scale: float = 1) -> float | None:
    """Give ``value`` × ``scale`` within 0 to 100, with one decimal; None where it is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value) * scale
    except OverflowError:
        return None
    return round(min(max(number, 0.0), 100.0), 1) if math.isfinite(number) else None


def _number(text: str | None) -> float | None:
    try:
        number = float((text or "").strip())
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        return None
    return round(float(value), 1)


def _clock_seconds(text: str | None) -> float | None:
    """Read ``01:02:03`` or ``02:03``."""
    if text is None:
        return None
    seconds = 0
    for part in text.split(":"):
        if not part.isdecimal() or len(part) > 6:
            return None
        seconds = seconds * 60 + int(part)
    return float(seconds)


class _TooSlow(Exception):
    """A search took longer than it may."""


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Break a search off after so long: Python's matcher looks for signals while it backtracks."""

    def expire(_number: int, _frame: FrameType | None) -> None:
        raise _TooSlow

    previous: Callable[[int, FrameType | None], Any] | int | None = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
