"""What a job printed, as lines: bounded, harmless, with what is missing said. No Textual in it."""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from qubix_tui.console.format import format_bytes, safe
from qubix_tui.protocol.events import JobLogged

KEPT_LINES: Final = 10_000
TRIMMED_AT_ONCE: Final = 1_000
MAX_LINE: Final = 4_000
"""Characters of a line that are shown."""

TAB: Final = 8

_STEERING: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[@-Z\\-_]|\x9b[0-?]*[ -/]*[@-~]"
)
"""What colours and cursor movements are made of: left out, where all else that is not printable is marked."""


class LogLine(NamedTuple):
    """One line."""

    text: str
    """Harmless to show."""
    style: str = "value"
    """``value`` for stdout, ``warn`` for stderr, ``label`` for what is said of the log itself."""


class JobLog:
    """A job's log, put together from its pieces."""

    def __init__(self) -> None:
        self.version = 0
        """Grows with each change."""
        self.clear()

    def clear(self) -> None:
        """Begin anew: what is known comes again."""
        self.version += 1
        self.lines: list[LogLine] = []
        self.removed = 0
        """Lines that are no longer kept."""
        self._open: dict[str, int] = {}
        """By stream: the line, counted from the first ever, that has not ended yet."""
        self._raw: dict[str, str] = {}
        """By stream: what that line is made of."""
        self._expected: dict[str, int] = {}
        """By stream: the byte that should come next."""

    def take(self, piece: JobLogged) -> None:
        """Add a piece."""
        stream, expected = piece.stream, self._expected.get(piece.stream)
        if expected is not None and piece.from_ < expected:
            self._say("another attempt")
            expected = None
        if expected is not None and piece.from_ > expected:
            self._say(f"{format_bytes(piece.from_ - expected)} were not sent here")
        self._expected[stream] = piece.from_ + len(piece.text.encode(errors="replace"))
        self._add(stream, piece.text)
        if piece.dropped:
            self._say(f"{format_bytes(piece.dropped)} were lost: the log is longer than it may be")
        self.version += 1
        self._trim()

    def text(self) -> str:
        """Give all of it."""
        return "".join(f"{line.text}\n" for line in self.lines)

    def _add(self, stream: str, text: str) -> None:
        style = "warn" if stream == "stderr" else "value"
        first, *rest = text.replace("\r\n", "\n").split("\n")
        self._continue(stream, first, style)
        for line in rest:
            self._open.pop(stream, None)
            self._raw[stream] = ""
            self._continue(stream, line, style)

    def _continue(self, stream: str, text: str, style: str) -> None:
        """Add to the line of a stream that has not ended; begin one where there is none."""
        if not text:
            return
        raw = self._raw[stream] = (self._raw.get(stream, "") + text)[-4 * MAX_LINE :]
        line = LogLine(shown(raw), style)
        place = self._open.get(stream, -1) - self.removed
        if 0 <= place < len(self.lines):
            self.lines[place] = line
        else:
            self._open[stream] = self.removed + len(self.lines)
            self.lines.append(line)

    def _say(self, words: str) -> None:
        self._open.clear()
        self._raw.clear()
        self.lines.append(LogLine(f"— {words} —", "label"))

    def _trim(self) -> None:
        if len(self.lines) > KEPT_LINES + TRIMMED_AT_ONCE:
            over = len(self.lines) - KEPT_LINES
            del self.lines[:over]
            self.removed += over


def shown(raw: str) -> str:
    """Give a line as it may be shown: what overwrites itself as it is at the end, nothing that steers."""
    text = _STEERING.sub("", raw)
    overwritten = [part for part in text.split("\r") if part]
    return safe((overwritten[-1] if overwritten else "").expandtabs(TAB))[:MAX_LINE]


def find(lines: Sequence[LogLine], wanted: str, start: int, step: int) -> int | None:
    """Give the next line that has a text, whatever its case; None where there is none.

    Args:
        lines: Where to look.
        wanted: The text.
        start: Where to begin, that line excluded.
        step: 1 for onwards, -1 for backwards; the search goes round the end.
    """
    wanted = wanted.lower()
    for distance in range(1, len(lines) + 1):
        place = (start + step * distance) % len(lines)
        if wanted in lines[place].text.lower():
            return place
    return None
