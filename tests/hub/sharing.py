"""Hubs with sockets that share a store."""

import contextlib
from collections.abc import AsyncIterator, Iterable

import msgspec

from qubix_tui.hub.clock import Clock
from tests.hub.shared_store import SharedEngine, SharedStore
from tests.hub.wire import Running, running


class Sharing(msgspec.Struct, frozen=True):
    """Hubs by name, the oldest first; their engines; and the store."""

    store: SharedStore
    hubs: dict[str, Running]
    engines: dict[str, SharedEngine]


@contextlib.asynccontextmanager
async def sharing(names: Iterable[str], *, clock: Clock | None = None) -> AsyncIterator[Sharing]:
    """Run hubs on one store for as long as the block runs."""
    store = SharedStore()
    engines = {name: SharedEngine(store, name) for name in names}
    async with contextlib.AsyncExitStack() as stack:
        hubs = {
            name: await stack.enter_async_context(running(clock=clock, engine=engine))
            for name, engine in engines.items()
        }
        yield Sharing(store, hubs, engines)
