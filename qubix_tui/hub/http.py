"""What the hub answers to GET and HEAD on its port. Changes are made over the WebSocket only."""

import math
from collections.abc import Awaitable, Mapping, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Final, Protocol
from urllib.parse import parse_qsl, unquote

import msgspec
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from qubix_tui.hub import page
from qubix_tui.hub.access import Access, Identity
from qubix_tui.hub.exposition import Exposition, Picture
from qubix_tui.protocol import channels, codec
from qubix_tui.protocol.events import MetricsUpdate
from qubix_tui.protocol.records import Provider
from qubix_tui.protocol.tokens import Role

JSON_TYPE: Final = "application/json"
HTML_TYPE: Final = "text/html; charset=utf-8"

DEFAULT_PER_PAGE: Final = 100
MAX_PER_PAGE: Final = 500
"""So many records are 350 to 700 KiB; a reply that is not read within seconds is cut."""

_MAX_PAGE: Final = 1_000_000

_METHODS: Final = ("GET", "HEAD")
_READERS: Final = frozenset({Role.VIEWER, Role.OPERATOR})
_MAX_QUERY_FIELDS: Final = 20


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

    def picture(self) -> Picture:
        """What Prometheus is to see."""
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


class _RefusedRequest(Exception):
    """A request that can't be answered as asked.

    Args:
        status: The HTTP status to answer with.
        message: A sentence for a person.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class HttpRoutes:
    """Answers requests by calling `respond`; knows no socket.

    Args:
        view: The hub whose state is shown.
        access: Its rules for ``Host`` and ``Origin``.
    """

    def __init__(self, view: HubView, access: Access) -> None:
        self._view = view
        self._access = access
        self._exposition = Exposition(view.picture)

    def respond(self, request: Request, identity: Identity) -> Response | Awaitable[Response]:
        """Answer any request that is not a WebSocket handshake.

        The library hands on every method and any path, and judges neither ``Host`` nor ``Origin``: all of
        that happens here.

        Returns:
            The answer; awaited where it takes time to write (``/metrics``).
        """
        try:
            answer = self._answer(request, identity)
        except _RefusedRequest as refused:
            answer = error_response(request, refused.status, refused.message)
        if isinstance(answer, Response):
            return self._for_origin(request, answer)
        return self._when_written(request, answer)

    async def _when_written(self, request: Request, answer: Awaitable[Response]) -> Response:
        return self._for_origin(request, await answer)

    def _for_origin(self, request: Request, response: Response) -> Response:
        response.headers["Vary"] = "Origin"
        origins = request.headers.get_all("Origin")
        if origins and self._access.check_origin(origins) is None:
            response.headers["Access-Control-Allow-Origin"] = origins[0]
        return response

    def _answer(self, request: Request, identity: Identity) -> Response | Awaitable[Response]:
        if request.method not in _METHODS:
            raise _RefusedRequest(
                405,
                f"{request.method[:20]} is not answered, GET and HEAD are; changes go over the WebSocket",
            )
        refusal = self._access.check_host(request.headers.get_all("Host"))
        refusal = refusal or self._access.check_origin(request.headers.get_all("Origin"))
        if refusal is not None:
            raise _RefusedRequest(refusal.status, refusal.message)
        segments, query = _split_target(request.path)
        match segments:
            case ["healthz"]:
                return _json_response(request, {"status": "ok"})
            case ["readyz"]:
                if self._view.ready:
                    return _json_response(request, {"status": "ready"})
                return _json_response(request, {"status": "not ready"}, status=503)
        if identity.role is Role.NOBODY:
            raise _RefusedRequest(401, "this needs the role viewer; send a token as Authorization: Bearer")
        if identity.role not in _READERS:
            raise _RefusedRequest(403, f"this needs the role viewer; yours is {identity.role.value}")
        return self._read(request, segments, query)

    def _read(
        self, request: Request, segments: list[str], query: Mapping[str, str]
    ) -> Response | Awaitable[Response]:
        match segments:
            case [""]:
                return _response(
                    request,
                    page.HTML.encode(),
                    HTML_TYPE,
                    headers={"Content-Security-Policy": page.CONTENT_SECURITY_POLICY},
                )
            case ["metrics"]:
                return self._metrics(request)
            case ["api", "websocket", "stats"]:
                return self._stats(request)
            case ["api", "providers"]:
                return _page_response(request, "providers", self._view.providers(), query)
            case ["api", "providers", provider_id]:
                return self._provider(request, _checked_id(provider_id))
            case ["api", "jobs"]:
                return _page_response(request, "jobs", [], query)
            case ["api", "jobs", job_id] | ["api", "jobs", job_id, "logs"]:
                raise _RefusedRequest(404, f"there is no job {_checked_id(job_id)}")
        raise _RefusedRequest(404, "there is nothing at this path; / says what there is")

    async def _metrics(self, request: Request) -> Response:
        answer = await self._exposition.render(
            ", ".join(request.headers.get_all("Accept")),
            ", ".join(request.headers.get_all("Accept-Encoding")),
        )
        headers = {"Content-Encoding": "gzip"} if answer.compressed else {}
        return _response(request, answer.body, answer.content_type, headers=headers)

    def _stats(self, request: Request) -> Response:
        stats = self._view.stats()
        details = [
            {"subscriptionId": channel, "subscriberCount": count} for channel, count in stats.subscriptions
        ]
        shown = {
            "totalClients": stats.clients,
            "totalSubscriptions": len(details),
            "subscriptionDetails": details,
        }
        return _json_response(request, {"success": True, "stats": shown})

    def _provider(self, request: Request, provider_id: str) -> Response:
        provider = self._view.provider(provider_id)
        if provider is None:
            raise _RefusedRequest(404, f"there is no provider {provider_id}")
        last = self._view.last_metrics(provider_id)
        body = {
            "success": True,
            "provider": provider,
            "metrics": last.metrics if last else None,
            "metricsTimestamp": last.timestamp if last else None,
        }
        return _json_response(request, body)


def error_response(
    request: Request, status: int, message: str, *, retry_after: float | None = None
) -> Response:
    """Refuse a request, or a WebSocket handshake: ``{"success": false, "error": message}``.

    Args:
        request: What is refused (a HEAD gets no body).
        status: 4xx or 5xx.
        message: One sentence for a person.
        retry_after: Seconds after which trying again may help.
    """
    headers = {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_METHODS)
    if retry_after is not None:
        headers["Retry-After"] = str(math.ceil(retry_after))
    return _json_response(request, {"success": False, "error": message}, status=status, headers=headers)


def _json_response(
    request: Request,
    body: Mapping[str, object],
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    return _response(request, codec.encode_record(body), JSON_TYPE, status=status, headers=headers)


def _response(
    request: Request,
    body: bytes,
    content_type: str,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    fields = Headers(
        {
            "Date": formatdate(usegmt=True),
            "Connection": "close",
            "Content-Type": content_type,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            **(headers or {}),
        }
    )
    return Response(status, HTTPStatus(status).phrase, fields, b"" if request.method == "HEAD" else body)


def _page_response(
    request: Request, name: str, records: Sequence[object], query: Mapping[str, str]
) -> Response:
    """Answer with one page of a list: ``{"success", <name>: [...], "page", "pages", "total"}``."""
    per_page = _whole_number(query, "perPage", default=DEFAULT_PER_PAGE, most=MAX_PER_PAGE)
    # A page after the last is empty, no error: the list may have shrunk under a reader's hands.
    number = _whole_number(query, "page", default=1, most=_MAX_PAGE)
    start = (number - 1) * per_page
    body = {
        "success": True,
        name: records[start : start + per_page],
        "page": number,
        "pages": max(1, math.ceil(len(records) / per_page)),
        "total": len(records),
    }
    return _json_response(request, body)


def _split_target(target: str) -> tuple[list[str], dict[str, str]]:
    """Split a request's target into the decoded segments of its path and its query."""
    path, _, query = target.partition("?")
    try:
        # Decoded after splitting: an encoded slash stays within its segment.
        segments = [unquote(segment, errors="strict") for segment in path.removeprefix("/").split("/")]
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=_MAX_QUERY_FIELDS)
    except ValueError:
        raise _RefusedRequest(
            400,
            f"the path and query are to be percent-encoded UTF-8, with at most {_MAX_QUERY_FIELDS} fields",
        ) from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _RefusedRequest(400, "the query names a field twice")
    return segments, fields


def _whole_number(query: Mapping[str, str], name: str, *, default: int, most: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    # Longer ones are out of range anyway, and int() refuses thousands of digits in its own way.
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and 1 <= int(text) <= most):
        raise _RefusedRequest(400, f"{name}: expected a whole number from 1 to {most}")
    return int(text)


def _checked_id(text: str) -> str:
    if not channels.is_id(text):
        raise _RefusedRequest(400, "expected an id: 1 to 64 of A-Z a-z 0-9 . _ -")
    return text
