"""The hub: listens, accepts, looks after its connections, and stops."""

import asyncio
import functools
import logging
from collections.abc import Coroutine, Sequence
from typing import Any, cast

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from qubix_tui.hub.access import Access, Identity, bearer_token, is_forwarded
from qubix_tui.hub.addresses import is_loopback
from qubix_tui.hub.broadcasts import Broadcasts
from qubix_tui.hub.caretaker import Caretaker
from qubix_tui.hub.clock import Clock, SystemClock
from qubix_tui.hub.digest import Digests
from qubix_tui.hub.engine.base import Engine
from qubix_tui.hub.engine.memory import MemoryEngine
from qubix_tui.hub.fanout import Fanout
from qubix_tui.hub.history import History
from qubix_tui.hub.http import HttpRoutes, HubStats, error_response
from qubix_tui.hub.limits import Admission, Limits, LoginLimiter
from qubix_tui.hub.outbox import DEFAULT_BOUND
from qubix_tui.hub.providers import Providers
from qubix_tui.hub.publisher import Publisher
from qubix_tui.hub.registry import Registry
from qubix_tui.hub.services import Services
from qubix_tui.hub.session import CLOSING_SECONDS, READ_LIMIT, WRITE_LIMIT, Session
from qubix_tui.hub.telemetry import Telemetry
from qubix_tui.protocol import DEFAULT_PORT
from qubix_tui.protocol.errors import CloseCode, ErrorCode, ProtocolError
from qubix_tui.protocol.events import MetricsUpdate
from qubix_tui.protocol.records import Provider
from qubix_tui.protocol.tokens import Role
from qubix_tui.protocol.types import to_timestamp

HANDSHAKE_SECONDS = 10.0

MAX_TURNED_AWAY = 100
"""Connections beyond the limits that may wait to be told so; further ones are just cut."""

RESTART_BATCH = 500
"""When the hub stops, so many clients are asked to come back in the same second."""

_websockets_logger = logging.getLogger("qubix.hub.websockets")
_websockets_logger.setLevel(logging.WARNING)
_logger = logging.getLogger("qubix.hub")


class HubConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How a hub listens, and whom it answers.

    Attributes:
        host: The address to listen on.
        port: 0 picks a free one.
        allow_origins: Origins beside the loopback ones whose pages may connect.
        public_names: Names beside the loopback ones by which clients reach it.
        anonymous: Whether a loopback client without a token may look.
        trusted_proxies: Whether requests come through a proxy.
        insecure: Listen beyond loopback without TLS.
        limits: How much clients may ask.
        outbox_bytes: Bytes that may wait for one client before it is cut.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    allow_origins: tuple[str, ...] = ()
    public_names: tuple[str, ...] = ()
    anonymous: bool = True
    trusted_proxies: bool = False
    insecure: bool = False
    limits: Limits = Limits()
    outbox_bytes: int = DEFAULT_BOUND


