"""Follow a job until it is over: its states and progress on stderr, what it prints where it was printed."""

import asyncio
import shutil
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

from qubix_tui.cli.common import EXIT_FAILED, EXIT_UNREACHABLE, CommandError, Target
from qubix_tui.cli.job_text import LogPrinter, status_line
from qubix_tui.cli.reading import get_record
from qubix_tui.protocol import channels
from qubix_tui.protocol.events import Event, JobCompleted, JobLogged, JobProgressed
from qubix_tui.protocol.job_records import Job, JobProgress, JobState, LogPiece
from qubix_tui.protocol.marketplace import JobSnapshot
from qubix_tui.protocol.types import Count, Wire

if TYPE_CHECKING:
    from qubix_tui.client import Connection, ConnectionState

REMEMBERED_PIECES = 10_000
"""Pieces of log that are known again when a snapshot repeats them."""

STEP_PERCENT = 5
"""How far progress moves between two lines of it, where they can't be written over."""

LOG_PAGE = 500


class LogPage(Wire, frozen=True, kw_only=True):
    """What `/api/jobs/<id>/logs` answers."""

    log: list[LogPiece]
    pages: Count


class Follower:
    """One job, followed.

    Args:
        job_id: Which.
        log_from: Print what the job prints, and first what it has printed, which is read from this hub.
        quiet: Say nothing of states and progress.
    """

    def __init__(self, job_id: str, *, log_from: Target | None = None, quiet: bool = False) -> None:
        self.job_id = job_id
        self.state: JobState | None = None
        """Its last known state."""
        self._quiet = quiet
        self._log_from = log_from
        self._printer = LogPrinter(sys.stdout, sys.stderr) if log_from else None
        self._known = deque[tuple[str, int, str]](maxlen=REMEMBERED_PIECES)
        # Pieces that came while those before them were being read.
        self._waiting: list[JobLogged] | None = [] if log_from else None
        self._known_at_all: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._drawn = False
        self._shown: tuple[JobState, int, str | None] | None = None
        self._may_draw = sys.stderr.isatty()

    async def follow(self, connection: "Connection") -> JobState:
        """Follow the job over an open connection until it is over, and give its last state.

        Raises:
            CommandError: There is no such job, or the hub was given up.
        """
        channel = channels.job_channel(self.job_id)
        forget = connection.on_state(self._state_changed)
        connection.on("*", self._take)
        connection.subscribe(channel, snapshot=True)
        try:
            await self._known_at_all
            if self._log_from is not None:
                await self._show_past(self._log_from)
            await self._over
        finally:
            forget()
            connection.off("*", self._take)
            self._clear()
        if self.state is None or not self.state.is_final:
            raise CommandError(f"gave up: {connection.last_error}", EXIT_UNREACHABLE)
        return self.state

    async def _show_past(self, target: Target) -> None:
        for piece in await asyncio.to_thread(read_log, target, self.job_id):
            self._show(piece)
        waiting, self._waiting = self._waiting, None
        for logged in waiting or ():
            self._show(logged)

    def _take(self, event: Event) -> None:
        if event.channel != channels.job_channel(self.job_id) or self._over.done():
            return
        try:
            self._take_data(event.data)
        except OSError as error:
            # Whoever read what is printed has gone.
            self._fail(error)

    def _take_data(self, data: Any) -> None:  # noqa: ANN401 - of any event
        match data:
            case JobSnapshot(job=None):
                self._fail(CommandError(f"there is no job {self.job_id}", EXIT_FAILED))
            case JobSnapshot(job=Job() as job):
                self._progress(job.progress or JobProgress(status=job.state, message=job.reason))
                self._found()
                if job.state.is_final:
                    self._end(job.state)
            case JobProgressed(progress=progress):
                self._progress(progress)
            case JobLogged() if self._waiting is not None:
                self._waiting.append(data)
            case JobLogged():
                self._show(data)
            case JobCompleted(status=status):
                self._end(JobState(status))

    def _found(self) -> None:
        if not self._known_at_all.done():
            self._known_at_all.set_result(None)

    def _fail(self, error: Exception) -> None:
        """End with an error, wherever it is awaited."""
        if not self._known_at_all.done():
            self._known_at_all.set_exception(error)
        elif not self._over.done():
            self._over.set_exception(error)

    def _end(self, state: JobState) -> None:
        if not self._over.done():
            self.state = state
            self._over.set_result(None)

    def _progress(self, progress: JobProgress) -> None:
        self.state = progress.status
        if self._quiet:
            return
        step = int((progress.progress or 0) // STEP_PERCENT)
        shown = (progress.status, step, progress.message)
        if self._may_draw:
            if self._printer is None or self._printer.at_line_start:
                self._draw(self._line(progress))
        elif shown != self._shown:
            print(f"{self.job_id}: {self._line(progress)}", file=sys.stderr, flush=True)
        self._shown = shown

    def _line(self, progress: JobProgress) -> str:
        why = f"  (qubix why {self.job_id} tells what for)" if progress.status is JobState.QUEUED else ""
        return f"{status_line(progress)}{why}"

    def _show(self, piece: LogPiece | JobLogged) -> None:
        key = piece.stream, piece.from_, piece.timestamp
        if self._printer is None or key in self._known:
            return
        self._known.append(key)
        self._clear()
        self._printer.show(piece)

    def _draw(self, line: str) -> None:
        width = shutil.get_terminal_size().columns
        sys.stderr.write(f"\r{line[: width - 1]}\x1b[K")
        sys.stderr.flush()
        self._drawn = True

    def _clear(self) -> None:
        """Take the line of progress away, so that something else can be written there."""
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._drawn = False

    def _state_changed(self, state: "ConnectionState") -> None:
        from qubix_tui.client import ConnectionState

        if state is ConnectionState.RECONNECTING and not self._quiet:
            self._clear()
            print("qubix: the hub is out of reach; trying again", file=sys.stderr, flush=True)
        elif state is ConnectionState.DISCONNECTED and not self._over.done():
            self._over.set_result(None)
            self._found()


def read_log(target: Target, job_id: str) -> list[LogPiece]:
    """Give what a hub keeps of a job's log, the oldest piece first.

    Raises:
        CommandError: No hub answers, or it refuses.
    """
    pieces: list[LogPiece] = []
    page, pages = 1, 1
    while page <= pages:
        part = get_record(target, f"/api/jobs/{job_id}/logs?perPage={LOG_PAGE}&page={page}", LogPage)
        pieces += part.log
        page, pages = page + 1, part.pages
    return pieces
