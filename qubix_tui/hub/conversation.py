"""What the hub answers to each type of request.

A handler gets the session and a request that was decoded and authorised. It answers through the session; what
it raises as `ProtocolError` is answered for it. One that has to wait for the store is a coroutine function:
the session handles no further request of its client before it is done.
"""

from collections.abc import Awaitable, Callable, Iterator
from itertools import chain
from typing import Protocol

import msgspec

from qubix_tui.hub import framing, job_requests, presents, snapshots, token_requests
from qubix_tui.hub.access import Identity
from qubix_tui.hub.engine.base import Replay
from qubix_tui.hub.fanout import Subscriber
from qubix_tui.hub.limits import ConnectionLimiter
from qubix_tui.hub.outbox import Slot
from qubix_tui.hub.provider_connection import ProviderConnection, registered_entry
from qubix_tui.hub.services import Services
from qubix_tui.hub.statistics import statistics
from qubix_tui.protocol import channels, events
from qubix_tui.protocol.errors import ErrorCode, ProtocolError
from qubix_tui.protocol.requests import Request, SubscribeOptions
from qubix_tui.protocol.types import to_timestamp

REPLAY_LIMIT = 1_000
"""Events that a replay gives at most; who missed more takes a snapshot."""


class Conversation(ProviderConnection, Protocol):
    """What handlers need of a session."""

    services: Services
    subscriber: Subscriber
    limiter: ConnectionLimiter
    address: str
    opened: bool
    raw: bytes
    """The message that is being handled."""

    def reserve(self) -> Slot:
        """Take a place among the events for frames that come later."""
        ...

    def cut(self) -> None:
        """End the connection at once."""
        ...

    def identified(self, identity: Identity) -> None:
        """The client has shown who it is."""
        ...


Handler = Callable[[Conversation, Request], Awaitable[None] | None]


def ping(session: Conversation, request: Request) -> None:
    """Answer a sign of life with the hub's time."""
    echo = msgspec.UNSET if request.data is None else request.data
    pong = events.Pong(timestamp=to_timestamp(session.services.clock.time()), echo=echo)
    session.reply(events.PONG, pong, request.id)


def subscribe(session: Conversation, request: Request) -> Awaitable[None] | None:
    """Let the client hear a channel; with what it missed, or what is now, first."""
    channel, options = _channel(request), request.data
    held = session.subscriber.channels
    session.limiter.subscribe(len(held) - (channel in held))
    if options.since is not None:
        return _recover(session, request, channel, options)
    if options.snapshot and presents.takes_time(session.services, channel):
        return _show(session, request, channel)
    session.services.fanout.subscribe(session.subscriber, channel)
    slot = session.reserve()
    reply = _subscribed(session, request, channel)
    present = presents.known(session.services, channel) if options.snapshot else ()
    slot.fill(chain([reply], present, _store_words(session.services, channel)))
    _set_digest(session, channel, options)
    return None


async def _show(session: Conversation, request: Request, channel: str) -> None:
    """Subscribe with a present that the store has, or another hub; as `_recover` does."""
    services = session.services
    was_subscribed = channel in session.subscriber.channels
    services.fanout.subscribe(session.subscriber, channel)
    slot = session.reserve()
    reply = _subscribed(session, request, channel)
    frames: Iterator[bytes] = iter(())
    try:
        frames = chain([reply], await presents.asked(services, channel))
    except BaseException:
        if not was_subscribed:
            services.fanout.unsubscribe(session.subscriber, channel)
        raise
    finally:
        slot.fill(frames)


