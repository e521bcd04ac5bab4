"""What waits for one reader: in order, bounded, and never in the way of anybody else.

As long as the socket takes what it is given nothing is kept here: `Outbox.congested` is False and frames are
written straight through. Once the socket is full, or a `Slot` is being fed, frames queue up:

- An ordered frame waits its turn.
- A frame with a subject (a metrics sample) takes the place of an unread one of the same subject, so that a
  slow reader gets fewer samples, each the newest when its turn comes, in a fair rotation of the subjects.
- A `Slot` is a place in the order for pages that are made only when the socket can take them: snapshots,
  replays. They do not count for the bound; what queues up behind them does.
- The fleet digest comes last: it is asked for a page only when nothing else waits, so that a reader that is
  too slow for the digests still hears every event.

Past the bound, the reader is cut.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

DEFAULT_BOUND = 256 * 1024
"""Bytes that may wait for one reader, beside what its socket's buffer holds."""

WRITE_AT_ONCE = 64 * 1024
"""Small frames are joined up to this size before they are written."""


class Socket(Protocol):
    """What an outbox writes to."""

    paused: bool
    """The socket's buffer is above its high-water mark."""

    def write(self, data: bytes) -> None:
        """Hand whole frames to the socket; does nothing once the connection is closing."""
        ...

    def write_shared(self, data: bytes) -> None:
        """The same for what many get: whoever has it written counts it."""
        ...

    def too_slow(self) -> None:
        """More waits than the bound allows: end this connection."""
        ...


class PageSource(Protocol):
    """Pages that are made when they can be written."""

    def next_page(self) -> bytes | None:
        """Give the next page as a frame, None when there is nothing (any more)."""
        ...


class Slot:
    """A place in an outbox that is filled later, while all that comes after it waits."""

    __slots__ = ("_closed", "_frames", "_outbox")

    def __init__(self, outbox: "Outbox") -> None:
        self._outbox = outbox
        self._frames: Iterator[bytes] = iter(())
        self._closed = False

    def fill(self, frames: Iterable[bytes]) -> None:
        """Give the frames, made one by one as the socket takes them, and let what waits behind go on."""
        self._frames = iter(frames)
        self._closed = True
        self._outbox.pump()

    def pull(self) -> bytes | None:
        """Give the next frame, None when there is none now."""
        return next(self._frames, None)

    @property
    def closed(self) -> bool:
        """Nothing more will be added."""
        return self._closed


class _Waiting:
    __slots__ = ("frame", "subject")

    def __init__(self, frame: bytes, subject: str | None) -> None:
        self.frame = frame
        self.subject = subject


_NOTHING: deque[_Waiting | Slot] = deque()
"""What waits for nearly all readers, nearly always: an empty queue of one's own has 760 bytes."""


class Outbox:
    """The frames that wait for one reader.

    Args:
        socket: Where they go.
        bound: Bytes that may wait.
    """

    __slots__ = ("_background", "_bound", "_bytes", "_closed", "_latest", "_queue", "_socket", "congested")

    def __init__(self, socket: Socket, bound: int = DEFAULT_BOUND) -> None:
        self._socket = socket
        self._bound = bound
        self._queue = _NOTHING
        self._latest: dict[str, _Waiting] = {}
        self._bytes = 0
        self._closed = False
        self.congested = False
        """Whether frames must be queued (`add`) and can't be written through (`send`)."""
        self._background: PageSource | None = None

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait, pages yet to be made not included."""
        return self._bytes

    def send(self, data: bytes, subject: str | None = None) -> None:
        """Write one frame, or queue it where others wait."""
        if self.congested:
            self.add(data, subject)
        else:
            self._socket.write(data)

    def deliver(self, joined: bytes, frames: Sequence[tuple[bytes, str | None]]) -> bool:
        """Write frames that were joined for many readers, or queue them one by one where others wait.

        Args:
            joined: All of ``frames`` in one piece.
            frames: Each frame with its subject.

        Returns:
            Whether they were written; the caller counts them then.
        """
        if not self.congested:
            self._socket.write_shared(joined)
            return True
        for data, subject in frames:
            self.add(data, subject)
        return False

    def add(self, data: bytes, subject: str | None = None) -> None:
        """Queue one frame."""
        if self._closed:
            return
        if subject is not None:
            unread = self._latest.get(subject)
            if unread is not None:
                self._bytes += len(data) - len(unread.frame)
                unread.frame = data
                self._check_bound()
                return
        waiting = _Waiting(data, subject)
        if subject is not None:
            self._latest[subject] = waiting
        self._append(waiting)
        self._bytes += len(data)
        self._check_bound()

    def reserve(self) -> Slot:
        """Take a place for frames that come later."""
        slot = Slot(self)
        if not self._closed:
            self._append(slot)
            self.congested = True
        return slot

    def pages(self, frames: Iterable[bytes]) -> None:
        """Send frames that are made one by one as the socket takes them."""
        self.reserve().fill(frames)

    def set_background(self, source: PageSource | None) -> None:
        """Ask a source for pages whenever nothing else waits, in place of the one before."""
        if not self._closed:
            self._background = source
            if not self.congested:
                self.pump()

    def hold(self) -> None:
        """The socket is full: queue frames from now on. `pump` ends it."""
        self.congested = True

    def pump(self) -> None:
        """Write what waits, until the socket is full or nothing is left."""
        if self._closed:
            return
        while not self._socket.paused:
            data = self._take()
            if data is None:
                break
            self._socket.write(data)
        if not self._queue:
            self._queue = _NOTHING
        self.congested = bool(self._queue) or self._socket.paused

    def close(self) -> None:
        """Drop everything that waits, and whatever comes; the connection is over."""
        self._closed = self.congested = True
        self._queue = _NOTHING
        self._latest.clear()
        self._bytes = 0
        self._background = None

    def _append(self, item: "_Waiting | Slot") -> None:
        if not self._queue:
            self._queue = deque()
        self._queue.append(item)

    def _take(self) -> bytes | None:
        """Give the bytes to write next, None when there is nothing to write now."""
        taken: list[bytes] = []
        size = 0
        while self._queue and size < WRITE_AT_ONCE:
            head = self._queue[0]
            if isinstance(head, Slot):
                if taken:
                    break
                page = head.pull()
                if page is not None:
                    return page
                if not head.closed:
                    return None
                self._queue.popleft()
                continue
            self._queue.popleft()
            if head.subject is not None:
                del self._latest[head.subject]
            taken.append(head.frame)
            size += len(head.frame)
        if taken:
            self._bytes -= size
            return b"".join(taken)
        return self._background.next_page() if self._background is not None else None

    def _check_bound(self) -> None:
        if self._bytes > self._bound:
            self.close()
            self._socket.too_slow()
