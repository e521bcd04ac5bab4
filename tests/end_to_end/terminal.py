"""A real pseudo-terminal with a real program in it, read as a person would: by its screen."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pexpect
import pyte

from tests.end_to_end.processes import PATIENCE, command, environment, processes_of


class Terminal:
    """A program in a pseudo-terminal, and the screen that it painted so far."""

    def __init__(self, arguments: Sequence[str], env: Mapping[str, str], columns: int, rows: int) -> None:
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self.child = pexpect.spawn(
            command(arguments[0]), list(arguments[1:]), env=dict(env), dimensions=(rows, columns), timeout=5
        )
        self.started = time.monotonic()

    @property
    def text(self) -> str:
        """The screen as lines of text."""
        return "\n".join(line.rstrip() for line in self._screen.display)

    def read(self, seconds: float) -> None:
        """Take what the program writes within so many seconds, or until it pauses."""
        with contextlib.suppress(pexpect.TIMEOUT, pexpect.EOF):
            painted: bytes = self.child.read_nonblocking(65536, timeout=seconds)  # type: ignore[assignment]
            self._stream.feed(painted)

    def wait_for(self, wanted: str, patience: float = PATIENCE) -> str:
        """Wait until the screen shows a text; fails with the screen when it does not."""
        deadline = time.monotonic() + patience
        while wanted not in self.text:
            assert time.monotonic() < deadline, f"waited {patience:g} s for {wanted!r} on:\n{self.text}"
            self.read(0.1)
        return self.text

    def live_row(self, name: str) -> str | None:
        """The line of the fleet that has a name, if it is of a machine that is heard; None otherwise."""
        self.read(0.1)
        lines = self.text.splitlines()
        return next((line for line in lines if name in line and "available" in line), None)

    def press(self, keys: str) -> None:
        """Type."""
        self.child.send(keys)

    def resize(self, columns: int, rows: int) -> None:
        """Give the window another size."""
        self._screen.resize(rows, columns)
        self.child.setwinsize(rows, columns)

    def hang_up(self) -> None:
        """Close the terminal as a person closes its window: the program gets SIGHUP."""
        os.close(self.child.child_fd)
        with contextlib.suppress(OSError):
            self.child.kill(signal.SIGHUP)

    def wait_end(self, patience: float = PATIENCE) -> int | None:
        """Wait for the program's end and give its exit status (None when a signal ended it)."""
        deadline = time.monotonic() + patience
        while self.child.isalive():
            assert time.monotonic() < deadline, f"it still runs; its screen:\n{self.text}"
            self.read(0.05)
        self.child.close()
        status: int | None = self.child.exitstatus
        return status


@contextmanager
def terminal(
    arguments: Sequence[str], home: Path, *, columns: int = 120, rows: int = 40, **extra: str
) -> Iterator[Terminal]:
    """Run a command of ours in a pseudo-terminal; whatever it left behind is ended with the block."""
    shown = Terminal(arguments, environment(home, **extra), columns, rows)
    try:
        yield shown
    finally:
        with contextlib.suppress(Exception):
            shown.child.close(force=True)
        for left in processes_of(home):
            left.kill()
