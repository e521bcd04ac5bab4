"""The process of one of several hubs: forked from their supervisor, heard over a channel, gone with it."""

import contextlib
import ctypes
import logging
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from typing import Final, NoReturn

from qubix_tui.command import EXIT_FAILED, exit_code
from qubix_tui.home import HomeError
from qubix_tui.notify import FAILURE, Notifier, ParentNotifier, read_message

PR_SET_PDEATHSIG: Final = 1

LONGEST_MESSAGE: Final = 65_536

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Those that mean something to a hub."""

_libc: Final = ctypes.CDLL(None, use_errno=True)
_logger = logging.getLogger("qubix.hub.workers")


class WorkerProcess:
    """A process that was started, and has not been waited for.

    Args:
        pid: Its process id.
        channel: Where it speaks.
    """

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self.channel = channel
        self.failure = ""
        """What it said of why it ends."""

    def read(self) -> tuple[list[dict[str, str]], bool]:
        """Give what it has said meanwhile, and whether it is gone."""
        messages: list[dict[str, str]] = []
        while True:
            try:
                message = self.channel.recv(LONGEST_MESSAGE)
            except BlockingIOError:
                return messages, False
            except ConnectionError:
                message = b""
            if not message:
                return messages, True
            said = read_message(message)
            self.failure = said.get(FAILURE, self.failure)
            messages.append(said)

    def send(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Take leave of one that is gone.

        Returns:
            Its exit code, or minus the signal that ended it.
        """
        self.channel.close()
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


def start_worker(work: Callable[[Notifier], None], watchdog_seconds: float) -> WorkerProcess:
    """Start a process, and give it its work.

    It is a fork: what the supervisor has loaded it need not load, so that it serves within a fraction of a
    second, and after an upgrade of the files on disk it is of the same version as the others. This process
    must have no other thread.

    Args:
        work: Done there, with whom to tell how it goes. It may raise what `exit_code` knows, and `HomeError`.
        watchdog_seconds: It is to be heard so often.

    Raises:
        OSError: The system allows no more processes.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # A signal for the supervisor must not be taken in its name by what is not yet a worker.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            ours.close()
            _become_worker(parent, work, ParentNotifier(theirs, watchdog_seconds), mask)
    except BaseException:
        ours.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
    ours.setblocking(False)
    return WorkerProcess(pid, ours)


def _become_worker(
    parent: int, work: Callable[[Notifier], None], notifier: ParentNotifier, mask: set[int | signal.Signals]
) -> NoReturn:
    def do() -> int:
        work(notifier)
        return 0

    code = EXIT_FAILED
    try:
        _die_with(parent)
        # Out of reach of the terminal, whose signals the supervisor hands on.
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        # The files that it would have it read again have yet to be read.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        code = exit_code(do, notifier.failed, (HomeError,))
    except BaseException:
        _logger.exception("a worker failed")
    finally:
        with contextlib.suppress(OSError, ValueError):
            logging.shutdown()
        os._exit(code)


def _die_with(parent: int) -> None:
    """Have the kernel end this process when its parent has ended, in whatever way."""
    _libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(EXIT_FAILED)


class SignalPipe:
    """Hands the signals of this process on to a loop that waits for sockets."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        for end in (self._reader, self._writer):
            end.setblocking(False)
        self._before = [(number, signal.signal(number, _leave_to_the_pipe)) for number in SIGNALS]
        self._fd_before = signal.set_wakeup_fd(self._writer.fileno())

    def register(self, selector: selectors.BaseSelector, data: object) -> None:
        """Have a selector look out for them."""
        selector.register(self._reader, selectors.EVENT_READ, data)

    def read(self) -> list[int]:
        """Give those that came, in their order."""
        with contextlib.suppress(BlockingIOError):
            return list(self._reader.recv(1024))
        return []

    def close(self) -> None:
        """Have them do again what they did."""
        signal.set_wakeup_fd(self._fd_before)
        for number, handler in self._before:
            signal.signal(number, handler)
        self._reader.close()
        self._writer.close()


def _leave_to_the_pipe(*_: object) -> None:
    """Be there: a signal without a handler would be written to no pipe."""
