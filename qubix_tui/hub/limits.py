"""How much one client, one address and all together may ask of the hub."""

import msgspec

from qubix_tui.hub.clock import Clock
from qubix_tui.protocol.errors import ProtocolError


class Flooding(ProtocolError):
    """``rate_limited`` once too often: answer it, then close with `CloseCode.FLOODING` (4029)."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one hub."""

    messages_per_second: float = 100
    messages_burst: int = 3_000
    bytes_per_second: float = 1024 * 1024
    bytes_burst: int = 4 * 1024 * 1024
    subscribes_per_second: float = 50
    subscribes_burst: int = 2_000
    subscriptions: int = 4_096
    refusals_per_second: float = 1
    refusals_burst: int = 100
    connections: int = 20_000
    handshakes: int = 1_000
    strangers_per_address: int = 100
    failed_logins_per_second: float = 1 / 30
    failed_logins_burst: int = 10


class ConnectionLimiter:
    """What one connection may still ask."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        raise NotImplementedError

    def message(self, size: int) -> None:
        """Count one incoming message of ``size`` bytes, before it is decoded.

        Raises:
            ProtocolError: ``rate_limited`` with ``retry_after``; the message is to be dropped.
            Flooding: Likewise, and the connection is to be closed.
        """
        raise NotImplementedError

    def subscribe(self, held: int) -> None:
        """Count one subscribe request that would add a subscription to the ``held`` that there are.

        Raises:
            ProtocolError: ``rate_limited``: too fast, or too many.
            Flooding: Likewise, and the connection is to be closed.
        """
        raise NotImplementedError


class Admission:
    """How many connections there may be: in all, in their handshake, and of strangers per address."""

    def __init__(self, limits: Limits) -> None:
        raise NotImplementedError

    def arrive(self, address: str) -> "Slot":
        """Take a slot for a connection that was accepted and has yet to shake hands.

        Raises:
            ProtocolError: ``rate_limited``: the hub is full, or has too many handshakes in flight.
        """
        raise NotImplementedError


class Slot:
    """One connection's place; given back by `close`."""

    def opened(self, *, stranger: bool) -> None:
        """The handshake is over.

        Args:
            stranger: The connection's role is ``nobody``: it has yet to authenticate.

        Raises:
            ProtocolError: ``rate_limited``: its address has too many strangers. The slot is still to be closed.
        """
        raise NotImplementedError

    def identified(self) -> None:
        """The connection has authenticated and no longer counts for its address. Idempotent."""
        raise NotImplementedError

    def close(self) -> None:
        """Give the place back. Idempotent."""
        raise NotImplementedError


class LoginLimiter:
    """How often an address may fail to authenticate."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        raise NotImplementedError

    def failed(self, address: str) -> None:
        """Count a failed login. A token that is right is let in whatever was counted.

        Raises:
            ProtocolError: ``rate_limited``, to be answered in place of ``unauthenticated``.
        """
        raise NotImplementedError
