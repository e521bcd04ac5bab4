"""Who may come in: judges each request on the hub's port, a handshake or one for a page."""

from collections.abc import Awaitable, Callable
from typing import cast

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from qubix_tui.hub.access import Access, Identity, bearer_token, is_forwarded
from qubix_tui.hub.http import HttpRoutes
from qubix_tui.hub.http_answers import error_response
from qubix_tui.hub.proxies import TrustedProxies
from qubix_tui.hub.services import Services
from qubix_tui.hub.session import Session
from qubix_tui.protocol.errors import ErrorCode, ProtocolError
from qubix_tui.protocol.tokens import Role

COME_BACK_SECONDS = 2.0
"""What a client is asked to wait that comes while the hub ends."""


class Doorkeeper:
    """Judges the requests on one hub's port.

    Args:
        access: Its rules.
        proxies: Whose word on a client's address is taken.
        routes: Answers what is no handshake.
        services: The hub's parts.
        accepts: Whether new clients are let in: not while the hub ends.
    """

    def __init__(
        self,
        *,
        access: Access,
        proxies: TrustedProxies,
        routes: HttpRoutes,
        services: Services,
        accepts: Callable[[], bool],
    ) -> None:
        self._access = access
        self._proxies = proxies
        self._routes = routes
        self._services = services
        self._accepts = accepts

    def process_request(
        self, connection: ServerConnection, request: Request
    ) -> Response | Awaitable[Response | None] | None:
        """Judge a handshake (None lets it through), or answer a request for a page."""
        session = cast("Session", connection)
        if session.refusal is not None:
            refusal = session.refusal
            return error_response(request, 503, refusal.message, retry_after=refusal.retry_after)
        self._find_client(session, request)
        if self._shows_news(request):
            return self._judge_with_news(session, request)
        return self._judge(session, request)

    async def _judge_with_news(self, session: Session, request: Request) -> Response | None:
        """Judge who shows what another hub may have handed out just now."""
        try:
            await self._services.catch_up()
        except ProtocolError as error:
            return error_response(request, 503, error.message, retry_after=error.retry_after)
        answer = self._judge(session, request)
        return await answer if isinstance(answer, Awaitable) else answer

    def _judge(self, session: Session, request: Request) -> Response | Awaitable[Response] | None:
        try:
            identity = self._identify(session, request)
            if "websocket" not in request.headers.get("Upgrade", "").lower():
                return self._routes.respond(request, identity)
            refused = self._refuse_handshake(request)
            if refused is not None:
                return refused
            assert session.place is not None
            session.place.opened(stranger=identity.role is Role.NOBODY)
        except ProtocolError as error:
            if error.code is ErrorCode.RATE_LIMITED:
                self._services.telemetry.rate_limited += 1
                return error_response(request, 429, error.message, retry_after=error.retry_after)
            return error_response(request, 401, error.message)
        session.identity = identity
        return None

    def _find_client(self, session: Session, request: Request) -> None:
        address = self._proxies.client_of(session.address, request.headers.get_all("X-Forwarded-For"))
        if address != session.address and session.place is not None:
            session.address = address
            session.place.came_from(address)

    def _refuse_handshake(self, request: Request) -> Response | None:
        judged = self._access.check_host(request.headers.get_all("Host"))
        judged = judged or self._access.check_origin(request.headers.get_all("Origin"))
        if judged is not None:
            return error_response(request, judged.status, judged.message)
        if request.path.partition("?")[0] != "/":
            return error_response(request, 404, "WebSocket clients connect to the path /")
        if not self._accepts():
            return error_response(request, 503, "the hub is stopping", retry_after=COME_BACK_SECONDS)
        return None

    def _shows_news(self, request: Request) -> bool:
        try:
            token = bearer_token(request.headers.get_all("Authorization"))
        except ProtocolError:
            return False
        return token is not None and self._services.is_news(token)

    def _identify(self, session: Session, request: Request) -> Identity:
        try:
            token = bearer_token(request.headers.get_all("Authorization"))
            if token is not None:
                return self._access.authenticate(token)
        except ProtocolError as error:
            self._services.refuse_login(session.address, error)
            raise
        return self._access.anonymous_identity(session.address, is_forwarded(request.headers))
