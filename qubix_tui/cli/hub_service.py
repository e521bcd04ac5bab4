"""A hub as a service of its machine: its signals, its supervisor, and its place in ``hub.json``.

SIGTERM and SIGINT let clients leave; a second one ends at once. SIGHUP reads the TLS files again, except when
it says that the terminal was closed which the hub was started in: then it ends as by SIGTERM.
"""

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from qubix_tui import home
from qubix_tui.cli.common import EXIT_FAILED, CommandError
from qubix_tui.cli.hub_engine import hub_engine
from qubix_tui.cli.local_hub import local_access
from qubix_tui.hub.config import HubConfig
from qubix_tui.hub.engine.base import EngineUnavailable
from qubix_tui.hub.server import Hub
from qubix_tui.hub.thread import event_loop_factory
from qubix_tui.notify import Notifier

if TYPE_CHECKING:
    from qubix_tui.cli.hub_settings import Settings

DRAIN_MARGIN_SECONDS = 10.0
"""What the end of the store and of the process may take beyond the drain, before a supervisor kills."""

OTHER_FILES = 256
"""What a hub may have open beside its connections: its store, its listeners, those it turns away."""

_logger = logging.getLogger("qubix.hub")


def has_terminal() -> bool:
    """Whether this process has a controlling terminal. One that was closed is none any more."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def local_url(url: str) -> str:
    """Give the address by which this machine's own commands reach a hub; all addresses include loopback.

    Args:
        url: Where it listens.
    """
    listens = urlsplit(url)
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(listens.hostname or "")  # noqa: S104 - not bound
    return f"{listens.scheme}://{host}:{listens.port}" if host else url


@contextlib.contextmanager
def recorded(url: str, directory: Path) -> Iterator[None]:
    """Say in ``hub.json`` where this process's hub is, unless that speaks of another one that runs.

    Args:
        url: Where it listens.
        directory: QUBIX_HOME.

    Raises:
        HomeError: The file can't be written.
    """
    record = home.running_hub(home=directory) is None
    if record:
        home.write_hub_record(local_url(url), home=directory)
    try:
        yield
    finally:
        if record:
            home.remove_hub_record(home=directory)


def cant_listen(error: OSError, config: HubConfig) -> CommandError:
    """Say why a hub can't listen where it was told to."""
    return CommandError(
        f"can't listen on {config.host}:{config.port}: {error.strerror or error}; try another --port, "
        "or --port 0 for a free one",
        EXIT_FAILED,
    )


def serve(
    settings: "Settings",
    config: HubConfig,
    directory: Path,
    notifier: Notifier,
    *,
    sockets: Sequence[socket.socket] = (),
    is_worker: bool = False,
) -> None:
    """Run a hub until it is told to end.

    Args:
        settings: What was settled for it.
        config: What of that is the hub's own.
        directory: QUBIX_HOME.
        notifier: Its supervisor, if there is one.
        sockets: In place of the address in ``config``.
        is_worker: As of `HubService`.

    Raises:
        CommandError: It can't run, or can't go on; the message says why and what to do.
        HomeError: A file of QUBIX_HOME can't be used.
    """
    with hub_engine(settings) as engine:
        access = local_access(config, directory)
        try:
            hub = Hub(config, access=access, engine=engine, sockets=sockets)
            service = HubService(hub, directory=directory, notifier=notifier, is_worker=is_worker)
            with asyncio.Runner(loop_factory=event_loop_factory()) as runner:
                runner.run(service.run())
        except OSError as error:
            raise cant_listen(error, config) from None
        except (ValueError, EngineUnavailable) as error:
            raise CommandError(str(error), EXIT_FAILED) from None


