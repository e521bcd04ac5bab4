"""A connection that stays up: it dials again, subscribes again, and takes up where it was cut off."""

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Callable
from typing import Any

from qubix_tui import __version__
from qubix_tui.client.address import check_url
from qubix_tui.client.errors import ConnectFailed, ConnectionLost
from qubix_tui.client.failures import Failure, Remedy, explain_exception
from qubix_tui.client.handlers import EventHandler, Handlers
from qubix_tui.client.link import Link
from qubix_tui.client.retry import GUIDE, STEADY_SECONDS, RetryPolicy
from qubix_tui.client.session import HubFacts, Listeners, OpenHook, Session
from qubix_tui.client.states import ConnectionState
from qubix_tui.client.subscriptions import Subscriptions
from qubix_tui.protocol.events import Event
from qubix_tui.protocol.types import Wire

_logger = logging.getLogger("qubix_tui.client")


class Connection:
    """A client's connection to a hub. Everything happens in the event loop that called `start`.

    Args:
        url: ``ws://`` or ``wss://``, host, optionally port and path.
        token: Shown to the hub as ``Authorization: Bearer``; None for what the hub gives anyone.
        retry: When to dial again.
        ssl_context: For ``wss://`` in place of the system's trust (a private authority).
        proxy: URL of an HTTP or SOCKS proxy; none is used unless given.
        insecure: Whether the token may cross a network in the clear.
        user_agent: What the hub may log of this program.

    Raises:
        BadUrl: ``url`` can't be dialled.
        InsecureToken: The token would go over plain ``ws://`` beyond this machine.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        retry: RetryPolicy = GUIDE,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        insecure: bool = False,
        user_agent: str = f"qubix/{__version__}",
    ) -> None:
        self._address = check_url(url, token=token, insecure=insecure)
        self._token = token
        self._retry = retry
        self._ssl_context = ssl_context
        self._proxy = proxy
        self._user_agent = user_agent
        self._rng = random.Random()  # noqa: S311 - spreads reconnections, keeps no secret

        self._state = ConnectionState.DISCONNECTED
        self._attempt = 0
        self._next_attempt_at: float | None = None
        self._failure: Failure | None = None
        self._hub = HubFacts()

        self._listeners = Listeners()
        self._states: Handlers[ConnectionState] = Handlers()
        self._hook: OpenHook | None = None
        self._subscriptions = Subscriptions()

        self._run_task: asyncio.Task[None] | None = None
        self._session: Session | None = None
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._opened_at: float | None = None

    @property
    def url(self) -> str:
        """The address as it was given."""
        return self._address.url

    @property
    def state(self) -> ConnectionState:
        """Where it is now."""
        return self._state

    @property
    def attempt(self) -> int:
        """Which attempt since the last success is waited for or under way; 0 for the first dial."""
        return self._attempt

    @property
    def attempts_allowed(self) -> int | None:
        """How many attempts there are before it gives up or slows down; None for no end."""
        return self._retry.attempts

    @property
    def next_attempt_at(self) -> float | None:
        """`time.monotonic` of the next attempt; None unless one is waited for."""
        return self._next_attempt_at

    @property
    def last_error(self) -> str | None:
        """Why it is not open, as one sentence; kept until it opens."""
        return None if self._failure is None else self._failure.sentence

    @property
    def remedy(self) -> Remedy | None:
        """What a person has to do before another attempt can help; None where nothing is known of that."""
        return None if self._failure is None else self._failure.remedy

    @property
    def role(self) -> str | None:
        """What the hub lets this connection do; None before it was first greeted."""
        return self._hub.role

    @property
    def hub_version(self) -> str | None:
        """The version that the hub last greeted with."""
        return None if self._hub.greeting is None else self._hub.greeting.version

    def hub_time(self) -> float:
        """Estimate the hub's wall clock now, in seconds since the epoch.

        Good to half a round trip, and not moved by a step of the local clock. Before the first greeting it is
        the local clock.
        """
        estimate = self._hub.clock.time(time.monotonic())
        return time.time() if estimate is None else estimate

    def on(self, event_type: str, handler: EventHandler) -> None:
        """Call ``handler`` for each message of a type, or of all types (``*``), in the order they come.

        A handler is called in the event loop and must not block. What it raises is logged.
        """
        self._listeners.events.add(event_type, handler)

    def off(self, event_type: str, handler: EventHandler) -> None:
        """End what `on` began; nothing happens if it is not there."""
        self._listeners.events.remove(event_type, handler)

    def on_raw(self, handler: Callable[[bytes], None]) -> Callable[[], None]:
        """Call ``handler`` with each message's exact bytes (repeated events left out).

        Gives the function that ends it.
        """
        return self._listeners.raw.add(handler)

    def on_state(self, handler: Callable[[ConnectionState], None]) -> Callable[[], None]:
        """Call ``handler`` with each new state. Gives the function that ends it."""
        return self._states.add(handler)

    def on_gap(self, handler: Callable[[str], None]) -> Callable[[], None]:
        """Call ``handler`` with a channel of which events were missed for good.

        Gives the function that ends it.
        """
        return self._listeners.gaps.add(handler)

    def on_open(self, hook: OpenHook | None) -> None:
        """Await ``hook`` on each new connection before anything else is sent (an agent registers there).

        While it runs, only its own task may send. What it raises ends the connection; a `ClientError` becomes
        `last_error`, and the ``retry_after`` of `Refused` is waited for.
        """
        self._hook = hook

    async def start(self) -> None:
        """Begin to connect and return at once; nothing happens if it has begun already."""
        self._begin()

    def _begin(self) -> None:
        if self._run_task is None or self._run_task.done():
            self._attempt = 0
            self._set_state(ConnectionState.CONNECTING)
            self._run_task = asyncio.get_running_loop().create_task(self._run(), name="qubix-connection")

    async def wait_open(self, timeout: float) -> None:
        """Wait until it is open.

        Args:
            timeout: Seconds.

        Raises:
            ConnectFailed: It gave up or was closed, or is not open in time.
        """
        try:
            async with asyncio.timeout(timeout):
                while self._state is not ConnectionState.OPEN:
                    if self._state.is_final:
                        break
                    await self._changed.wait()
        except TimeoutError:
            pass
        if self._state is not ConnectionState.OPEN:
            sentence = self.last_error or f"{self._address.place} did not answer within {timeout:g} s"
            raise ConnectFailed(sentence, unreachable=self._failure is None or self._failure.unreachable)

    def retry_now(self) -> None:
        """Make the next attempt at once; begins again where it had given up."""
        self._wake.set()
        if self._state is ConnectionState.DISCONNECTED and self._run_task is not None:
            self._begin()

    async def close(self) -> None:
        """Say goodbye and end; nothing of it is left when this returns.

        Takes a second or two at most. Inside the open hook it cancels the hook.
        """
        task = self._run_task
        if task is not None and not task.done():
            self._set_state(ConnectionState.CLOSING)
            task.cancel()
            await asyncio.wait({task})
        self._set_state(ConnectionState.CLOSED)

    def subscribe(
        self, channel: str, *, snapshot: bool = False, digest: float | None = None, recover: bool = True
    ) -> None:
        """Count one watcher of a channel, now and after every reconnect, until `unsubscribe`.

        Args:
            channel: ``marketplace``, ``provider:<id>``, ``job:<id>``, ``provider:*`` or ``job:*``.
            snapshot: Whether the present state comes first, and again where events were missed.
            digest: Seconds between headline metrics of the whole fleet (``marketplace`` alone).
            recover: Whether events missed while away are asked for.

        Raises:
            ValueError: ``channel`` is none, or has no digest.
        """
        ask = self._subscriptions.add(channel, snapshot=snapshot, digest=digest, recover=recover)
        if ask is not None and self._session is not None:
            self._session.ask(channel, ask)

    def unsubscribe(self, channel: str) -> None:
        """Count one watcher less; the last one ends the subscription."""
        if self._subscriptions.remove(channel) and self._session is not None:
            self._session.unsubscribe(channel)

    def send(self, event_type: str, data: Wire | dict[str, Any] | None = None) -> bool:
        """Send and forget.

        Nothing is kept for later: False where the connection is not open, or the hub does not read.
        """
        return self._session is not None and self._session.send(event_type, data)

    async def request(
        self, event_type: str, data: Wire | dict[str, Any] | None = None, timeout: float = 10.0
    ) -> Event:
        """Send and wait for the reply.

        Args:
            event_type: Type of the request.
            data: Its data.
            timeout: Seconds.

        Raises:
            Refused: The hub answered with an error.
            RequestTimeout: It did not answer in time.
            ConnectionLost: The connection is not open, or went away before the answer.
        """
        if self._session is None:
            raise ConnectionLost(self.last_error or "the connection to the hub is not open")
        return await self._session.request(event_type, data, timeout)

    def _set_state(self, state: ConnectionState) -> None:
        if state is self._state:
            return
        self._state = state
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        self._states.call(state)

    async def _run(self) -> None:
        """Dial, converse, and dial again, until it is closed or there is no point."""
        try:
            await self._persist()
        finally:
            if self._state is ConnectionState.CLOSING:
                self._set_state(ConnectionState.CLOSED)

    async def _persist(self) -> None:
        while True:
            failure = await self._connect_once()
            self._failure = failure
            _logger.info("%s", failure.sentence)
            if self._opened_at is not None and time.monotonic() - self._opened_at >= STEADY_SECONDS:
                self._attempt = 0
            delay = self._retry.delay(self._attempt + 1, failure, self._rng)
            if delay is None:
                break
            self._attempt += 1
            await self._rest(delay)
        self._set_state(ConnectionState.DISCONNECTED)

    async def _rest(self, delay: float) -> None:
        self._wake.clear()
        self._next_attempt_at = time.monotonic() + delay
        self._set_state(ConnectionState.RECONNECTING)
        try:
            async with asyncio.timeout(delay):
                await self._wake.wait()
        except TimeoutError:
            pass
        finally:
            self._next_attempt_at = None

    async def _connect_once(self) -> Failure:
        """Make one connection, live through it, and give why it ended."""
        self._opened_at = None
        dialled_at = time.monotonic()
        try:
            link = await Link.dial(
                self._address,
                token=self._token,
                user_agent=self._user_agent,
                ssl_context=self._ssl_context,
                proxy=self._proxy,
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, it is said, and dialled again
            return explain_exception(error, self._address, token=self._token is not None, proxy=self._proxy)
        self._session = Session(
            link,
            dialled_at=dialled_at,
            hub=self._hub,
            subscriptions=self._subscriptions,
            listeners=self._listeners,
            hook=self._hook,
            opened=self._opened,
        )
        try:
            return await self._session.run()
        finally:
            self._session = None

    def _opened(self) -> None:
        self._opened_at = time.monotonic()
        self._failure = None
        self._set_state(ConnectionState.OPEN)
