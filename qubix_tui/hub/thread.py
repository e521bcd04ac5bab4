"""The hub on a thread of its own, with an event loop of its own."""

import asyncio
import threading
from collections.abc import Callable

from qubix_tui.hub.access import Access
from qubix_tui.hub.config import HubConfig
from qubix_tui.hub.engine.base import Engine
from qubix_tui.hub.server import Hub

JOIN_SECONDS = 5.0
"""What the thread may take to end beyond the deadline of its hub."""


def event_loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Give what makes event loops for a hub: uvloop's where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


class HubThread:
    """Runs a hub beside whatever the program does.

    Args:
        config: How the hub listens.
        access: Its tokens and rules.
        engine: Where its events and state live.
        prepare: Called with the hub, on its thread, once it listens.
    """

    def __init__(
        self,
        config: HubConfig,
        *,
        access: Access | None = None,
        engine: Engine | None = None,
        prepare: Callable[[Hub], None] | None = None,
    ) -> None:
        self._config = config
        self._access = access
        self._engine = engine
        self._prepare = prepare
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._deadline = 0.0
        self._failure: BaseException | None = None
        self.url = ""
        """The address for clients, once `start` has returned."""

    def start(self) -> str:
        """Start the thread, and wait until the hub listens.

        Returns:
            The address for clients.

        Raises:
            ValueError: As `Hub.start`, which this raises all of.
            OSError: Likewise.
            EngineUnavailable: Likewise.
        """
        self._thread = threading.Thread(target=self._run, name="qubix-hub", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self.url

    def stop(self, deadline: float = 2.0) -> None:
        """Stop the hub (see `Hub.stop`) and end the thread. Again, or without a start, is no error.

        Raises:
            TimeoutError: The thread did not end.
        """
        thread, self._thread = self._thread, None
        if thread is None or self._loop is None or self._stop is None:
            return
        self._deadline = deadline
        if thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join(deadline + JOIN_SECONDS)
        if thread.is_alive():
            raise TimeoutError("the hub's thread did not end")

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=event_loop_factory()) as runner:
                runner.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - raised again by `start`
            self._failure = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        hub = Hub(self._config, access=self._access, engine=self._engine)
        await hub.start()
        try:
            self.url = hub.url
            self._loop = asyncio.get_running_loop()
            self._stop = asyncio.Event()
            if self._prepare is not None:
                self._prepare(hub)
            self._started.set()
            await self._stop.wait()
        finally:
            await hub.stop(self._deadline)
