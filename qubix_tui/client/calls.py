"""Requests that wait for their reply, matched by ``id``."""

import asyncio
import itertools

from qubix_tui.client.errors import ConnectionLost, Refused, RequestTimeout
from qubix_tui.protocol.events import ERROR, ErrorData, Event
from qubix_tui.protocol.types import RequestId


class Calls:
    """Numbers messages and hands each reply to whoever asked."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._waiting: dict[RequestId, asyncio.Future[Event]] = {}

    def number(self) -> int:
        """Give an ``id`` that no other message of this connection has."""
        return next(self._numbers)

    async def wait(self, number: int, kind: str, timeout: float) -> Event:
        """Wait for the reply to message ``number``.

        Args:
            number: Its ``id``.
            kind: Its type, for the sentence of a timeout.
            timeout: Seconds.

        Raises:
            Refused: The reply is an ``error``.
            RequestTimeout: None came in time.
            ConnectionLost: The connection went away first.
        """
        future: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            async with asyncio.timeout(timeout):
                reply = await future
        except TimeoutError:
            raise RequestTimeout(f"the hub did not answer {kind} within {timeout:g} s") from None
        finally:
            self._waiting.pop(number, None)
        if reply.type == ERROR:
            data: ErrorData = reply.data
            raise Refused(data.code, data.message, field=data.field, retry_after=data.retry_after)
        return reply

    def answer(self, reply: Event) -> bool:
        """Hand a message to whoever waits for it; False if it is no awaited reply."""
        future = self._waiting.get(reply.id) if reply.id is not None else None
        if future is None or future.done():
            return False
        future.set_result(reply)
        return True

    def fail_all(self, sentence: str) -> None:
        """Let everyone who waits know that the connection is gone."""
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionLost(sentence))
        self._waiting.clear()
