"""The hubs that share a store: what this one tells the others of itself, and what all of them told."""

import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

import qubix_tui
from qubix_tui.hub.clock import Clock
from qubix_tui.hub.engine.base import Engine
from qubix_tui.hub.engine.cluster import Node
from qubix_tui.hub.telemetry import Telemetry
from qubix_tui.protocol import codec
from qubix_tui.protocol.answers import HubNode
from qubix_tui.protocol.checks import printable
from qubix_tui.protocol.errors import ProtocolError
from qubix_tui.protocol.types import to_timestamp

RATE_SECONDS: Final = 5.0
"""What a rate is the mean of."""

MAX_NODES: Final = 100
"""Hubs that are shown: as many fit into one answer, whatever their names."""


class Nodes:
    """The hubs of one store, as one of them shows them.

    Args:
        engine: The store; not open yet.
        telemetry: This hub's counters.
        clock: Its clock.
        connections: Gives how many connections it has.
        providers: Gives how many providers publish over them.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        telemetry: Telemetry,
        clock: Clock,
        connections: Callable[[], int],
        providers: Callable[[], int],
    ) -> None:
        self._engine = engine
        self._telemetry = telemetry
        self._clock = clock
        self._connections = connections
        self._providers = providers
        self._name = printable(f"{socket.gethostname()}/{os.getpid()}", 128)
        self._started_at = to_timestamp(clock.time())
        self._counted: deque[tuple[float, int, int]] = deque()
        self._told: Sequence[Node] = ()
        self._told_at = clock.monotonic()

    def describe(self) -> None:
        """Tell the other hubs how this one does; to be called each second."""
        here = self._engine.cluster.node
        if here is None:
            return
        telemetry, now = self._telemetry, self._clock.monotonic()
        received = sum(telemetry.messages_received.values())
        self._counted.append((now, received, sum(telemetry.messages_sent.values())))
        while len(self._counted) > 2 and self._counted[1][0] <= now - RATE_SECONDS:
            self._counted.popleft()
        self._hear(now)
        self._engine.cluster.describe(codec.encode_record(self._own(here)))

    def listing(self) -> list[HubNode]:
        """Give all hubs that are alive, the oldest first; none where no other can be."""
        here = self._engine.cluster.node
        if here is None:
            return []
        now = self._clock.monotonic()
        self._hear(now)
        shown: list[HubNode] = []
        for node in self._told[:MAX_NODES]:
            if node.id != here:
                shown += self._other(node, node.age + now - self._told_at)
            else:
                shown.append(msgspec.structs.replace(self._own(here), is_this=True))
        if not any(node.is_this for node in shown):
            # Of the last hubs of very many, or given up by the others while the store was out of reach.
            shown[MAX_NODES - 1 :] = [msgspec.structs.replace(self._own(here), is_this=True)]
        return shown

    def _hear(self, now: float) -> None:
        """Note when the engine last told of the hubs: it gives the same ones until it does so again."""
        told = self._engine.cluster.nodes
        if told is not self._told:
            self._told, self._told_at = told, now

    def _own(self, here: str) -> HubNode:
        engine, is_there = self._engine.telemetry, self._engine.available
        received, sent = self._rates()
        return HubNode(
            id=here,
            name=self._name,
            version=qubix_tui.__version__,
            started_at=self._started_at,
            connections=self._connections(),
            providers=self._providers(),
            received_per_second=received,
            sent_per_second=sent,
            lag_seconds=engine.lag if is_there else None,
            clock_skew_seconds=-engine.clock_skew if is_there else None,
            age_seconds=0.0,
        )

    def _rates(self) -> tuple[float | None, float | None]:
        if not self._counted or self._counted[-1][0] == self._counted[0][0]:
            return None, None
        (began, *before), (ended, *after) = self._counted[0], self._counted[-1]
        received, sent = ((new - old) / (ended - began) for old, new in zip(before, after, strict=True))
        return received, sent

    @staticmethod
    def _other(node: Node, age: float) -> list[HubNode]:
        """Read what another hub tells; nothing where it has told nothing yet."""
        try:
            told = codec.decode_record(node.words, HubNode)
        except ProtocolError:
            return []
        return [msgspec.structs.replace(told, id=node.id, age_seconds=max(0.0, age), is_this=False)]
