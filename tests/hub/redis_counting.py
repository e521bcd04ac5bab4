"""A hub's engine in a process of its own, which counts up a row until it is told to end.

Argument: the Redis. It counts as gone soon after its last sign of life, and is not patient.
"""

import asyncio
import signal
import sys

from qubix_tui.hub.engine import redis_cluster, redis_link, redis_pipe
from qubix_tui.hub.engine.base import settled
from qubix_tui.hub.engine.redis_address import parse_redis
from tests.hub.redis_hubs import Hub, opened


async def main(url: str) -> None:
    """Count, and say how often."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    hub, counted = Hub(parse_redis(url)), 0
    async with opened(hub):
        hub.rows = await hub.engine.load("t")
        sys.stdout.write("counting\n")
        sys.stdout.flush()
        while not ended.is_set():
            await settled(lambda: hub.count_up("n"))
            counted += 1
    sys.stdout.write(f"{counted}\n")


redis_cluster.LEASE_SECONDS = 1.5  # type: ignore[attr-defined]
redis_link.ANSWER_SECONDS = 1.0  # type: ignore[misc]
redis_pipe.RENEW_SECONDS = 0.2  # type: ignore[misc]
asyncio.run(main(sys.argv[1]))
