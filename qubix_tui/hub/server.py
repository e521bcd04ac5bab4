"""The hub: listens, accepts, looks after its connections, and stops."""

import asyncio
import logging
import socket
from collections.abc import Coroutine, Sequence
from typing import Any, cast

from websockets.asyncio.server import ServerConnection

from qubix_tui.hub.access import Access
from qubix_tui.hub.audit import Audit
from qubix_tui.hub.broadcasts import Broadcasts
from qubix_tui.hub.caretaker import Caretaker
from qubix_tui.hub.clock import Clock, SystemClock
from qubix_tui.hub.config import HubConfig
from qubix_tui.hub.credentials import Credentials
from qubix_tui.hub.digest import Digests
from qubix_tui.hub.engine.base import Change, Engine
from qubix_tui.hub.engine.memory import MemoryEngine
from qubix_tui.hub.fanout import Fanout
from qubix_tui.hub.handshake import Doorkeeper
from qubix_tui.hub.heartbeat import Heartbeat
from qubix_tui.hub.history import History
from qubix_tui.hub.http import HttpRoutes
from qubix_tui.hub.jobs import Jobs
from qubix_tui.hub.limits import Admission, LoginLimiter
from qubix_tui.hub.listeners import Listeners
from qubix_tui.hub.nodes import Nodes
from qubix_tui.hub.providers import Providers
from qubix_tui.hub.proxies import TrustedProxies
from qubix_tui.hub.publisher import Publisher
from qubix_tui.hub.registry import Registry
from qubix_tui.hub.services import Services
from qubix_tui.hub.session import Session
from qubix_tui.hub.store_watch import StoreWatch
from qubix_tui.hub.telemetry import Telemetry
from qubix_tui.hub.views import Views
from qubix_tui.protocol.errors import CloseCode

MAX_TURNED_AWAY = 100
"""Connections beyond the limits that may wait to be told so; further ones are just cut."""

RESTART_BATCH = 500
"""When the hub stops, so many clients are asked to come back in the same second."""

BATCH_SECONDS = 0.1
"""Between two batches of these, so that the others are still served."""

_logger = logging.getLogger("qubix.hub")


