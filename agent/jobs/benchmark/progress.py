"""How far the benchmark is, told to whoever runs it."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

REPORT_SECONDS: Final = 0.5
"""Between two reports of one stage: nobody looks more often."""


class Stage:
    """One measurement with the time that it may take.

    Args:
        seconds: How long it is to last.
        say: Called with the part of the stage that is over, 0 to 1, not too often.
        clock: A monotonic clock, in seconds.
    """

    def __init__(self, seconds: float, say: Callable[[float], None], clock: Callable[[], float]) -> None:
        self.seconds = seconds
        self._say = say
        self._clock = clock
        self._begun = clock()
        self._said = float("-inf")

    @property
    def is_over(self) -> bool:
        """Whether its time has passed."""
        return self._clock() - self._begun >= self.seconds

    def restart(self) -> None:
        """Count its time from now: what came before was preparation."""
        self._begun = self._clock()

    def tick(self) -> None:
        """Report, if it is time to."""
        now = self._clock()
        if now - self._said >= REPORT_SECONDS:
            self._said = now
            self._say(min(1.0, (now - self._begun) / self.seconds))


class Progress:
    """Writes one line of JSON for each report: ``{"progress": 42.5, "message": "…"}``.

    Args:
        path: The file to append to; None to write nowhere.
        seconds: How long all stages are to last together.
        clock: A monotonic clock, in seconds.
    """

    def __init__(self, path: str | None, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._descriptor = (
            None
            if path is None
            else os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        )
        self._total = seconds
        self._clock = clock
        self._done = 0.0

    @contextmanager
    def stage(self, message: str, seconds: float) -> Iterator[Stage]:
        """Give a stage of so many seconds; ``message`` says what is measured in it."""

        def say(part: float) -> None:
            self._write(100 * min(1.0, (self._done + part * seconds) / self._total), message)

        try:
            yield Stage(seconds, say, self._clock)
        finally:
            self._done += seconds

    def finish(self) -> None:
        """Say that all is done."""
        self._write(100.0, "done")
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _write(self, percent: float, message: str) -> None:
        if self._descriptor is not None:
            # One write a line: a reader never sees half of one followed by another's.
            line = json.dumps({"progress": round(percent, 1), "message": message})
            os.write(self._descriptor, line.encode() + b"\n")
