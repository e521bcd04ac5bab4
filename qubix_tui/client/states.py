"""Where a connection is between being made and being closed."""

from enum import StrEnum


class ConnectionState(StrEnum):
    """The states of a `Connection`.

    ``DISCONNECTED`` → ``CONNECTING`` → ``OPEN`` ⇄ ``RECONNECTING``; from anywhere ``CLOSING`` → ``CLOSED``.
    A connection that gave up (its attempts are spent, or its token was refused) is ``DISCONNECTED`` again.
    """

    DISCONNECTED = "DISCONNECTED"
    """Not started yet, or given up."""
    CONNECTING = "CONNECTING"
    """The first attempt is under way."""
    OPEN = "OPEN"
    """Greeted by the hub, the open hook is done, subscriptions are sent."""
    RECONNECTING = "RECONNECTING"
    """Waiting for the next attempt, or making it."""
    CLOSING = "CLOSING"
    CLOSED = "CLOSED"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self in {ConnectionState.DISCONNECTED, ConnectionState.CLOSED}
