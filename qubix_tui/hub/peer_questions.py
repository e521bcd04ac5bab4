"""What one hub asks another: the past of a provider, which only the hub that has its connection remembers."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Final

from qubix_tui.hub.peer_messages import ANSWER_BYTES, MAX_PIECES, Answer, Question, Send
from qubix_tui.hub.snapshots import Past
from qubix_tui.protocol import codec

ANSWER_SECONDS: Final = 1.0
"""How long an answer may take."""

MAX_ASKED: Final = 1_000
"""Questions that may wait for their answers; one more has none."""


class _Asked:
    """A question whose answer is to come."""

    __slots__ = ("future", "node", "number", "pieces", "timer")

    def __init__(self, number: int, node: str) -> None:
        loop = asyncio.get_running_loop()
        self.number = number
        self.node = node
        self.future: asyncio.Future[Past | None] = loop.create_future()
        self.pieces: dict[int, bytes] = {}
        self.timer = loop.call_later(ANSWER_SECONDS, self.over, None)

    def over(self, past: Past | None) -> None:
        self.timer.cancel()
        if not self.future.done():
            self.future.set_result(past)


class Questions:
    """Asks other hubs, and answers theirs. Who asks the same while an answer is on its way shares it.

    Args:
        recall: Gives what this hub remembers of a provider; with its history, or without.
        send: Sends a message to a hub.
    """

    def __init__(self, recall: Callable[[str, bool], Past], send: Send) -> None:
        self._recall = recall
        self._send = send
        self._numbers = itertools.count(1)
        self._asked: dict[tuple[str, str, bool], _Asked] = {}
        self._by_number: dict[int, _Asked] = {}

    async def ask(self, node: str, provider_id: str, *, with_points: bool) -> Past | None:
        """Give what a hub remembers of a provider; None where it does not say in time."""
        key = node, provider_id, with_points
        asked = self._asked.get(key)
        if asked is None:
            if len(self._asked) >= MAX_ASKED:
                return None
            asked = self._asked[key] = _Asked(next(self._numbers), node)
            self._by_number[asked.number] = asked
            asked.future.add_done_callback(lambda _: self._forget(key))
            self._send(node, Question(asked.number, provider_id, with_points))
        return await asyncio.shield(asked.future)

    def close(self) -> None:
        """Wait for no answer any more."""
        for asked in tuple(self._asked.values()):
            asked.over(None)

    def answer(self, node: str, question: Question) -> None:
        """Answer another hub."""
        data = codec.encode_record(self._recall(question.provider_id, question.with_points))
        pieces = -(-len(data) // ANSWER_BYTES)
        if pieces <= MAX_PIECES:
            for piece in range(pieces):
                part = data[piece * ANSWER_BYTES : (piece + 1) * ANSWER_BYTES]
                self._send(node, Answer(question.number, piece, pieces, part))

    def answered(self, node: str, answer: Answer) -> None:
        """Take a piece of an answer; one that nobody waits for is dropped.

        Raises:
            ProtocolError: It is not what a hub remembers.
        """
        asked = self._by_number.get(answer.number)
        if asked is None or asked.node != node:
            return
        asked.pieces[answer.piece] = answer.data
        if len(asked.pieces) >= answer.pieces:
            data = b"".join(asked.pieces[piece] for piece in sorted(asked.pieces))
            asked.over(codec.decode_record(data, Past))

    def _forget(self, key: tuple[str, str, bool]) -> None:
        del self._by_number[self._asked.pop(key).number]
