"""Looks after several hubs that share an address: starts each in a process, and again when it ends or hangs.

It serves nobody. It holds the sockets, and speaks for all of them: to the terminal, to ``hub.json``, and to
the supervisor that it may have itself.
"""

import contextlib
import gc
import logging
import selectors
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from qubix_tui.cli.common import EXIT_FAILED, CommandError
from qubix_tui.cli.hub_service import DRAIN_MARGIN_SECONDS, has_terminal, recorded
from qubix_tui.cli.worker_process import SignalPipe, WorkerProcess, start_worker
from qubix_tui.cli.worker_rules import Attendance
from qubix_tui.cli.worker_sockets import WorkerSockets
from qubix_tui.notify import Notifier

SILENT_SECONDS: Final = 30.0
"""A worker that was not heard for so long hangs, unless a watchdog asks for less."""

STALLED_SECONDS: Final = 1.0
"""A supervisor that comes so much too late was itself stopped, and judges nobody for that time."""

HURRY_SECONDS: Final = 2.0
"""What a worker may take to end that was told to do so at once."""

_logger = logging.getLogger("qubix.hub.workers")

Work = Callable[[int, list[socket.socket], Notifier], None]
"""Serves, as a worker of a number (from 1), on some sockets."""


class _Worker:
    def __init__(self, number: int, silence: float) -> None:
        self.number = number
        self.attendance = Attendance(silence)
        self.process: WorkerProcess | None = None

    def __str__(self) -> str:
        return f"worker {self.number}" + (f" (process {self.process.pid})" if self.process else "")


