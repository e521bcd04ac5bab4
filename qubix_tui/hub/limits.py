"""How much one client, one address and all together may ask of the hub.

Every default is far above what the hub's own clients do, and far below what hurts it:

- An agent at 10 Hz sends about 11 messages a second; a sample of 16 busy GPUs has 11 KB, or 30 KB with all
  the processes it may list. Back after an outage it sends ten minutes of samples (600 at 1 Hz) at once. Hence
  100 messages a second and 1 MiB a second, with a burst of 4 MiB.
- A console with a digest sends a ping every 30 s and one subscribe per provider that is looked at. Who wants
  more than 4,096 subscriptions on one connection wants ``provider:*``.
- A client back after a restart of the hub resubscribes everything in one go: so the burst of subscribes is as
  many as it may hold, and that of messages a little more. Each may cost a replay or a snapshot, hence only 50
  more a second.
- Who is refused is asked to wait a second at least, else refusals would come one by one at the limit's own
  rate. A client that waits may have sent some 30 messages more before it heard (an agent's outbox does).
  Hence 50 refusals a second, with a burst of 500, are answered; past that a client does not listen.
- 10,000 agents may share one address and come back to a restarted hub at once, with up to 5 s of jitter. So
  no connection that showed a good token, or needs none (loopback), counts for its address. 100 strangers
  per address leave room for a lab of browsers that have yet to send ``auth``; 1,000 handshakes in flight is
  half a second of that return.
- Ten failed logins at once and then one every 30 s. Tokens hold 256 random bits: this limit saves work and
  logs, it is not what keeps a guess out.
"""

import math
from typing import Final

import msgspec

from qubix_tui.hub.addresses import network_of
from qubix_tui.hub.clock import Clock
from qubix_tui.protocol.errors import ErrorCode, ProtocolError

_REMEMBERED_ADDRESSES: Final = 10_000
_LEAST_WAIT_SECONDS: Final = 1.0


class Flooding(ProtocolError):
    """``rate_limited`` once too often: answer it, then close with `CloseCode.FLOODING` (4029)."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one hub. A burst is what may come at once after a silence."""

    messages_per_second: float = 100
    messages_burst: int = 5_000
    bytes_per_second: float = 1024 * 1024
    bytes_burst: int = 4 * 1024 * 1024
    subscribes_per_second: float = 50
    subscribes_burst: int = 4_096
    subscriptions: int = 4_096
    """Held by one connection at once."""
    refusals_per_second: float = 50
    refusals_burst: int = 500
    """How often one connection may be refused before it is closed."""
    connections: int = 20_000
    """In all, handshakes included."""
    handshakes: int = 1_000
    """Connections that have yet to finish their handshake."""
    strangers_per_address: int = 100
    """Connections without a role, per IPv4 address or IPv6 /64."""
    failed_logins_per_second: float = 1 / 30
    failed_logins_burst: int = 10
    """Per IPv4 address or IPv6 /64."""


class TokenBucket:
    """A token bucket kept as one number: when it will be full again (the generic cell rate algorithm).

    Args:
        rate: Tokens that come back per second.
        burst: Tokens that it holds; it starts full.
    """

    __slots__ = ("_fill_seconds", "_full_at", "_seconds_each")

    def __init__(self, rate: float, burst: float) -> None:
        self._seconds_each = 1 / rate
        self._fill_seconds = burst / rate
        self._full_at = float("-inf")

    def take(self, now: float, amount: float = 1) -> float:
        """Take tokens, if there are enough.

        Args:
            now: Monotonic seconds.
            amount: How many; never more than ``burst``, or they will never be had.

        Returns:
            0 when they were taken, else the seconds until there will be enough (nothing was taken).
        """
        full_at = self._full_at
        if full_at < now:
            full_at = now
        full_at += amount * self._seconds_each
        wait = full_at - now - self._fill_seconds
        # Less than a nanosecond is rounding, which would else cost the last token of a burst.
        if wait > 1e-9:
            return wait
        self._full_at = full_at
        return 0.0


class ConnectionLimiter:
    """What one connection may still ask."""

    __slots__ = ("_bytes", "_clock", "_max_subscriptions", "_messages", "_refusals", "_subscribes")

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._clock = clock
        self._messages = TokenBucket(limits.messages_per_second, limits.messages_burst)
        self._bytes = TokenBucket(limits.bytes_per_second, limits.bytes_burst)
        self._subscribes = TokenBucket(limits.subscribes_per_second, limits.subscribes_burst)
        self._refusals = TokenBucket(limits.refusals_per_second, limits.refusals_burst)
        self._max_subscriptions = limits.subscriptions

    def message(self, size: int) -> None:
        """Count one incoming message of ``size`` bytes, before it is decoded.

        Raises:
            ProtocolError: ``rate_limited`` with ``retry_after``; the message is to be dropped.
            Flooding: Likewise, and the connection is to be closed.
        """
        now = self._clock.monotonic()
        wait = self._messages.take(now)
        if wait:
            raise self._refusal(now, "too many messages", wait)
        wait = self._bytes.take(now, size)
        if wait:
            raise self._refusal(now, "too many bytes", wait)

    def subscribe(self, held: int) -> None:
        """Count one subscribe request.

        Args:
            held: Subscriptions that the connection has beside the one asked for.

        Raises:
            ProtocolError: ``rate_limited``: too fast (with ``retry_after``), or too many.
            Flooding: Likewise, and the connection is to be closed.
        """
        now = self._clock.monotonic()
        wait = self._subscribes.take(now)
        if wait:
            raise self._refusal(now, "too many subscribe requests", wait)
        if held >= self._max_subscriptions:
            raise self._refusal(
                now,
                f"a connection has at most {self._max_subscriptions} subscriptions; unsubscribe some, "
                "or subscribe to * for all of a kind",
                None,
            )

    def _refusal(self, now: float, what: str, wait: float | None) -> ProtocolError:
        if wait is not None:
            wait = max(wait, _LEAST_WAIT_SECONDS)
        if self._refusals.take(now):
            return Flooding(
                ErrorCode.RATE_LIMITED,
                f"{what}, in spite of many refusals; closing",
                retry_after=_milliseconds(wait),
            )
        return _rate_limited(what, wait)


