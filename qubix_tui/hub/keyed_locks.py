"""One lock per key, kept only while somebody needs it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class KeyedLocks:
    """Locks by name: whoever decides something about one provider, or one job, takes its lock."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    def is_taken(self, key: str) -> bool:
        """Whether somebody has the key's turn, or waits for it."""
        return key in self._locks

    @contextlib.asynccontextmanager
    async def of(self, key: str) -> AsyncIterator[None]:
        """Wait for the key's turn. Where it is not taken this does not give up control."""
        lock, users = self._locks.get(key, (None, 0))
        lock = lock or asyncio.Lock()
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            _, users = self._locks[key]
            if users == 1:
                del self._locks[key]
            else:
                self._locks[key] = (lock, users - 1)