async def _recover(session: Conversation, request: Request, channel: str, options: SubscribeOptions) -> None:
    """Subscribe with a replay.

    In one step the client joins the channel, a place before all live events is reserved, and the offset of
    the last event that it did not get live is noted. The replay fills that place, up to that offset.
    """
    services = session.services
    if options.since is not None and options.since > services.publisher.published(channel):
        # It comes from a hub that was ahead of this one: what it has already must not come again.
        await _replay(services, channel, options, 0)
    was_subscribed = channel in session.subscriber.channels
    services.fanout.subscribe(session.subscriber, channel)
    slot = session.reserve()
    upto = services.publisher.published(channel)
    frames: Iterator[bytes] = iter(())
    try:
        replay = await _replay(services, channel, options, upto)
        reply = _subscribed(session, request, channel, offset=upto, recovered=replay.complete)
        rest: Iterator[bytes] = iter(())
        missed = (
            framing.event_frame(event.type, event.data, channel, event.offset)
            for event in replay.events
            if event.offset <= upto
        )
        if replay.complete:
            rest = missed
        elif options.snapshot and presents.takes_time(services, channel):
            rest = await presents.asked(services, channel)
        elif options.snapshot:
            rest = presents.known(services, channel)
        frames = chain([reply], rest, _store_words(services, channel))
    except BaseException:
        if not was_subscribed:
            services.fanout.unsubscribe(session.subscriber, channel)
        frames = _store_words(services, channel)
        raise
    finally:
        slot.fill(frames)
    _set_digest(session, channel, options)


async def _replay(services: Services, channel: str, options: SubscribeOptions, upto: int) -> Replay:
    """Give what a client missed up to an offset. Who missed nothing is answered without the store."""
    assert options.since is not None
    if options.since and options.epoch != services.engine.epoch:
        return Replay(events=[], complete=False)
    if options.since and options.since == upto:
        return Replay(events=[], complete=True)
    return await services.engine.replay(channel, options.since, limit=REPLAY_LIMIT)


def _subscribed(
    session: Conversation,
    request: Request,
    channel: str,
    *,
    offset: int | None = None,
    recovered: bool = False,
) -> bytes:
    if offset is None and not channels.is_wildcard(channel):
        offset = session.services.publisher.published(channel)
    data = events.Subscribed(
        subscription=channel, epoch=session.services.engine.epoch, offset=offset, recovered=recovered
    )
    session.services.telemetry.sent(events.SUBSCRIBED)
    return framing.reply_frame(events.SUBSCRIBED, data, request.id)


def _store_words(services: Services, channel: str) -> Iterator[bytes]:
    """Give what a subscriber is told of the store."""
    return services.store_watch.frames() if channel == channels.MARKETPLACE else iter(())


def _set_digest(session: Conversation, channel: str, options: SubscribeOptions) -> None:
    """Begin, change or end the client's digest: the newest options win."""
    if channel != channels.MARKETPLACE:
        return
    if options.digest is None:
        session.services.digests.leave(session.subscriber.outbox)
    else:
        session.services.digests.join(session.subscriber.outbox, options.digest)


def unsubscribe(session: Conversation, request: Request) -> None:
    """Let the client hear a channel no longer."""
    channel = _channel(request)
    session.services.fanout.unsubscribe(session.subscriber, channel)
    if channel == channels.MARKETPLACE:
        session.services.digests.leave(session.subscriber.outbox)
    session.reply(events.UNSUBSCRIBED, events.Unsubscribed(subscription=channel), request.id)


def auth(session: Conversation, request: Request) -> Awaitable[None] | None:
    """Give the connection the role of the token that it shows."""
    if session.entry is not None:
        raise ProtocolError(
            ErrorCode.CONFLICT,
            f"this connection is {session.entry.id}'s by now; auth comes before provider:register",
        )
    if session.services.is_news(request.data.token):
        return _auth_with_news(session, request)
    _authenticate(session, request)
    return None


async def _auth_with_news(session: Conversation, request: Request) -> None:
    await session.services.catch_up()
    _authenticate(session, request)