class Supervisor:
    """Starts workers, and looks after them until it is told to end.

    Args:
        sockets: What they listen on; closed at the end.
        work: What each does in its process.
        count: How many they are.
        directory: QUBIX_HOME.
        notifier: The supervisor of this process, if there is one.
    """

    def __init__(
        self, sockets: WorkerSockets, work: Work, *, count: int, directory: Path, notifier: Notifier
    ) -> None:
        self._sockets = sockets
        self._work = work
        self._directory = directory
        self._notifier = notifier
        self._silence = notifier.watchdog_seconds or SILENT_SECONDS
        self._workers = [_Worker(number, self._silence) for number in range(1, count + 1)]
        self._had_terminal = has_terminal()
        self._selector = selectors.DefaultSelector()
        self._record = contextlib.ExitStack()
        self._announced = False
        self._reloading: set[int] = set()
        self._drain_seconds = 0.0
        self._kill_at: float | None = None
        """When those are killed that have not ended by then; None until it is told to end."""
        self._failure: CommandError | None = None
        self._code = 0

    def run(self, drain_seconds: float) -> int:
        """Run until all workers are gone.

        Args:
            drain_seconds: What their clients may take to leave.

        Returns:
            The exit code.

        Raises:
            CommandError: A worker could not start at the beginning; the message is its own.
            HomeError: ``hub.json`` can't be written.
        """
        self._drain_seconds = drain_seconds
        signals = SignalPipe()
        signals.register(self._selector, lambda: self._signalled(signals.read()))
        # What is never freed is shared with the workers, page by page.
        gc.freeze()
        with contextlib.closing(signals), contextlib.closing(self._selector), self._record:
            try:
                while not (self._ends and self._is_alone()):
                    self._turn()
            finally:
                self._sockets.close()
        if self._failure is not None:
            raise self._failure
        return self._code

    @property
    def _ends(self) -> bool:
        return self._kill_at is not None

    def _is_alone(self) -> bool:
        return all(worker.process is None for worker in self._workers)

    def _turn(self) -> None:
        """Wait until something happens or is due, and do what it takes."""
        self._look_after_all(time.monotonic())
        due = self._next_moment()
        timeout = None if due is None else max(0.0, due - time.monotonic())
        began = time.monotonic()
        for key, _ in self._selector.select(timeout):
            key.data()
        late = time.monotonic() - began - (timeout or 0.0)
        if timeout is not None and late > STALLED_SECONDS:
            for worker in self._workers:
                worker.attendance.heard(time.monotonic())

    def _next_moment(self) -> float | None:
        if self._ends:
            return 0.0 if self._is_alone() else self._kill_at
        moments = (worker.attendance.next_moment() for worker in self._workers)
        return min((moment for moment in moments if moment is not None), default=None)

    def _look_after_all(self, now: float) -> None:
        if self._kill_at is not None:
            if now >= self._kill_at:
                self._kill_the_rest()
            return
        for worker in self._workers:
            if not self._ends:
                self._look_after(worker, now)

    def _look_after(self, worker: _Worker, now: float) -> None:
        attendance = worker.attendance
        if _is_due(attendance.hangs_at, now) and worker.process is not None:
            _logger.error("%s has not been heard for %g s: it is killed", worker, self._silence)
            worker.process.send(signal.SIGKILL)
            attendance.heard(now)
        if _is_due(attendance.give_up_at, now):
            _logger.warning("%s does not serve yet: those who wait for it are left to the others", worker)
            self._sockets.let_go(worker.number - 1)
            attendance.given_up()
        if _is_due(attendance.start_at, now):
            self._start(worker, now)

    def _start(self, worker: _Worker, now: float) -> None:
        def work(notifier: Notifier) -> None:
            self._selector.close()
            for other in self._workers:
                if other.process is not None:
                    other.process.channel.close()
            self._work(worker.number, self._sockets.keep_only(worker.number - 1), notifier)

        worker.attendance.started()
        try:
            worker.process = start_worker(work, self._silence)
        except OSError as error:
            self._did_not_start(worker, f"worker {worker.number} can't be started: {error.strerror}", now)
            return
        self._selector.register(worker.process.channel, selectors.EVENT_READ, lambda: self._hear(worker))

    def _hear(self, worker: _Worker) -> None:
        process, now = worker.process, time.monotonic()
        assert process is not None
        messages, gone = process.read()
        for message in messages:
            if "STOPPING" in message and not self._ends:
                worker.attendance.leaves()
                self._sockets.let_go(worker.number - 1)
            if "WATCHDOG" in message:
                worker.attendance.heard(now)
                if self._announced:
                    self._notifier.alive()
            if "READY" in message:
                worker.attendance.ready(now)
                self._reloaded(worker)
                self._tell()
        if gone:
            self._selector.unregister(process.channel)
            code = process.wait()
            worker.process = None
            self._ended(worker, process, code, now)

    def _ended(self, worker: _Worker, process: WorkerProcess, code: int, now: float) -> None:
        sentence = f"worker {worker.number} (process {process.pid}) {_how_it_ended(code, process.failure)}"
        if self._ends:
            # One that has yet to learn what these mean, or is through, has no clients; and what one can't do
            # at the beginning, the others can't either.
            if code not in {0, -signal.SIGTERM, -signal.SIGINT} and self._failure is None:
                self._code = EXIT_FAILED
                _logger.error("%s", sentence)
        elif self._announced:
            self._start_again(worker, sentence, now, logging.ERROR if code else logging.WARNING)
        else:
            self._failure = CommandError(
                process.failure or f"{sentence} before it listened", code if code > 0 else EXIT_FAILED
            )
            self._end()

    def _did_not_start(self, worker: _Worker, sentence: str, now: float) -> None:
        if self._announced:
            self._start_again(worker, sentence, now)
        else:
            self._failure = CommandError(sentence, EXIT_FAILED)
            self._end()

    def _start_again(self, worker: _Worker, sentence: str, now: float, level: int = logging.ERROR) -> None:
        pause = worker.attendance.ended(now)
        _logger.log(level, "%s; it is started again %s", sentence, f"in {pause:g} s" if pause else "now")
        self._reloaded(worker)
        self._tell()

    # What it says

    def _tell(self) -> None:
        """Say how many serve; the first time that all do, that they do."""
        if self._announced:
            self._notifier.status(self._status())
        elif all(worker.attendance.serves for worker in self._workers):
            self._announced = True
            self._record.enter_context(recorded(self._sockets.url, self._directory))
            print(f"listening on {self._sockets.url}", flush=True)
            self._notifier.ready(self._status())

    def _status(self) -> str:
        serving = sum(worker.attendance.serves for worker in self._workers)
        return f"listening on {self._sockets.url}, {serving} of {len(self._workers)} workers"

    # What it is told

    def _signalled(self, numbers: list[int]) -> None:
        for number in numbers:
            if number == signal.SIGHUP and not (self._had_terminal and not has_terminal()):
                self._reload()
            else:
                self._end()

    def _reload(self) -> None:
        if self._ends or not self._announced:
            return
        self._notifier.reloading()
        serving = [worker for worker in self._workers if worker.attendance.serves]
        self._reloading = {worker.number for worker in serving}
        for worker in serving:
            assert worker.process is not None
            worker.process.send(signal.SIGHUP)
        if not serving:
            self._notifier.ready(self._status())

    def _reloaded(self, worker: _Worker) -> None:
        """A worker has read the files again, or is not there to do so."""
        if worker.number in self._reloading:
            self._reloading.discard(worker.number)
            if not self._reloading:
                self._notifier.ready(self._status())

    def _end(self) -> None:
        """Have the workers let their clients leave; the second time, end at once."""
        now, number = time.monotonic(), signal.SIGTERM
        if self._kill_at is None:
            self._record.close()
            seconds = self._drain_seconds + DRAIN_MARGIN_SECONDS
            if self._failure is None:
                self._notifier.stopping("letting clients leave", seconds)
            self._sockets.close()
            self._kill_at = now + seconds
        else:
            self._kill_at = min(self._kill_at, now + HURRY_SECONDS)
            # Two of one number at once would be one.
            number = signal.SIGINT
        for worker in self._workers:
            if worker.process is not None:
                worker.process.send(number)

    def _kill_the_rest(self) -> None:
        self._kill_at = time.monotonic() + HURRY_SECONDS
        for worker in self._workers:
            if worker.process is not None:
                _logger.error("%s has not ended in time: it is killed", worker)
                worker.process.send(signal.SIGKILL)


def _is_due(moment: float | None, now: float) -> bool:
    return moment is not None and moment <= now


def _how_it_ended(code: int, failure: str) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with code {code}" + (f": {failure}" if failure else "")