def allow_files(wanted: int) -> None:
    """Let this process open so many files, one for each connection; say so where fewer are allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    reachable = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (reachable, hard))
    except (OSError, ValueError):
        reachable = soft
    if reachable < wanted:
        # No warning: on a person's own machine nobody asked for so many connections.
        _logger.info(
            "this process may open %d files, and limits.connections needs %d: raise ulimit -n "
            "(LimitNOFILE= for systemd), or lower limits.connections",
            reachable,
            wanted,
        )


class HubService:
    """Runs a hub until it is told to end.

    Args:
        hub: The hub, not started.
        directory: QUBIX_HOME, where other commands look for the hub of this machine.
        notifier: The supervisor, if there is one.
        is_worker: It is one of several on one address: whoever started them says where they are.
    """

    def __init__(self, hub: Hub, *, directory: Path, notifier: Notifier, is_worker: bool = False) -> None:
        self._hub = hub
        self._directory = directory
        self._notifier = notifier
        self._is_worker = is_worker
        self._had_terminal = has_terminal()
        self._told_to_end = asyncio.Event()
        self._told_again = asyncio.Event()

    async def run(self) -> None:
        """Start the hub, and end it when it is told to.

        Raises:
            ValueError: As `Hub.start`, which this raises all of.
            OSError: Likewise.
            EngineUnavailable: Likewise; or its store was lost for good to somebody else, and its clients were
                sent away.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        loop.add_signal_handler(signal.SIGHUP, self._hangup)
        await self._hub.start()
        allow_files(self._hub.config.limits.connections + OTHER_FILES)
        watchdog = asyncio.create_task(self._notifier.keep_alive(self._probe, "the store"), name="watchdog")
        lost = asyncio.create_task(self._hub.services.engine.lost(), name="store lost")
        told = asyncio.create_task(self._told_to_end.wait(), name="told to end")
        try:
            with self._announced():
                self._notifier.ready(f"listening on {self._hub.url}")
                await asyncio.wait((lost, told), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._leave()
            for task in (watchdog, told, lost):
                task.cancel()
        if not self._told_to_end.is_set() and lost.done() and not lost.cancelled():
            raise EngineUnavailable(lost.result())

    @contextlib.contextmanager
    def _announced(self) -> Iterator[None]:
        if self._is_worker:
            yield
            return
        with recorded(self._hub.url, self._directory):
            print(f"listening on {self._hub.url}", flush=True)
            yield

    async def _leave(self) -> None:
        seconds = self._hub.config.drain_seconds
        self._notifier.stopping("letting clients leave", seconds + DRAIN_MARGIN_SECONDS)
        draining = asyncio.create_task(self._hub.drain(seconds), name="drain")
        hurry = asyncio.create_task(self._told_again.wait(), name="told again")
        await asyncio.wait((draining, hurry), return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not draining.done():
            _logger.warning("told to end again; clients that are still there are cut")
            draining.cancel()
        await asyncio.gather(draining, hurry, return_exceptions=True)
        await self._hub.stop(0)
        if not draining.cancelled():
            draining.result()

    def _end(self) -> None:
        (self._told_again if self._told_to_end.is_set() else self._told_to_end).set()

    def _hangup(self) -> None:
        if self._had_terminal and not has_terminal():
            self._end()
        if self._told_to_end.is_set():
            return
        self._notifier.reloading()
        self._reload()
        self._notifier.ready(f"listening on {self._hub.url}")

    def _reload(self) -> None:
        if self._hub.config.tls_cert is None:
            _logger.warning(
                "SIGHUP: there are no TLS files to read again; hub.toml is read at the start only"
            )
            return
        try:
            self._hub.reload_tls()
        except (OSError, ValueError) as error:
            _logger.error("SIGHUP: the TLS files can't be used, those from before are kept: %s", error)
        else:
            _logger.info("SIGHUP: the TLS files were read again; new connections get the new certificate")

    async def _probe(self) -> None:
        """Come back when the store has answered, were it by refusing.

        One that refuses (a full disk) would not be mended by a restart, and the hub still serves live values.
        """
        with contextlib.suppress(EngineUnavailable):
            await self._hub.services.engine.read("hub", ["probe"])
