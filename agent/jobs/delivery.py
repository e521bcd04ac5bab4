"""Gets the messages of all attempts to the hub: in order, until they are acknowledged, never too many."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from agent.jobs.attempt import Attempt
from agent.jobs.outbox import Completion, Item
from qubix_tui.client import ClientError, Connection, ConnectionState, Refused, RequestTimeout
from qubix_tui.protocol.errors import ErrorCode
from qubix_tui.protocol.events import Ack

WINDOW: Final = 32
"""Messages that may wait for their acknowledgement."""

ANSWER_SECONDS: Final = 10.0
"""How long a hub may take for one, before the message is sent again."""

AGAIN_SECONDS: Final = 1.0
FORBIDDEN_SECONDS: Final = 60.0
"""When a message is tried again that the hub does not take for now, or not from this agent."""

_NEVER: Final = frozenset(
    {
        ErrorCode.INVALID,
        ErrorCode.TOO_LARGE,
        ErrorCode.BAD_JSON,
        ErrorCode.UNKNOWN_TYPE,
        ErrorCode.NOT_FOUND,
    }
)
"""What no repetition makes any better."""


class Delivery:
    """Sends what attempts have to say.

    Everything happens in one event loop.

    Args:
        attempts: Those that this agent holds, by tag.
        stale: Called with an attempt of which the hub wants nothing any more.
        complain: Called with a sentence about a message that the hub does not take.
    """

    def __init__(
        self,
        attempts: Mapping[str, Attempt],
        *,
        stale: Callable[[Attempt], None],
        complain: Callable[[str], None],
    ) -> None:
        self._attempts = attempts
        self._stale = stale
        self._complain = complain
        self._connection: Connection | None = None
        self._sent: dict[str, int] = {}
        self._waiting: set[tuple[str, int]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._not_before = 0.0

    def begin(self, connection: Connection) -> None:
        """Send on a connection that has just opened, first of all what was never acknowledged."""
        self._connection = connection
        self._sent.clear()
        self._waiting.clear()
        self._not_before = 0.0
        self.pump()

    async def close(self) -> None:
        """Send no more; what was not acknowledged is on the disk."""
        self._connection = None
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def pump(self) -> None:
        """Send as much as may be sent now."""
        connection = self._connection
        now = asyncio.get_running_loop().time()
        if connection is None or connection.state is not ConnectionState.OPEN or now < self._not_before:
            return
        for attempt in list(self._attempts.values()):
            while len(self._waiting) < WINDOW and not attempt.is_unwanted:
                found = self._next(attempt, now)
                if found is None:
                    break
                self._send(connection, attempt, *found)

    def acknowledged(self, ack: Ack) -> None:
        """Let go of what the hub has."""
        tag = f"{ack.job_id}.{ack.attempt}"
        attempt = self._attempts.get(tag)
        if attempt is None:
            return
        self._waiting = {(other, seq) for other, seq in self._waiting if other != tag or seq > ack.seq}
        try:
            attempt.outbox.acknowledge(ack.seq)
        except OSError as error:
            self._complain(f"can't note what the hub has of {tag}: {error.strerror}")
        if ack.stale:
            self._stale(attempt)

    def _next(self, attempt: Attempt, now: float) -> tuple[int, Item] | None:
        """Give the next message of an attempt: one to be sent again, or a new one."""
        sent = self._sent.get(attempt.tag, 0)
        again = next(attempt.outbox.after(sent), None)
        if again is not None:
            # Its end is told once this agent, too, has seen that the GPUs are free of it.
            return None if isinstance(again[1], Completion) and attempt.ended is None else again
        try:
            item = attempt.reporter.next_item(now, attempt.ended)
            return None if item is None else (attempt.outbox.add(item), item)
        except OSError as error:
            self._complain(f"can't keep what there is to say of {attempt.tag}: {error.strerror}")
            self._wait(AGAIN_SECONDS)
            return None

    def _send(self, connection: Connection, attempt: Attempt, seq: int, item: Item) -> None:
        self._sent[attempt.tag] = seq
        self._waiting.add((attempt.tag, seq))
        task = asyncio.get_running_loop().create_task(self._deliver(connection, attempt, seq, item))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, connection: Connection, attempt: Attempt, seq: int, item: Item) -> None:
        try:
            kind, data = attempt.reporter.message(seq, item, attempt.ended)
            await connection.request(kind, data, ANSWER_SECONDS)
        except Refused as error:
            if error.code in _NEVER:
                self._set_aside(attempt, seq, item, error)
            else:
                forbidden = error.code in {ErrorCode.FORBIDDEN, ErrorCode.UNAUTHENTICATED}
                self._wait(error.retry_after or (FORBIDDEN_SECONDS if forbidden else AGAIN_SECONDS))
                self._rewind(attempt, seq)
        except RequestTimeout:
            # An acknowledgement of a later one may have stood for this one.
            self._rewind(attempt, seq)
        except ClientError:
            # All that is not acknowledged is sent again on the next connection.
            return
        except OSError as error:
            self._complain(f"can't read what there is to say of {attempt.tag}: {error.strerror}")
            self._wait(AGAIN_SECONDS)
            self._rewind(attempt, seq)
        self.pump()

    def _rewind(self, attempt: Attempt, seq: int) -> None:
        """Go back to a message that did not get through, and what was sent after it."""
        if seq not in attempt.outbox.unacknowledged:
            return
        tag = attempt.tag
        self._sent[tag] = min(self._sent.get(tag, 0), seq - 1)
        self._waiting = {(other, number) for other, number in self._waiting if other != tag or number < seq}

    def _wait(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._not_before = max(self._not_before, loop.time() + seconds)
        loop.call_at(self._not_before, self.pump)

    def _set_aside(self, attempt: Attempt, seq: int, item: Item, error: Refused) -> None:
        """Pass over a message that the hub will never take, and say so. An end without its result is one."""
        self._complain(f"the hub does not take message {seq} of {attempt.tag}: {error}")
        self._waiting.discard((attempt.tag, seq))
        try:
            attempt.outbox.set_aside(seq)
            if isinstance(item, Completion) and not item.bare:
                attempt.outbox.add(Completion(bare=True))
        except OSError as failure:
            self._complain(f"can't note what the hub does not take of {attempt.tag}: {failure.strerror}")
