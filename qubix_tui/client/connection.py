"""A connection that stays up: it dials again, subscribes again, and takes up where it was cut off."""

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from qubix_tui import __version__
from qubix_tui.client.address import check_url
from qubix_tui.client.calls import Calls
from qubix_tui.client.clock import HubClock
from qubix_tui.client.errors import ClientError, ConnectFailed, ConnectionLost, Refused
from qubix_tui.client.failures import Failure, Reaction, explain_exception
from qubix_tui.client.handlers import EventHandler, EventHandlers, Handlers
from qubix_tui.client.link import Link
from qubix_tui.client.retry import GUIDE, STEADY_SECONDS, RetryPolicy
from qubix_tui.client.states import ConnectionState
from qubix_tui.client.subscriptions import Ask, Subscriptions
from qubix_tui.protocol import PING_EVERY_SECONDS, PROTOCOL_VERSION, SILENCE_TIMEOUT_SECONDS, events
from qubix_tui.protocol.codec import decode_event, encode_request
from qubix_tui.protocol.errors import ErrorCode, ProtocolError
from qubix_tui.protocol.events import Connected, Event
from qubix_tui.protocol.requests import PING, UNSUBSCRIBE
from qubix_tui.protocol.types import Wire, from_timestamp

GREETING_TIMEOUT_SECONDS: Final = 10.0
"""How long after its handshake a hub may take to say ``connected``."""

FASTEST_PING_SECONDS: Final = 1.0
"""A hub that asks for more pings than this does not get them."""

DOUBT_SECONDS: Final = 5.0
"""What a silent hub gets to answer one last ping: this process may have been the one that slept."""

