"""The log, as it comes: one connection on which Redis is asked for what follows, again and again."""

from collections.abc import Callable
from typing import Final

from qubix_tui.hub.clock import Clock
from qubix_tui.hub.engine.redis_commits import Applied
from qubix_tui.hub.engine.redis_link import RedisLink
from qubix_tui.hub.engine.redis_log import Entry, parse_entry
from qubix_tui.hub.engine.telemetry import EngineTelemetry

BLOCK_SECONDS: Final = 1.0
"""How long Redis keeps a question for which there is no answer yet."""

MAX_ENTRIES: Final = 200
"""Commits that are read, and applied, in one go."""


class Feed:
    """Brings a hub up to the log.

    Args:
        key: The log's key.
        applied: What is brought up.
        clock: The machine's (``time``).
        telemetry: Where it is noted how far behind the hub is.
    """

    def __init__(self, key: str, applied: Applied, clock: Clock, telemetry: EngineTelemetry) -> None:
        self._key = key
        self._applied = applied
        self._clock = clock
        self._telemetry = telemetry

    async def follow(self, link: RedisLink) -> None:
        """Apply all that comes, for good.

        Raises:
            LinkDown: The connection is gone.
            EngineUnavailable: Redis refuses.
            Lost: The hub has to start anew.
            Parted: Likewise, and every other one.
        """
        while True:
            await self._read(link, self._applied.apply, "BLOCK", round(BLOCK_SECONDS * 1000))

    async def catch_up(self, link: RedisLink, take: Callable[[Entry], None]) -> None:
        """Have something done with each commit that there is now.

        Raises:
            LinkDown: As for `follow`, as all others.
        """
        while await self._read(link, take):
            pass

    async def _read(self, link: RedisLink, take: Callable[[Entry], None], *block: str | int) -> bool:
        start = f"{self._applied.position}-0"
        words = "XREAD", "COUNT", MAX_ENTRIES, *block, "STREAMS", self._key, start
        reply = await link.ask(*words, patience=BLOCK_SECONDS)
        if not reply:
            return False
        ((_, entries),) = reply
        for identifier, (_, raw) in entries:
            take(parse_entry(identifier, raw))
        now = self._clock.time() + self._telemetry.clock_skew
        self._telemetry.lag = max(0.0, now - self._applied.taken_at / 1000)
        return True
