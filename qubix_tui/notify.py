"""What a supervisor is told of a service of ours: the notification protocol of systemd (``sd_notify``).

A datagram of ``NAME=value`` lines goes to the socket that ``NOTIFY_SOCKET`` names; where nothing names one,
nobody asked and nothing is sent. A message that can't be delivered is logged and never stops the service: the
supervisor notices silence by itself.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Final, Self

_logger = logging.getLogger("qubix.notify")

FAILURE: Final = "X_FAILURE"
"""The name under which a process says to its parent why it ends."""

Probe = Callable[[], Awaitable[None]]
"""Returns when what the service rests on answers, whatever it answers."""


class Notifier:
    """Speaks to the supervisor, if there is one.

    Args:
        address: Its socket: a path, or ``@name`` for an abstract one. None says nothing to nobody.
        watchdog_seconds: How often it wants to hear of us, None if it does not watch.
    """

    def __init__(self, address: str | None = None, watchdog_seconds: float | None = None) -> None:
        self._address = address
        self.watchdog_seconds = watchdog_seconds

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] = os.environ) -> Self:
        """Read what the supervisor asks for, and take it out, so that no child speaks in our name."""
        address = environment.pop("NOTIFY_SOCKET", None)
        microseconds = environment.pop("WATCHDOG_USEC", "")
        process = environment.pop("WATCHDOG_PID", None)
        if address is not None and not address.startswith(("/", "@")):
            _logger.warning("NOTIFY_SOCKET=%s is no path and no @name; the supervisor hears nothing", address)
            address = None
        watched = process is None or process == str(os.getpid())
        if not (address and watched and microseconds.isascii() and microseconds.isdigit()):
            return cls(address)
        return cls(address, int(microseconds) / 1e6 or None)

    def ready(self, status: str) -> None:
        """The service serves. Also said at the end of a reload."""
        self._send("READY=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        """Say in a line how the service does."""
        self._send(f"STATUS={status}")

    def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={microseconds}")

    def stopping(self, status: str, seconds: float) -> None:
        """The service ends, and may take so many seconds."""
        self._send("STOPPING=1", f"STATUS={status}", f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def alive(self) -> None:
        """Hold off the watchdog once more."""
        self._send("WATCHDOG=1")

    async def keep_alive(self, probe: Probe, name: str) -> None:
        """Hold off the watchdog for as long as the event loop turns and what is probed answers.

        Runs on the service's own loop, so that one which hangs is noticed. What does not answer within the
        watchdog's time may have a thread that hangs, and only a new process helps.

        Args:
            probe: Comes back when it has answered.
            name: What to call it in the log.
        """
        if self.watchdog_seconds is None:
            return
        interval = self.watchdog_seconds / 2
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + interval
            try:
                async with asyncio.timeout(interval):
                    await probe()
                self.alive()
            except TimeoutError:
                _logger.error("%s has not answered for %g s; the watchdog is not held off", name, interval)
            await asyncio.sleep(max(0.0, due - loop.time()))

    def _send(self, *lines: str) -> None:
        message = "\n".join(line.replace("\n", " ") for line in lines).encode()
        try:
            self._deliver(message)
        except OSError as error:
            _logger.warning("can't tell the supervisor %s: %s", self._address or "of this process", error)

    def _deliver(self, message: bytes) -> None:
        if self._address is None:
            return
        path = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            # A supervisor that does not read must not hold up the event loop.
            sender.setblocking(False)
            sender.connect(path)
            sender.send(message)


class ParentNotifier(Notifier):
    """Says the same to the process that started this one.

    Args:
        channel: A socket that keeps messages apart, whose other end that process reads.
        watchdog_seconds: As of a `Notifier`.
    """

    def __init__(self, channel: socket.socket, watchdog_seconds: float | None) -> None:
        super().__init__(watchdog_seconds=watchdog_seconds)
        channel.setblocking(False)
        self._channel = channel

    def failed(self, sentence: str) -> None:
        """Say why this process ends."""
        self._send(f"{FAILURE}={sentence}")

    def _deliver(self, message: bytes) -> None:
        self._channel.send(message)


def read_message(message: bytes) -> dict[str, str]:
    """Give what a service of ours said in one message, by name."""
    return dict(line.partition("=")[::2] for line in message.decode(errors="replace").split("\n"))
