"""The guide's hooks as async iterators: subscribed when entered, unsubscribed when left."""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Final, Self, TypeVar

from qubix_tui.client.connection import Connection
from qubix_tui.client.errors import ConnectionLost, SlowConsumer
from qubix_tui.client.handlers import ANY, EventHandler
from qubix_tui.client.retry import GUIDE, RetryPolicy
from qubix_tui.client.states import ConnectionState
from qubix_tui.protocol import channels, events
from qubix_tui.protocol.events import Event, JobCompleted, JobProgressed, MetricsUpdate
from qubix_tui.protocol.marketplace import FleetDigest, FleetSnapshot

T = TypeVar("T")

QUEUE_LIMIT: Final = 10_000
"""How many ordered updates wait for a consumer before it is told that it is too slow."""


class Updates(AsyncIterator[T]):
    """Updates of one channel, one by one, for as long as its context is open.

    Iteration waits while the connection reconnects. It raises `ConnectionLost` once the connection was closed
    or has given up, and `SlowConsumer` once ordered updates piled up beyond `QUEUE_LIMIT`.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._ordered: deque[T] = deque()
        self._latest: dict[str, T] = {}
        self._signal = asyncio.Event()
        self._is_complete = False
        self._overflowed = False

    def put(self, update: T) -> None:
        """Keep an update that must not be skipped."""
        if len(self._ordered) >= QUEUE_LIMIT:
            self._overflowed = True
            self._ordered.clear()
        if not self._overflowed:
            self._ordered.append(update)
        self._signal.set()

    def put_latest(self, subject: str, update: T) -> None:
        """Keep an update in place of an older one of the same subject that was not taken yet."""
        self._latest[subject] = update
        self._signal.set()

    def finish(self) -> None:
        """Let iteration end once everything kept is taken."""
        self._is_complete = True
        self._signal.set()

    def wake(self, _state: ConnectionState) -> None:
        """Let iteration look at the connection's state again."""
        self._signal.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while True:
            self._signal.clear()
            if self._overflowed:
                raise SlowConsumer(
                    f"more than {QUEUE_LIMIT} updates waited; take them faster, or watch fewer channels"
                )
            if self._ordered:
                return self._ordered.popleft()
            if self._latest:
                return self._latest.pop(next(iter(self._latest)))
            if self._is_complete:
                raise StopAsyncIteration
            if self._connection.state.is_final:
                raise ConnectionLost(self._connection.last_error or "the connection was closed")
            await self._signal.wait()


class Client:
    """What `connect` gives: the hooks of the guide over one `Connection`.

    Two watchers of the same channel share one subscription.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @asynccontextmanager
    async def marketplace_updates(
        self, *, snapshot: bool = False, digest: float | None = None
    ) -> AsyncIterator[Updates[Event]]:
        """Watch the marketplace: providers come, go and change; jobs come and move on.

        Args:
            snapshot: Whether the whole fleet comes first, and again where events were missed.
            digest: Seconds between headline metrics of the whole fleet; None for none.
        """
        updates: Updates[Event] = Updates(self.connection)

        def take(event: Event) -> None:
            if event.channel != channels.MARKETPLACE:
                return
            # Another watcher of this connection may have asked for what this one did not.
            if isinstance(event.data, FleetSnapshot) and not snapshot:
                return
            if isinstance(event.data, FleetDigest) and digest is None:
                return
            updates.put(event)

        channel = channels.MARKETPLACE
        with self._watching(channel, updates, {ANY: take}, snapshot=snapshot, digest=digest):
            yield updates

    @asynccontextmanager
    async def provider_metrics(self, provider_id: str) -> AsyncIterator[Updates[MetricsUpdate]]:
        """Watch the metrics of one provider, or of all (``*``).

        A consumer that is slower than they come gets the newest of each provider; ``metrics.seq`` shows what
        was skipped.
        """
        updates: Updates[MetricsUpdate] = Updates(self.connection)

        def take(event: Event) -> None:
            if provider_id in {"*", event.data.provider_id}:
                updates.put_latest(event.data.provider_id, event.data)

        channel = channels.provider_channel(provider_id)
        with self._watching(channel, updates, {events.GPU_METRICS_UPDATE: take}):
            yield updates

    @asynccontextmanager
    async def job_progress(self, job_id: str) -> AsyncIterator[Updates[JobProgressed | JobCompleted]]:
        """Watch one job: its progress, then its completion, after which iteration ends."""
        updates: Updates[JobProgressed | JobCompleted] = Updates(self.connection)

        def take(event: Event) -> None:
            if event.data.job_id == job_id:
                updates.put(event.data)
                if event.type == events.JOB_COMPLETED:
                    updates.finish()

        handlers = {events.JOB_PROGRESS: take, events.JOB_COMPLETED: take}
        with self._watching(channels.job_channel(job_id), updates, handlers):
            yield updates

    @contextmanager
    def _watching(
        self,
        channel: str,
        updates: Updates[T],
        handlers: Mapping[str, EventHandler],
        *,
        snapshot: bool = False,
        digest: float | None = None,
    ) -> Iterator[None]:
        connection = self.connection
        connection.subscribe(channel, snapshot=snapshot, digest=digest)
        for event_type, handler in handlers.items():
            connection.on(event_type, handler)
        forget_state = connection.on_state(updates.wake)
        try:
            yield
        finally:
            forget_state()
            for event_type, handler in handlers.items():
                connection.off(event_type, handler)
            connection.unsubscribe(channel)


@asynccontextmanager
async def connect(
    url: str,
    *,
    token: str | None = None,
    retry: RetryPolicy = GUIDE,
    timeout: float = 10.0,
    ssl_context: ssl.SSLContext | None = None,
) -> AsyncIterator[Client]:
    """Connect to a hub for as long as the context is open.

    Args:
        url: Its address, such as ``ws://localhost:3001``.
        token: Shown to the hub; None for what it gives anyone.
        retry: When to dial again after a loss.
        timeout: Seconds that the first connection may take.
        ssl_context: For ``wss://`` in place of the system's trust.

    Raises:
        BadUrl: The address can't be dialled.
        ConnectFailed: The hub can't be reached, or refuses.
    """
    connection = Connection(url, token=token, retry=retry, ssl_context=ssl_context)
    await connection.start()
    try:
        await connection.wait_open(timeout)
        yield Client(connection)
    finally:
        await connection.close()