class _Counts:
    """What all slots of one `Admission` share."""

    def __init__(self) -> None:
        self.connections = 0
        self.handshakes = 0
        self.strangers: dict[str, int] = {}


class Slot:
    """One connection's place, taken by `Admission.arrive`, given back by `close`."""

    __slots__ = ("_closed", "_counts", "_limits", "_network", "_shaking", "_stranger")

    def __init__(self, counts: _Counts, limits: Limits, network: str) -> None:
        self._counts = counts
        self._limits = limits
        self._network = network
        self._shaking = True
        self._stranger = False
        self._closed = False
        counts.connections += 1
        counts.handshakes += 1

    def came_from(self, address: str) -> None:
        """The client is behind a proxy that is trusted: it counts for its own address."""
        self._network = network_of(address)

    def opened(self, *, stranger: bool) -> None:
        """The handshake is over.

        Args:
            stranger: The connection's role is ``nobody``: it has yet to authenticate.

        Raises:
            ProtocolError: ``rate_limited``: its address has too many strangers. Still `close` the slot.
        """
        self._end_handshake()
        if not stranger or self._stranger:
            return
        count = self._counts.strangers.get(self._network, 0)
        if count >= self._limits.strangers_per_address:
            raise _rate_limited(f"{count} connections from {self._network} have yet to authenticate", 10)
        self._counts.strangers[self._network] = count + 1
        self._stranger = True

    def identified(self) -> None:
        """The connection has authenticated and no longer counts for its address. Idempotent."""
        if not self._stranger:
            return
        self._stranger = False
        strangers = self._counts.strangers
        strangers[self._network] -= 1
        if not strangers[self._network]:
            del strangers[self._network]

    def close(self) -> None:
        """Give the place back. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._end_handshake()
        self.identified()
        self._counts.connections -= 1

    def _end_handshake(self) -> None:
        if self._shaking:
            self._shaking = False
            self._counts.handshakes -= 1


class Admission:
    """How many connections there may be: in all, in their handshake, and of strangers per address."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._counts = _Counts()

    @property
    def connections(self) -> int:
        """Places taken."""
        return self._counts.connections

    def arrive(self, address: str) -> Slot:
        """Take a slot for a connection that was accepted and has yet to shake hands.

        Raises:
            ProtocolError: ``rate_limited``: the hub is full, or has too many handshakes in flight.
        """
        if self._counts.connections >= self._limits.connections:
            raise _rate_limited(f"the hub is full: it has {self._counts.connections} connections", 60)
        if self._counts.handshakes >= self._limits.handshakes:
            raise _rate_limited("too many connections are being opened at this moment", 1)
        return Slot(self._counts, self._limits, network_of(address))


class LoginLimiter:
    """How often an address may fail to authenticate.

    Only failures count, and a good token is let in whatever was counted: one agent with a revoked token must
    not lock out the others behind the same address.
    """

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        # In order of last failure, so that the oldest is forgotten first.
        self._buckets: dict[str, TokenBucket] = {}

    def failed(self, address: str) -> None:
        """Count a failed login.

        Raises:
            ProtocolError: ``rate_limited``, to be answered in place of ``unauthenticated``.
        """
        network = network_of(address)
        bucket = self._buckets.pop(network, None)
        if bucket is None:
            bucket = TokenBucket(self._limits.failed_logins_per_second, self._limits.failed_logins_burst)
        self._buckets[network] = bucket
        if len(self._buckets) > _REMEMBERED_ADDRESSES:
            del self._buckets[next(iter(self._buckets))]
        wait = bucket.take(self._clock.monotonic())
        if wait:
            raise _rate_limited(f"too many failed logins from {network}", wait)


def _rate_limited(what: str, wait: float | None) -> ProtocolError:
    return ProtocolError(ErrorCode.RATE_LIMITED, what, retry_after=_milliseconds(wait))


def _milliseconds(wait: float | None) -> float | None:
    """Round seconds up to what a client can be asked to wait."""
    return None if wait is None else math.ceil(wait * 1000) / 1000