class Hub(Broadcasts):
    """The hub. One is started and stopped once, on one event loop.

    Args:
        config: How it listens.
        engine: Where events and state live; opened by `start`, closed by `stop`. In memory by default.
        access: Tokens and rules; by default those of ``config``, with no token.
        clock: Moved by hand in tests.
    """

    def __init__(
        self,
        config: HubConfig,
        *,
        engine: Engine | None = None,
        access: Access | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.config = config
        self._clock = clock or SystemClock()
        self._engine = engine or MemoryEngine(clock=self._clock)
        self._access = access or Access(
            allowed_origins=config.allow_origins,
            public_names=config.public_names,
            anonymous=config.anonymous,
            trusted_proxies=config.trusted_proxies,
        )
        self.telemetry = Telemetry()
        self._services: Services | None = None
        self._caretaker: Caretaker | None = None
        self._server: Server | None = None
        self._port = config.port
        self._routes = HttpRoutes(self, self._access)
        self._ready = False
        self._connections: set[Session] = set()
        self._turned_away: set[Session] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.Task[None] | None = None
        self._all_gone = asyncio.Event()

    @property
    def services(self) -> Services:
        """The hub's parts. It has them from `start` on."""
        if self._services is None:
            raise RuntimeError("the hub was not started")
        return self._services

    @property
    def caretaker(self) -> Caretaker:
        """Who looks after its clients. There from `start` on."""
        if self._caretaker is None:
            raise RuntimeError("the hub was not started")
        return self._caretaker

    @property
    def port(self) -> int:
        """The port that it listens on, once it was started."""
        return self._port

    @property
    def url(self) -> str:
        """The address for clients."""
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        return f"ws://{host}:{self.port}"

    async def start(self) -> None:
        """Open the store, and listen.

        Raises:
            ValueError: It would listen beyond loopback without TLS, and was not told to.
            OSError: It can't listen there; ``errno`` says why.
            EngineUnavailable: Its store can't be used.
        """
        config = self.config
        if not (config.insecure or config.host == "localhost" or is_loopback(config.host)):
            raise ValueError(
                f"{config.host} can be reached from other machines, and this hub speaks without TLS: "
                "listen on 127.0.0.1, or say --insecure if the network is trusted"
            )
        await self._engine.open()
        try:
            self._services = self._make_services()
            await self._services.providers.load()
            self._caretaker = Caretaker(self._clock, self._services.providers)
            self._server = await serve(
                self._serve,
                config.host,
                config.port,
                process_request=self._process_request,
                create_connection=cast("type[ServerConnection]", functools.partial(Session, owner=self)),
                compression=None,
                server_header=None,
                open_timeout=HANDSHAKE_SECONDS,
                ping_interval=None,
                close_timeout=CLOSING_SECONDS,
                max_size=READ_LIMIT,
                write_limit=WRITE_LIMIT,
                logger=_websockets_logger,
                backlog=1024,
            )
        except BaseException:
            await self._engine.close()
            raise
        self._port = self._server.sockets[0].getsockname()[1]
        self._sweeper = asyncio.create_task(self.caretaker.sweep_for_ever(), name="hub sweep")
        self._ready = True
        _logger.info("listening on %s", self.url)

    def _make_services(self) -> Services:
        config, clock = self.config, self._clock
        fanout = Fanout(self.telemetry)
        publisher = Publisher(self._engine, fanout)
        registry = Registry(clock)
        providers = Providers(
            registry=registry,
            engine=self._engine,
            publisher=publisher,
            fanout=fanout,
            history=History(clock),
            access=self._access,
            clock=clock,
            spawn=self.spawn,
        )
        return Services(
            clock=clock,
            engine=self._engine,
            access=self._access,
            limits=config.limits,
            admission=Admission(config.limits),
            logins=LoginLimiter(config.limits, clock),
            telemetry=self.telemetry,
            fanout=fanout,
            publisher=publisher,
            providers=providers,
            digests=Digests(registry),
            outbox_bytes=config.outbox_bytes,
        )

    async def stop(self, deadline: float = 2.0) -> None:
        """Stop listening, tell every client to come back later, and end.

        Args:
            deadline: Seconds until clients that have not closed their side are cut. A client that does not
                read can't hold it up.
        """
        server, self._server = self._server, None
        if server is None:
            return
        loop = asyncio.get_running_loop()
        ends = loop.time() + deadline
        _logger.info("stopping; %d clients are connected", len(self.caretaker.clients))
        self._ready = False
        server.close(close_connections=False)
        assert self._sweeper is not None
        self._sweeper.cancel()
        await asyncio.gather(self._sweeper, return_exceptions=True)
        await self.services.digests.close()
        await self._finish_tasks(deadline / 2)
        self.services.fanout.close()
        await self._dismiss(max(0.0, ends - loop.time()))
        await server.wait_closed()
        await self._finish_tasks(0)
        await self._engine.close()

    async def _dismiss(self, deadline: float) -> None:
        """Close all connections with 1012, and cut those that are still there at the deadline."""
        dismissed = 0
        for session in tuple(self._connections):
            if session.opened:
                session.end(CloseCode.RESTARTING, str(1 + dismissed // RESTART_BATCH), deadline)
                dismissed += 1
            else:
                session.cut()
        self._note_gone()
        try:
            async with asyncio.timeout(deadline):
                await self._all_gone.wait()
        except TimeoutError:
            for session in tuple(self._connections):
                session.cut()
            await self._all_gone.wait()

    async def _finish_tasks(self, seconds: float) -> None:
        """Let what is being stored be stored; end the rest."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # What sessions report

    async def _serve(self, connection: ServerConnection) -> None:
        session = cast("Session", connection)
        session.begin()
        await session.wait_closed()

    def session_arrived(self, session: Session) -> None:
        """A connection was accepted; its handshake is to come."""
        self._connections.add(session)
        self._all_gone.clear()

    def may_wait(self, session: Session) -> bool:
        """Whether a connection that was turned away may wait to be told so."""
        if len(self._turned_away) >= MAX_TURNED_AWAY:
            return False
        self._turned_away.add(session)
        return True

    def session_opened(self, session: Session) -> None:
        """The handshake is over."""
        self.caretaker.opened(session)
        _logger.debug("%s connected from %s as %s", session.id, session.address, session.identity.role)

    def session_closed(self, session: Session, *, goodbye: bool) -> None:
        """The connection is gone.

        Args:
            session: Which.
            goodbye: Its client closed it, and cleanly.
        """
        self._connections.discard(session)
        self._turned_away.discard(session)
        self.caretaker.closed(session)
        if self._ready:
            self.services.providers.disconnected(session, goodbye=goodbye)
        self._note_gone()

    def writing_paused(self, session: Session, paused: bool) -> None:
        """The client has stopped to read, or reads again."""
        self.caretaker.writing_paused(session, paused)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something; what it raises is logged where nobody awaits it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.error("a task of the hub failed", exc_info=error)

    def _note_gone(self) -> None:
        if not self._connections:
            self._all_gone.set()

    # The handshake and plain HTTP

    def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Judge a handshake (None lets it through), or answer a request for a page."""
        session = cast("Session", connection)
        if session.refusal is not None:
            refusal = session.refusal
            return error_response(request, 503, refusal.message, retry_after=refusal.retry_after)
        try:
            identity = self._identify(session, request)
            if "websocket" not in request.headers.get("Upgrade", "").lower():
                return self._routes.respond(request, identity)
            judged = self._access.check_host(request.headers.get_all("Host"))
            judged = judged or self._access.check_origin(request.headers.get_all("Origin"))
            if judged is not None:
                return error_response(request, judged.status, judged.message)
            if request.path.partition("?")[0] != "/":
                return error_response(request, 404, "WebSocket clients connect to the path /")
            assert session.place is not None
            session.place.opened(stranger=identity.role is Role.NOBODY)
        except ProtocolError as error:
            if error.code is ErrorCode.RATE_LIMITED:
                self.telemetry.rate_limited += 1
                return error_response(request, 429, error.message, retry_after=error.retry_after)
            return error_response(request, 401, error.message)
        session.identity = identity
        return None

    def _identify(self, session: Session, request: Request) -> Identity:
        try:
            token = bearer_token(request.headers.get_all("Authorization"))
            if token is not None:
                return self._access.authenticate(token)
        except ProtocolError:
            self.telemetry.auth_failures += 1
            self.services.logins.failed(session.address)
            raise
        return self._access.anonymous_identity(session.address, is_forwarded(request.headers))

    # What the HTTP routes show

    @property
    def ready(self) -> bool:
        """Whether it serves: not before `start` is through, not once `stop` has begun."""
        return self._ready

    def stats(self) -> HubStats:
        """Who is connected, and who hears what."""
        return HubStats(
            clients=len(self.caretaker.clients), subscriptions=self.services.fanout.subscriptions()
        )

    def providers(self) -> Sequence[Provider]:
        """All providers, in the order in which they came."""
        return [entry.record() for entry in self.services.providers.registry]

    def provider(self, provider_id: str) -> Provider | None:
        """One provider's record."""
        entry = self.services.providers.registry.get(provider_id)
        return entry.record() if entry else None

    def last_metrics(self, provider_id: str) -> MetricsUpdate | None:
        """One provider's newest sample, and when it was received."""
        entry = self.services.providers.registry.get(provider_id)
        if entry is None or entry.metrics is None:
            return None
        return MetricsUpdate(
            provider_id=provider_id, metrics=entry.metrics, timestamp=to_timestamp(entry.metrics_at)
        )