class Hub(Broadcasts, Views):
    """The hub. One is started and stopped once, on one event loop.

    Args:
        config: How it listens.
        engine: Where events and state live; opened by `start`, closed by `stop`. In memory by default.
        access: Tokens and rules; by default those of ``config``, with no token.
        clock: Moved by hand in tests.
        sockets: In place of the address in ``config``, sockets that are bound: TCP ones, and maybe Unix ones
            beside them. They are closed with the hub; whoever handed them over keeps theirs.

    Raises:
        ValueError: ``config`` has an origin, name or proxy that is none, or would have it listen beyond
            loopback without TLS.
    """

    def __init__(
        self,
        config: HubConfig,
        *,
        engine: Engine | None = None,
        access: Access | None = None,
        clock: Clock | None = None,
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        self.config = config
        self._clock = clock or SystemClock()
        self._engine = engine or MemoryEngine(clock=self._clock)
        self._access = access or Access(
            allowed_origins=config.allow_origins,
            public_names=config.public_names,
            anonymous=config.anonymous,
            trusted_proxies=bool(config.trusted_proxies),
        )
        self._proxies = TrustedProxies(config.trusted_proxies)
        self._listeners = Listeners(config, sockets)
        self.telemetry = Telemetry()
        self._services: Services | None = None
        self._caretaker: Caretaker | None = None
        self._serving = False
        self._stopped = False
        self._connections: set[Session] = set()
        self._turned_away: set[Session] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.Task[None] | None = None
        self._heartbeat: Heartbeat | None = None
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
        return self._listeners.port

    @property
    def url(self) -> str:
        """The address for clients."""
        return self._listeners.url

    async def start(self) -> None:
        """Open the store, and listen.

        Raises:
            ValueError: The TLS files or the Unix socket can't be used.
            OSError: It can't listen there; ``errno`` says why.
            EngineUnavailable: Its store can't be used.
        """
        self._services = self._make_services()
        self._services.nodes.describe()
        try:
            await self._engine.open()
            await self._load(self._services)
            self._caretaker = Caretaker(self._clock, self._services.providers, self._services.jobs)
            doorkeeper = Doorkeeper(
                access=self._access,
                proxies=self._proxies,
                routes=HttpRoutes(self, self._access),
                services=self._services,
                accepts=lambda: self._serving,
            )
            await self._listeners.open(self, self._serve, doorkeeper.process_request)
        except BaseException:
            self._services = None
            await self._engine.close()
            raise
        self._services.providers.peers.start()
        self._heartbeat = Heartbeat(self._services.store_watch, self._services.nodes)
        self._heartbeat.start()
        self._sweeper = asyncio.create_task(self.caretaker.sweep_for_ever(), name="hub sweep")
        self._serving = True
        _logger.info("listening on %s", self.url)

    async def _load(self, services: Services) -> None:
        """Take over what the store holds, and then what other hubs have written meanwhile."""
        meanwhile: list[Sequence[Change]] = []
        services.publisher.follow = meanwhile.append
        await services.providers.load()
        await services.jobs.load()
        await services.credentials.load()
        for changes in meanwhile:
            services.follow(changes)
        services.publisher.follow = services.follow

    def _make_services(self) -> Services:
        config, clock = self.config, self._clock
        fanout = Fanout(self.telemetry)
        publisher = Publisher(self._engine, fanout)
        registry = Registry(clock, self._engine.cluster)
        admission = Admission(config.limits)
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
            started_at=clock.monotonic(),
            engine=self._engine,
            access=self._access,
            credentials=Credentials(
                engine=self._engine,
                known=self._access.tokens,
                registry=registry,
                audit=Audit(self._engine, clock),
                clock=clock,
                sessions=lambda: self._connections,
                spawn=self.spawn,
            ),
            limits=config.limits,
            admission=admission,
            logins=LoginLimiter(config.limits, clock),
            telemetry=self.telemetry,
            fanout=fanout,
            publisher=publisher,
            providers=providers,
            jobs=Jobs(
                engine=self._engine,
                publisher=publisher,
                providers=providers,
                fanout=fanout,
                clock=clock,
                settings=config.jobs,
                spawn=self.spawn,
            ),
            digests=Digests(registry, self.telemetry),
            nodes=Nodes(
                engine=self._engine,
                telemetry=self.telemetry,
                clock=clock,
                connections=lambda: admission.connections,
                providers=lambda: providers.connected,
            ),
            store_watch=StoreWatch(publisher, fanout, clock),
            outbox_bytes=config.outbox_bytes,
        )

    def reload_tls(self) -> None:
        """Read the TLS files again, for connections from now on.

        Raises:
            ValueError: They can't be used, and those from before stay.
        """
        self._listeners.reload_tls()

    async def drain(self, deadline: float) -> None:
        """Let clients leave: new ones are refused, the others asked to come back later, some at a time.

        With sockets that outlive the hub new ones are not refused: they wait for the next hub.

        Args:
            deadline: Seconds until those are cut that have not closed their side by then. A client that does
                not read can't hold it up.
        """
        if not self._serving:
            return
        self._serving = False
        if self._listeners.outlives:
            self._listeners.close()
        ends = asyncio.get_running_loop().time() + deadline
        _logger.info("stopping; clients connected: %d", len(self.caretaker.clients))
        assert self._sweeper is not None
        assert self._heartbeat is not None
        await self._heartbeat.close()
        self._sweeper.cancel()
        await asyncio.gather(self._sweeper, return_exceptions=True)
        await self._engine.cluster.leave()
        await self.services.digests.close()
        await self._finish_tasks(deadline / 2)
        self.services.fanout.close()
        await self._dismiss(ends)

    async def stop(self, deadline: float = 2.0) -> None:
        """Let clients leave (see `drain`), stop listening, and end. Again, or unstarted, is no error."""
        if self._services is None or self._stopped:
            return
        self._stopped = True
        await self.drain(deadline)
        self._listeners.close()
        self._cut_all()
        await self._all_gone.wait()
        await self._services.providers.peers.close()
        await self._listeners.wait_closed()
        await self._finish_tasks(0)
        await self._engine.close()

    async def _dismiss(self, ends: float) -> None:
        """Close all connections with 1012, and cut those that are still there at the end."""
        loop = asyncio.get_running_loop()
        leaving = [session for session in self._connections if session.opened]
        pause = max(0.0, ends - loop.time()) / 2 / (1 + len(leaving) // RESTART_BATCH)
        for number, start in enumerate(range(0, len(leaving), RESTART_BATCH), 1):
            if number > 1:
                await asyncio.sleep(min(pause, BATCH_SECONDS))
            for session in leaving[start : start + RESTART_BATCH]:
                session.end(CloseCode.RESTARTING, str(number), max(0.0, ends - loop.time()))
        self._note_gone()
        try:
            async with asyncio.timeout_at(ends):
                await self._all_gone.wait()
        except TimeoutError:
            _logger.info("%d clients have not left in time; they are cut", len(self._connections))
            self._cut_all()

    def _cut_all(self) -> None:
        for session in tuple(self._connections):
            session.cut()
        self._note_gone()

    async def _finish_tasks(self, seconds: float) -> None:
        """Let what is being stored be stored; end the rest."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def ready(self) -> bool:
        """Whether it serves: not before `start` is through, nor once it drains, nor without its store."""
        return self._serving and self.services.publisher.stores

    # What sessions report

    async def _serve(self, connection: ServerConnection) -> None:
        cast("Session", connection).begin()

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
        _logger.debug("a client connected as %s", session.identity.role, extra=session.log_fields)

    def session_closed(self, session: Session, *, goodbye: bool) -> None:
        """The connection is gone.

        Args:
            session: Which.
            goodbye: Its client closed it, and cleanly.
        """
        self._connections.discard(session)
        self._turned_away.discard(session)
        self.caretaker.closed(session)
        if self._serving:
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