def _authenticate(session: Conversation, request: Request) -> None:
    services = session.services
    try:
        identity = services.access.authenticate(request.data.token)
    except ProtocolError as error:
        services.refuse_login(session.address, error)
        raise
    session.identified(identity)
    data = events.Authenticated(role=identity.role.value, subject=identity.subject)
    session.reply(events.AUTHENTICATED, data, request.id)


async def register(session: Conversation, request: Request) -> None:
    """Make the connection that of a provider."""
    services, before = session.services, session.identity
    registered = await services.providers.register(session, request.data)
    registered = job_requests.reconcile(session, registered, request.data.jobs)
    if session.identity != before:
        services.credentials.provider_bound(token_requests.actor(session), registered.provider_id)
    session.reply(events.REGISTERED, registered, request.id)
    job_requests.registered(session, request.data.jobs)


async def set_status(session: Conversation, request: Request) -> None:
    """Pause, drain or resume the connection's provider."""
    await session.services.providers.set_status(registered_entry(session, request.type), request.data)
    session.reply(events.OK, events.Ok(), request.id)


async def remove(session: Conversation, request: Request) -> None:
    """Forget a provider that is gone."""
    services, provider_id = session.services, request.data.provider_id
    audit = services.credentials.audit
    note = audit.changes("provider_removed", token_requests.actor(session), provider_id)
    await services.providers.remove(provider_id, note)
    audit.follow(note)
    session.reply(events.OK, events.Ok(), request.id)


def history(session: Conversation, request: Request) -> Awaitable[None] | None:
    """Give a provider's last minutes."""
    providers = session.services.providers
    provider_id = request.data.provider_id
    if providers.registry.get(provider_id) is None:
        raise ProtocolError(
            ErrorCode.NOT_FOUND, f"there is no provider {provider_id}", field="data.providerId"
        )
    if providers.peers.holder(provider_id) is not None:
        return _history_elsewhere(session, request)
    points = providers.history.points(provider_id, request.data.seconds)
    session.reserve().fill(snapshots.history(provider_id, points, request.id))
    return None


async def _history_elsewhere(session: Conversation, request: Request) -> None:
    providers, provider_id = session.services.providers, request.data.provider_id
    past = await providers.peers.past(provider_id)
    points = providers.history.recent(past.points, request.data.seconds)
    session.reserve().fill(snapshots.history(provider_id, points, request.id))


def hub_stats(session: Conversation, request: Request) -> None:
    """Tell what the hub itself does."""
    session.reply(events.HUB_STATISTICS, statistics(session.services), request.id)


def publish_metrics(session: Conversation, request: Request) -> None:
    """Take a sample of the connection's provider."""
    session.services.providers.samples.take(
        registered_entry(session, request.type), request.data, session.raw
    )


HANDLERS: dict[str, Handler] = {
    "subscribe:marketplace": subscribe,
    "subscribe:provider": subscribe,
    "subscribe:job": subscribe,
    "unsubscribe": unsubscribe,
    "ping": ping,
    "auth": auth,
    "provider:register": register,
    "provider:status": set_status,
    "provider:remove": remove,
    "provider:history": history,
    "GPU_METRICS_UPDATE": publish_metrics,
    "JOB_PROGRESS": job_requests.report,
    "JOB_LOGS": job_requests.report,
    "JOB_COMPLETED": job_requests.report,
    "job:accept": job_requests.accept,
    "job:refuse": job_requests.refuse,
    "job:renew": job_requests.renew,
    "job:submit": job_requests.submit,
    "job:cancel": job_requests.cancel,
    "job:why": job_requests.why,
    "token:issue": token_requests.issue_token,
    "token:list": token_requests.list_tokens,
    "token:revoke": token_requests.revoke_token,
    "audit:list": token_requests.list_audit,
    "enroll:new": token_requests.new_code,
    "enroll": token_requests.enroll,
    "hub:stats": hub_stats,
}
"""The handler of every type that a hub understands."""


def _channel(request: Request) -> str:
    assert request.channel is not None
    return request.channel