OpenHook = Callable[[], Awaitable[None]]

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
        self._greeting: Connected | None = None
        self._role: str | None = None

        self._events = EventHandlers()
        self._raw: Handlers[bytes] = Handlers()
        self._states: Handlers[ConnectionState] = Handlers()
        self._gaps: Handlers[str] = Handlers()
        self._open_hook: OpenHook | None = None

        self._clock = HubClock()
        self._calls = Calls()
        self._subscriptions = Subscriptions()
        self._asked: dict[object, str] = {}
        self._ping: tuple[int, float] | None = None

        self._run_task: asyncio.Task[None] | None = None
        self._talk_task: asyncio.Task[None] | None = None
        self._link: Link | None = None
        self._greeted = asyncio.Event()
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._dialled_at = 0.0
        self._heard_at = 0.0
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
    def role(self) -> str | None:
        """What the hub lets this connection do; None before it was first greeted."""
        return self._role

    @property
    def hub_version(self) -> str | None:
        """The version that the hub last greeted with."""
        return None if self._greeting is None else self._greeting.version

    @property
    def client_id(self) -> str | None:
        """What the hub calls this connection (the last one, while none is open)."""
        return None if self._greeting is None else self._greeting.client_id

    def hub_time(self) -> float:
        """Estimate the hub's wall clock now, in seconds since the epoch.

        Good to half a round trip, and not moved by a step of the local clock. Before the first greeting it is
        the local clock.
        """
        estimate = self._clock.time(time.monotonic())
        return time.time() if estimate is None else estimate

    def on(self, event_type: str, handler: EventHandler) -> None:
        """Call ``handler`` for each message of a type, or of all types (``*``), in the order they come.

        A handler is called in the event loop and must not block. What it raises is logged.
        """
        self._events.add(event_type, handler)

    def off(self, event_type: str, handler: EventHandler) -> None:
        """End what `on` began; nothing happens if it is not there."""
        self._events.remove(event_type, handler)

    def on_raw(self, handler: Callable[[bytes], None]) -> Callable[[], None]:
        """Call ``handler`` with each message's exact bytes (repeated events left out).

        Gives the function that ends it.
        """
        return self._raw.add(handler)

    def on_state(self, handler: Callable[[ConnectionState], None]) -> Callable[[], None]:
        """Call ``handler`` with each new state. Gives the function that ends it."""
        return self._states.add(handler)

    def on_gap(self, handler: Callable[[str], None]) -> Callable[[], None]:
        """Call ``handler`` with a channel of which events were missed for good.

        Gives the function that ends it.
        """
        return self._gaps.add(handler)

    def on_open(self, hook: OpenHook | None) -> None:
        """Await ``hook`` on each new connection before anything else is sent (an agent registers there).

        While it runs, only its own task may send. What it raises ends the connection; a `ClientError` becomes
        `last_error`, and the ``retry_after`` of `Refused` is waited for.
        """
        self._open_hook = hook

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
        """Say goodbye and end; nothing of it is left when this returns. Takes a second or two at most."""
        task = self._run_task
        if task is not None and not task.done():
            self._set_state(ConnectionState.CLOSING)
            task.cancel()
            # The open hook runs inside what is being ended: it can't wait for that.
            if asyncio.current_task() is not self._talk_task:
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
        if ask is not None and self._state is ConnectionState.OPEN:
            self._ask(channel, ask)

    def unsubscribe(self, channel: str) -> None:
        """Count one watcher less; the last one ends the subscription."""
        if self._subscriptions.remove(channel) and self._state is ConnectionState.OPEN:
            self._write(encode_request(UNSUBSCRIBE, subscription_id=channel))

    def send(self, event_type: str, data: Wire | dict[str, Any] | None = None) -> bool:
        """Send and forget.

        Nothing is kept for later: False where the connection is not open, or the hub does not read.
        """
        return self._may_send() and self._write(encode_request(event_type, data))

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
        number = self._calls.number()
        if not self._may_send() or not self._write(encode_request(event_type, data, request_id=number)):
            raise ConnectionLost(self.last_error or "the connection to the hub is not open")
        return await self._calls.wait(number, event_type, timeout)

    def _may_send(self) -> bool:
        return self._state is ConnectionState.OPEN or (
            self._talk_task is not None and asyncio.current_task() is self._talk_task
        )

    def _write(self, payload: bytes) -> bool:
        return self._link is not None and self._link.write(payload)

    def _set_state(self, state: ConnectionState) -> None:
        if state is self._state:
            return
        self._state = state
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        self._states.call(state)

    async def _run(self) -> None:
        """Dial, talk, and dial again, until it is closed or there is no point."""
        while True:
            failure = await self._connect_once()
            self._failure = failure
            _logger.info("%s", failure.sentence)
            delay = self._retry.delay(self._attempt + 1, failure, self._rng)
            if delay is None:
                break
            self._attempt += 1
            self._next_attempt_at = time.monotonic() + delay
            self._set_state(ConnectionState.RECONNECTING)
            await self._rest(delay)
        self._set_state(ConnectionState.DISCONNECTED)

    async def _rest(self, delay: float) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(delay):
                await self._wake.wait()
        except TimeoutError:
            pass
        finally:
            self._next_attempt_at = None

    async def _connect_once(self) -> Failure:
        """Make one connection, live through it, and give why it ended."""
        self._dialled_at = time.monotonic()
        try:
            link = await Link.dial(
                self._address,
                token=self._token,
                user_agent=self._user_agent,
                ssl_context=self._ssl_context,
                proxy=self._proxy,
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, it is said, and dialled again
            return explain_exception(error, self._address, token=self._token is not None)
        self._link, self._opened_at = link, None
        self._greeted.clear()
        self._talk_task = asyncio.get_running_loop().create_task(self._talk(link), name="qubix-talk")
        failure = Failure("the connection was closed")
        try:
            failure = await link.read(self._receive)
        finally:
            await self._end(link, failure)
        return failure

    async def _end(self, link: Link, failure: Failure) -> None:
        self._link = None
        if self._opened_at is not None and time.monotonic() - self._opened_at >= STEADY_SECONDS:
            self._attempt = 0
        self._asked.clear()
        self._ping = None
        self._subscriptions.lost(fresh=failure.fresh)
        self._calls.fail_all(failure.sentence)
        talk, self._talk_task = self._talk_task, None
        try:
            if talk is not None:
                talk.cancel()
                await asyncio.wait({talk})
        finally:
            await link.close()

    async def _talk(self, link: Link) -> None:
        """This side of one connection: greeted, hook, subscriptions, then a ping now and then."""
        failure = await self._open(link)
        if failure is None:
            failure = await self._keep_alive()
        await link.close(failure)

    async def _open(self, link: Link) -> Failure | None:
        try:
            async with asyncio.timeout(GREETING_TIMEOUT_SECONDS):
                await self._greeted.wait()
        except TimeoutError:
            return Failure(f"what answers at {self._address.place} does not greet as a QUBIX hub does")
        assert self._greeting is not None
        if self._greeting.protocol > PROTOCOL_VERSION:
            return Failure(
                f"the hub speaks protocol {self._greeting.protocol}, newer than this program: update it",
                Reaction.STOP,
            )
        if self._open_hook is not None:
            try:
                await self._open_hook()
            except Refused as error:
                return Failure(str(error), wait=error.retry_after)
            except ClientError as error:
                return Failure(str(error))
            except Exception:
                _logger.exception("the open hook failed")
                return Failure("this program failed while it greeted the hub; its log says where")
        self._opened_at = time.monotonic()
        self._failure = None
        for entry in self._subscriptions:
            self._resubscribe(link, entry.channel)
        self._set_state(ConnectionState.OPEN)
        return None

    async def _keep_alive(self) -> Failure:
        """Ping in the hub's rhythm until it has been silent for too long."""
        assert self._greeting is not None
        wanted = self._greeting.heartbeat
        every = min(max(wanted.ping_every, FASTEST_PING_SECONDS), PING_EVERY_SECONDS)
        patience = max(min(wanted.timeout, SILENCE_TIMEOUT_SECONDS), 2 * every)
        while True:
            number = self._calls.number()
            self._ping = (number, time.monotonic())
            self._write(encode_request(PING, request_id=number))
            heard_at = self._heard_at
            if time.monotonic() - heard_at >= patience:
                await asyncio.sleep(DOUBT_SECONDS)
                if self._heard_at == heard_at:
                    return Failure(f"the hub has been silent for {patience + DOUBT_SECONDS:.0f} s")
            await asyncio.sleep(every)

    def _resubscribe(self, link: Link, channel: str) -> None:
        ask = self._subscriptions.again(channel) if link is self._link else None
        if ask is not None:
            self._ask(channel, ask)

    def _ask(self, channel: str, ask: Ask) -> None:
        number = self._calls.number()
        self._asked[number] = channel
        self._write(
            encode_request(ask.type, ask.options, subscription_id=ask.subscription_id, request_id=number)
        )

    def _receive(self, raw: bytes) -> None:
        """Take one message: decoded once, repeated events dropped, then handed to everyone."""
        self._heard_at = time.monotonic()
        try:
            event = decode_event(raw)
        except ProtocolError as error:
            _logger.warning("ignored a message that breaks the contract: %s (%s)", error, error.field)
            self._raw.call(raw)
            return
        if event.channel is None:
            self._take_reply(event)
        elif not self._subscriptions.heard(event):
            return
        self._raw.call(raw)
        self._events.call(event)

    def _take_reply(self, event: Event) -> None:
        match event.type:
            case events.CONNECTED:
                self._greeting = event.data
                self._role = event.data.role
                self._clock.reset()
                self._observe(event.data.timestamp, self._dialled_at)
                self._greeted.set()
            case events.PONG:
                if self._ping is not None and self._ping[0] == event.id:
                    self._observe(event.data.timestamp, self._ping[1])
            case events.AUTHENTICATED:
                self._role = event.data.role
            case events.SUBSCRIBED:
                self._asked.pop(event.id, None)
                if self._subscriptions.confirm(event.data):
                    self._gaps.call(event.data.subscription)
            case events.ERROR:
                self._take_error(event)
        self._calls.answer(event)

    def _take_error(self, event: Event) -> None:
        channel = self._asked.pop(event.id, None)
        if channel is None or self._link is None:
            return
        error: events.ErrorData = event.data
        if error.code in {ErrorCode.RATE_LIMITED, ErrorCode.UNAVAILABLE}:
            delay = 1.0 if error.retry_after is None else error.retry_after
            asyncio.get_running_loop().call_later(delay, self._resubscribe, self._link, channel)
        else:
            _logger.warning("the hub refused the subscription of %s: %s", channel, error.message)

    def _observe(self, timestamp: str, sent: float) -> None:
        try:
            self._clock.observe(from_timestamp(timestamp), sent, self._heard_at)
        except ValueError:
            _logger.warning("ignored a timestamp of the hub that is no time: %r", timestamp)
