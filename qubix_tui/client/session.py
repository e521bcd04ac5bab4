"""One connection's conversation, from the hub's greeting to the last message."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from qubix_tui.client.calls import Calls
from qubix_tui.client.clock import HubClock
from qubix_tui.client.errors import ClientError, ConnectionLost, Refused
from qubix_tui.client.failures import Failure, Reaction, Remedy
from qubix_tui.client.handlers import EventHandlers, Handlers
from qubix_tui.client.link import Link
from qubix_tui.client.subscriptions import Ask, Subscriptions
from qubix_tui.protocol import PING_EVERY_SECONDS, PROTOCOL_VERSION, SILENCE_TIMEOUT_SECONDS, events
from qubix_tui.protocol.codec import decode_event, encode_request
from qubix_tui.protocol.errors import ErrorCode, ProtocolError
from qubix_tui.protocol.events import Connected, ErrorData, Event, Heartbeat
from qubix_tui.protocol.requests import PING, UNSUBSCRIBE
from qubix_tui.protocol.types import RequestId, Wire, from_timestamp

GREETING_TIMEOUT_SECONDS: Final = 10.0
"""How long after its handshake a hub may take to say ``connected``."""

FASTEST_PING_SECONDS: Final = 1.0
"""A hub that asks for more pings than this does not get them."""

DOUBT_SECONDS: Final = 5.0
"""What a silent hub gets to answer one last ping: this process may have been the one that slept."""

RESUBSCRIBE_SECONDS: Final = 1.0
"""When a limited subscription is asked for again, where the hub does not say."""

OpenHook = Callable[[], Awaitable[None]]

_logger = logging.getLogger("qubix_tui.client")


@dataclass(slots=True)
class HubFacts:
    """What is known of the hub, kept from one connection to the next."""

    clock: HubClock = field(default_factory=HubClock)
    greeting: Connected | None = None
    role: str | None = None


@dataclass(slots=True)
class Listeners:
    """Who hears of what a connection receives."""

    events: EventHandlers = field(default_factory=EventHandlers)
    raw: Handlers[bytes] = field(default_factory=Handlers)
    gaps: Handlers[str] = field(default_factory=Handlers)


class Session:
    """Speaks the contract over one `Link`.

    Args:
        link: An open WebSocket that nothing was said on yet.
        dialled_at: `time.monotonic` when its handshake began.
        hub: Where to note what the hub says of itself.
        subscriptions: What to subscribe to, and where to note how far it was heard.
        listeners: Whom to tell.
        hook: Awaited between the greeting and the subscriptions.
        opened: Called once all of that is done.
    """

    def __init__(
        self,
        link: Link,
        *,
        dialled_at: float,
        hub: HubFacts,
        subscriptions: Subscriptions,
        listeners: Listeners,
        hook: OpenHook | None,
        opened: Callable[[], None],
    ) -> None:
        self._link = link
        self._dialled_at = dialled_at
        self._hub = hub
        self._subscriptions = subscriptions
        self._listeners = listeners
        self._hook = hook
        self._opened = opened
        self._calls = Calls()
        self._asked: dict[RequestId, str] = {}
        self._resends: dict[str, asyncio.TimerHandle] = {}
        self._ping: tuple[int, float] | None = None
        self._greeted = asyncio.Event()
        self._heard_at = dialled_at
        self._talk_task: asyncio.Task[None] | None = None
        self._is_open = False

    async def run(self) -> Failure:
        """Converse until the link ends, and give why it did. Nothing is left running."""
        self._talk_task = asyncio.get_running_loop().create_task(self._talk(), name="qubix-talk")
        failure = Failure("the connection was closed")
        try:
            failure = await self._link.read(self._receive)
        except Exception:
            # Ours, not a handler's. Dialling again beats a connection that looks alive and hears nothing.
            _logger.exception("the client failed on a message")
            failure = Failure("this program failed on a message of the hub; its log says where")
        finally:
            self._is_open = False
            self._subscriptions.lost(fresh=failure.fresh)
            self._calls.fail_all(failure.sentence)
            for handle in self._resends.values():
                handle.cancel()
            self._talk_task.cancel()
            try:
                await asyncio.wait({self._talk_task})
            finally:
                await self._link.close()
        return failure

    @property
    def may_send(self) -> bool:
        """Whether the calling task may send: every task once it is open, the hook's own before that."""
        return self._is_open or asyncio.current_task() is self._talk_task

    def send(self, event_type: str, data: Wire | dict[str, Any] | None) -> bool:
        """Put a message into the socket's buffer; False where it can't be."""
        return self.may_send and self._link.write(encode_request(event_type, data))

    async def request(self, event_type: str, data: Wire | dict[str, Any] | None, timeout: float) -> Event:
        """Send a message and wait for its reply (see `Connection.request`)."""
        number = self._calls.number()
        payload = encode_request(event_type, data, request_id=number)
        if not self.may_send or not self._link.write(payload):
            raise ConnectionLost("the connection to the hub is not open, or the hub does not read")
        return await self._calls.wait(number, event_type, timeout)

    def ask(self, channel: str, ask: Ask) -> None:
        """Send a subscription (before it is open it is sent with all others)."""
        if not self._is_open:
            return
        number = self._calls.number()
        self._asked[number] = channel
        self._link.write_or_end(
            encode_request(ask.type, ask.options, subscription_id=ask.subscription_id, request_id=number)
        )

    def unsubscribe(self, channel: str) -> None:
        """Send the end of a subscription."""
        if self._is_open:
            self._link.write_or_end(encode_request(UNSUBSCRIBE, subscription_id=channel))

    async def _talk(self) -> None:
        failure = await self._greet()
        if failure is None:
            failure = await self._run_hook()
        if failure is None:
            self._is_open = True
            for entry in self._subscriptions:
                self._ask_again(entry.channel)
            self._opened()
            failure = await self._keep_alive(self._heartbeat())
        await self._link.close(failure)

    async def _greet(self) -> Failure | None:
        try:
            async with asyncio.timeout(GREETING_TIMEOUT_SECONDS):
                await self._greeted.wait()
        except TimeoutError:
            return Failure("what answers there speaks WebSocket, but does not greet as a QUBIX hub does")
        greeting = self._hub.greeting
        if greeting is not None and greeting.protocol > PROTOCOL_VERSION:
            return Failure(
                f"the hub speaks protocol {greeting.protocol}, newer than this program: update it",
                Reaction.STOP,
                remedy=Remedy.UPDATE,
            )
        return None

    async def _run_hook(self) -> Failure | None:
        if self._hook is None:
            return None
        try:
            await self._hook()
        except Refused as error:
            return Failure(str(error), wait=error.retry_after)
        except ClientError as error:
            return Failure(str(error))
        except Exception:
            _logger.exception("the open hook failed")
            return Failure("this program failed while it greeted the hub; its log says where")
        return None

    def _heartbeat(self) -> Heartbeat:
        """What the hub asked for, within reason."""
        asked = self._hub.greeting.heartbeat if self._hub.greeting is not None else Heartbeat()
        every = min(max(asked.ping_every, FASTEST_PING_SECONDS), PING_EVERY_SECONDS)
        return Heartbeat(
            ping_every=every, timeout=max(min(asked.timeout, SILENCE_TIMEOUT_SECONDS), 2 * every)
        )

    async def _keep_alive(self, heartbeat: Heartbeat) -> Failure:
        """Ping in the hub's rhythm until it has been silent for too long. The first tells the round trip."""
        while True:
            heard_at, now = self._heard_at, time.monotonic()
            number = self._calls.number()
            self._ping = (number, now)
            self._link.write_or_end(encode_request(PING, request_id=number))
            if now - heard_at >= heartbeat.timeout:
                await asyncio.sleep(DOUBT_SECONDS)
                if self._heard_at == heard_at:
                    return Failure(f"the hub has been silent for {now + DOUBT_SECONDS - heard_at:.0f} s")
            await asyncio.sleep(heartbeat.ping_every)

    def _ask_again(self, channel: str) -> None:
        ask = self._subscriptions.again(channel)
        if ask is not None:
            self.ask(channel, ask)

    def _receive(self, raw: bytes) -> None:
        """Take one message: decoded once, repeated events dropped, then handed to everyone."""
        self._heard_at = time.monotonic()
        try:
            event = decode_event(raw)
        except ProtocolError as error:
            _logger.warning("ignored a message that breaks the contract: %s (%s)", error, error.field)
            self._listeners.raw.call(raw)
            return
        if event.channel is None:
            self._take_reply(event)
        elif not self._subscriptions.heard(event):
            return
        self._listeners.raw.call(raw)
        self._listeners.events.call(event)

    def _take_reply(self, event: Event) -> None:
        match event.type:
            case events.CONNECTED:
                self._hub.greeting = event.data
                self._hub.role = event.data.role
                self._hub.clock.reset()
                self._observe(event.data.timestamp, self._dialled_at)
                self._greeted.set()
            case events.PONG:
                if self._ping is not None and self._ping[0] == event.id:
                    self._observe(event.data.timestamp, self._ping[1])
            case events.AUTHENTICATED:
                self._hub.role = event.data.role
            case events.SUBSCRIBED:
                if event.id is not None:
                    self._asked.pop(event.id, None)
                if self._subscriptions.confirm(event.data):
                    self._listeners.gaps.call(event.data.subscription)
            case events.ERROR:
                self._take_error(event.data, event.id)
        self._calls.answer(event)

    def _take_error(self, error: ErrorData, number: RequestId | None) -> None:
        channel = self._asked.pop(number, None) if number is not None else None
        if channel is None:
            return
        if error.code in {ErrorCode.RATE_LIMITED, ErrorCode.UNAVAILABLE}:
            delay = RESUBSCRIBE_SECONDS if error.retry_after is None else error.retry_after
            loop = asyncio.get_running_loop()
            self._resends[channel] = loop.call_later(delay, self._ask_again, channel)
        else:
            _logger.warning("the hub refused the subscription of %s: %s", channel, error.message)

    def _observe(self, timestamp: str, sent: float) -> None:
        try:
            self._hub.clock.observe(from_timestamp(timestamp), sent, self._heard_at)
        except ValueError:
            _logger.warning("ignored a timestamp of the hub that is no time: %r", timestamp)
