"""What the hub answers to GET and HEAD on its port. Changes are made over the WebSocket only."""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec
from websockets.http11 import Request, Response

from qubix_tui.hub import page
from qubix_tui.hub.access import Access, Identity
from qubix_tui.hub.engine.base import EngineUnavailable
from qubix_tui.hub.exposition import Exposition, Picture
from qubix_tui.hub.http_answers import (
    HTML_TYPE,
    METHODS,
    Page,
    RefusedRequest,
    checked_id,
    error_response,
    json_response,
    split_target,
    whole_number,
    write_response,
)
from qubix_tui.protocol.answers import HubNode
from qubix_tui.protocol.events import MetricsUpdate
from qubix_tui.protocol.job_records import Job, JobState, LogPiece, Receipt
from qubix_tui.protocol.records import Provider
from qubix_tui.protocol.tokens import Role
from qubix_tui.protocol.types import MAX_SAFE_INTEGER

_STREAMS: Final = ("stdout", "stderr")
_READERS: Final = frozenset({Role.VIEWER, Role.OPERATOR})
_STORE_SECONDS: Final = 5.0


class HubStats(msgspec.Struct, frozen=True):
    """Who is connected, and who hears what.

    Attributes:
        clients: Open connections.
        subscriptions: Each channel key with its number of subscribers (at least 1).
        nodes: The hubs that share its store; none where it has one of its own.
    """

    clients: int
    subscriptions: Sequence[tuple[str, int]]
    nodes: Sequence[HubNode] = ()


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

    async def last_metrics(self, provider_id: str) -> MetricsUpdate | None:
        """One provider's newest sample and when it was received."""
        ...

    async def benchmark(self, provider_id: str) -> Job | None:
        """The last benchmark that a provider completed."""
        ...

    def job_ids(self, state: JobState | None) -> Sequence[str]:
        """The ids of all jobs, or of those in one state, the newest first."""
        ...

    async def jobs(self, job_ids: Sequence[str]) -> Sequence[Job]:
        """The records of some jobs, without those that are gone."""
        ...

    async def receipts(self, job_id: str) -> Sequence[Receipt]:
        """What one job's attempts came to, the first one first."""
        ...

    async def log(self, job_id: str) -> Sequence[LogPiece]:
        """What is kept of one job's log, the oldest piece first."""
        ...


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
        except RefusedRequest as refused:
            answer = error_response(request, refused.status, refused.message)
        if isinstance(answer, Response):
            return self._for_origin(request, answer)
        return self._when_written(request, answer)

    async def _when_written(self, request: Request, answer: Awaitable[Response]) -> Response:
        try:
            written = await answer
        except RefusedRequest as refused:
            written = error_response(request, refused.status, refused.message)
        except EngineUnavailable as error:
            written = error_response(request, 503, str(error), retry_after=_STORE_SECONDS)
        return self._for_origin(request, written)

    def _for_origin(self, request: Request, response: Response) -> Response:
        response.headers["Vary"] = "Origin"
        origins = request.headers.get_all("Origin")
        if origins and self._access.check_origin(origins) is None:
            response.headers["Access-Control-Allow-Origin"] = origins[0]
        return response

    def _answer(self, request: Request, identity: Identity) -> Response | Awaitable[Response]:
        if request.method not in METHODS:
            raise RefusedRequest(
                405,
                f"{request.method[:20]} is not answered, GET and HEAD are; changes go over the WebSocket",
            )
        refusal = self._access.check_host(request.headers.get_all("Host"))
        refusal = refusal or self._access.check_origin(request.headers.get_all("Origin"))
        if refusal is not None:
            raise RefusedRequest(refusal.status, refusal.message)
        segments, query = split_target(request.path)
        match segments:
            case ["healthz"]:
                return json_response(request, {"status": "ok"})
            case ["readyz"]:
                if self._view.ready:
                    return json_response(request, {"status": "ready"})
                return json_response(request, {"status": "not ready"}, status=503)
        if identity.role is Role.NOBODY:
            raise RefusedRequest(401, "this needs the role viewer; send a token as Authorization: Bearer")
        if identity.role not in _READERS:
            raise RefusedRequest(403, f"this needs the role viewer; yours is {identity.role.value}")
        return self._read(request, segments, query)

    def _read(
        self, request: Request, segments: list[str], query: Mapping[str, str]
    ) -> Response | Awaitable[Response]:
        match segments:
            case [""]:
                return write_response(
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
                providers = self._view.providers()
                shown = Page(query, len(providers))
                return shown.response(request, "providers", shown.of(providers))
            case ["api", "providers", provider_id]:
                return self._provider(request, checked_id(provider_id))
            case ["api", "jobs"]:
                return self._jobs(request, query)
            case ["api", "jobs", job_id]:
                return self._job(request, checked_id(job_id))
            case ["api", "jobs", job_id, "logs"]:
                return self._log(request, checked_id(job_id), query)
        raise RefusedRequest(404, "there is nothing at this path; / says what there is")

    async def _metrics(self, request: Request) -> Response:
        answer = await self._exposition.render(
            ", ".join(request.headers.get_all("Accept")),
            ", ".join(request.headers.get_all("Accept-Encoding")),
        )
        headers = {"Content-Encoding": "gzip"} if answer.compressed else {}
        return write_response(request, answer.body, answer.content_type, headers=headers)

    def _stats(self, request: Request) -> Response:
        stats = self._view.stats()
        details = [
            {"subscriptionId": channel, "subscriberCount": count} for channel, count in stats.subscriptions
        ]
        shown: dict[str, Any] = {
            "totalClients": stats.clients,
            "totalSubscriptions": len(details),
            "subscriptionDetails": details,
        }
        if stats.nodes:
            shown["nodes"] = stats.nodes
        return json_response(request, {"success": True, "stats": shown})

    async def _provider(self, request: Request, provider_id: str) -> Response:
        provider = self._view.provider(provider_id)
        if provider is None:
            raise RefusedRequest(404, f"there is no provider {provider_id}")
        last = await self._view.last_metrics(provider_id)
        body = {
            "success": True,
            "provider": provider,
            "metrics": last.metrics if last else None,
            "metricsTimestamp": last.timestamp if last else None,
            "benchmark": await self._view.benchmark(provider_id),
        }
        return json_response(request, body)

    async def _jobs(self, request: Request, query: Mapping[str, str]) -> Response:
        wanted = query.get("state")
        states = [state.value for state in JobState]
        if wanted is not None and wanted not in states:
            raise RefusedRequest(400, f"state: expected one of {', '.join(states)}")
        job_ids = self._view.job_ids(None if wanted is None else JobState(wanted))
        page = Page(query, len(job_ids))
        return page.response(request, "jobs", await self._view.jobs(page.of(job_ids)))

    async def _job(self, request: Request, job_id: str) -> Response:
        jobs = await self._view.jobs([job_id])
        if not jobs:
            raise RefusedRequest(404, f"there is no job {job_id}")
        receipts = await self._view.receipts(job_id)
        return json_response(request, {"success": True, "job": jobs[0], "receipts": receipts})

    async def _log(self, request: Request, job_id: str, query: Mapping[str, str]) -> Response:
        """Give what is kept of a log; ``from`` leaves out the pieces that end before that offset."""
        if not await self._view.jobs([job_id]):
            raise RefusedRequest(404, f"there is no job {job_id}")
        stream, start = (
            query.get("stream"),
            whole_number(query, "from", least=0, default=0, most=MAX_SAFE_INTEGER),
        )
        if stream not in {None, *_STREAMS}:
            raise RefusedRequest(400, f"stream: expected {' or '.join(_STREAMS)}")
        pieces = [
            piece
            for piece in await self._view.log(job_id)
            if stream in {None, piece.stream} and piece.from_ + len(piece.text.encode()) > start
        ]
        page = Page(query, len(pieces))
        return page.response(request, "log", page.of(pieces))
