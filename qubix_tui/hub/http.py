"""What the hub answers to GET and HEAD on its port."""

from collections.abc import Sequence
from typing import Protocol

import msgspec
from websockets.http11 import Request, Response

from qubix_tui.hub.access import Access, Identity
from qubix_tui.hub.telemetry import Telemetry
from qubix_tui.protocol.events import MetricsUpdate
from qubix_tui.protocol.records import Provider


class HubStats(msgspec.Struct, frozen=True):
    """Who is connected, and who hears what.

    Attributes:
        clients: Open connections.
        subscriptions: Each channel key with its number of subscribers (at least 1).
    """

    clients: int
    subscriptions: Sequence[tuple[str, int]]


class HubView(Protocol):
    """What the routes show of a hub."""

    @property
    def ready(self) -> bool:
        """Whether it serves: not while starting, draining, or without its store."""
        ...

    @property
    def telemetry(self) -> Telemetry:
        """Its counters."""
        ...

    def stats(self) -> HubStats:
        """Who is connected, and who hears what."""
        ...

    def providers(self) -> Sequence[Provider]:
        """All providers, in an order that stays from one call to the next."""
        ...

    def provider(self, provider_id: str) -> Provider | None:
        """One provider's record."""
        ...

    def last_metrics(self, provider_id: str) -> MetricsUpdate | None:
        """One provider's newest sample and when it was received."""
        ...


class HttpRoutes:
    """Answers requests by calling `respond`; knows no socket."""

    def __init__(self, view: HubView, access: Access) -> None:
        raise NotImplementedError

    def respond(self, request: Request, identity: Identity) -> Response:
        """Answer any request that is not a WebSocket handshake (``Host`` and ``Origin`` are judged here too)."""
        raise NotImplementedError


def error_response(
    request: Request, status: int, message: str, *, retry_after: float | None = None
) -> Response:
    """Refuse a request, or a handshake: ``{"success": false, "error": message}``."""
    raise NotImplementedError
