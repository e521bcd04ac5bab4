"""What the rules about providers need of a connection."""

from typing import Protocol

from qubix_tui.hub.access import Identity
from qubix_tui.hub.provider_state import Entry
from qubix_tui.protocol.errors import ErrorCode, ProtocolError
from qubix_tui.protocol.types import RequestId, Wire


class ProviderConnection(Protocol):
    """The connection that a provider publishes over."""

    identity: Identity
    entry: Entry | None
    """The provider that it registered."""

    @property
    def is_open(self) -> bool:
        """Whether it can still be written to."""
        ...

    def reply(self, kind: str, data: Wire, request_id: RequestId | None) -> None:
        """Tell its agent something; in answer to a request where that has an id."""
        ...

    def end(self, code: int, reason: str) -> None:
        """Close it."""
        ...


def registered_entry(connection: ProviderConnection, kind: str) -> Entry:
    """Give the provider that a connection publishes for: no message ever names it.

    Args:
        connection: Which.
        kind: Type of the message that has come over it.

    Raises:
        ProtocolError: ``conflict``: it has registered none, or a newer connection has that provider now.
    """
    if connection.entry is None:
        raise ProtocolError(ErrorCode.CONFLICT, f"{kind} comes after provider:register")
    return connection.entry
