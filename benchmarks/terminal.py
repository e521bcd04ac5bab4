"""A pseudo-terminal with a program in it, watched: what it wrote, when, and where its cursor is."""

import fcntl
import os
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Self

import psutil

from benchmarks.processes import cpu_seconds

CURSOR = "48;2;29;38;50"
"""The background of the selected row, in the dark theme."""

_TOKENS = re.compile(
    r"\x1b\[(\d+);(\d+)H|\x1b\[([\d;]*)m|\x1b\[[?\d;$]*[@-~]|\x1b\][^\x07]*(?:\x07|\x1b\\)|\x1b[^[\]]|\n|[^\x1b\n]+"
)
_LONGEST_SEQUENCE = 64


class Watched:
    """A program in a terminal that shows it to nobody.

    Args:
        command: What to run.
        environment: Its environment.
        columns: Width of the terminal.
        rows: Its height.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], columns: int, rows: int
    ) -> None:
        self._control, inner = os.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.started = time.perf_counter()
        self._process = subprocess.Popen(
            command, stdin=inner, stdout=inner, stderr=inner, env=dict(environment), start_new_session=True
        )
        os.close(inner)
        self.written = 0
        """Bytes so far."""
        self.cursor_row: int | None = None
        """The line that was last drawn as the selected one, from 1."""
        self.text = ""
        """The last of what was written as text, for seeing that something is there."""
        self._row = 1
        self._is_cursor = False
        self._rest = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        deadline = time.monotonic() + 10
        while self._process.poll() is None and time.monotonic() < deadline:
            self.read(0.05)
        self._process.kill()
        self._process.wait()
        os.close(self._control)

    @property
    def cpu(self) -> float:
        """Processor seconds so far."""
        return cpu_seconds(self._process.pid)

    @property
    def rss(self) -> int:
        """Bytes of memory that it holds."""
        rss: int = psutil.Process(self._process.pid).memory_info().rss
        return rss

    def press(self, keys: bytes) -> None:
        """Type."""
        os.write(self._control, keys)

    def read(self, seconds: float) -> bool:
        """Take what is written within so many seconds; False if that is nothing."""
        ready, _, _ = select.select([self._control], [], [], seconds)
        if not ready:
            return False
        try:
            written = os.read(self._control, 1 << 20)
        except OSError:  # it has ended
            return False
        self.written += len(written)
        self._take(written.decode(errors="replace"))
        return bool(written)

    def watch(self, seconds: float) -> None:
        """Take what is written in so many seconds."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            self.read(left)

    def wait(self, look: Callable[[], bool], seconds: float) -> float | None:
        """Wait for something to be seen; give the moment that it was (`time.perf_counter`), None if never."""
        end = time.perf_counter() + seconds
        while not look():
            if time.perf_counter() > end:
                return None
            self.read(0.5)
        return time.perf_counter()

    def _take(self, text: str) -> None:
        text = self._rest + text
        cut = text.rfind("\x1b", max(0, len(text) - _LONGEST_SEQUENCE))
        is_whole = cut < 0 or _TOKENS.match(text, cut) is not None
        text, self._rest = (text, "") if is_whole else (text[:cut], text[cut:])
        for token in _TOKENS.finditer(text):
            row, _, style = token.groups()
            if row is not None:
                self._row = int(row)
            elif style is not None:
                self._style(style)
            elif token[0] == "\n":
                self._row += 1
            elif not token[0].startswith("\x1b"):
                self.text = (self.text + token[0])[-4000:]
                if self._is_cursor:
                    self.cursor_row = self._row

    def _style(self, codes: str) -> None:
        if "48;2;" in codes:
            self._is_cursor = CURSOR in codes
        elif codes in {"", "0"} or codes.startswith("0;") or "49" in codes.split(";"):
            self._is_cursor = False
