"""A hub that has something to show for every metric: a simulated fleet, a provider in trouble, jobs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from qubix_tui.protocol.tokens import Role
from qubix_tui.simulation import simulate
from tests.hub.scripted_agent import ScriptedAgent, join, submit
from tests.hub.shared_store import SharedEngine, SharedStore
from tests.hub.wire import Running, eventually, running

SIMULATED = 6

BAD_GPU: dict[str, Any] = {
    "index": 0,
    "uuid": "GPU-bad",
    "name": "NVIDIA H200",
    "utilPercent": 97.0,
    "memUtilPercent": 40.0,
    "memUsedMb": 1024,
    "memTotalMb": 4096,
    "tempC": 91.0,
    "tempSlowdownC": 92.0,
    "powerW": 350.0,
    "powerLimitW": 700.0,
    "energyJ": 12_345.0,
    "smClockMhz": 1980,
    "throttle": ["power cap"],
    "eccCorrected": 3,
    "eccUncorrected": 1,
    "rowRemapPending": True,
    "rowRemapFailure": True,
    "xid": 79,
}


async def sample(agent: ScriptedAgent, seq: int) -> None:
    """Send a sample: a GPU whose memory can't be mended, and one that the driver has lost."""
    gpus = [BAD_GPU, {"index": 1, "uuid": "GPU-gone", "state": "lost"}]
    metrics = {"seq": seq, "cpuPercent": 12.5, "ramPercent": 50.0, "gpus": gpus}
    await agent.client.send("GPU_METRICS_UPDATE", {"metrics": metrics})
    assert await agent.client.heard() == []


@contextlib.asynccontextmanager
async def ailing_hub() -> AsyncIterator[tuple[Running, ScriptedAgent]]:
    """Run it, on a store that others could share.

    Gives it and the provider in trouble, with one job that failed and one that waits.
    """
    stop = asyncio.Event()
    engine = SharedEngine(SharedStore(), "a")
    engine.telemetry.called("commit", 1, 0.001)
    async with running(engine=engine) as hub, await hub.client(Role.OPERATOR) as operator:
        agent = await join(hub)
        fleet = asyncio.create_task(
            simulate(
                hub.hub.url,
                hub.tokens[Role.OPERATOR],
                providers=SIMULATED,
                hz=2.0,
                seed=1,
                stop=stop,
                report=lambda _: None,
            )
        )
        try:
            await submit(operator)
            order = await agent.start()
            await agent.complete(order, "failed", reason="exit_code: 3")
            await submit(operator, requires={"gpuModel": "none has this"})
            await sample(agent, 1)
            providers = hub.hub.services.providers.registry
            await eventually(
                lambda: sum(1 for entry in providers if entry.metrics is not None) == SIMULATED + 1
            )
            yield hub, agent
        finally:
            stop.set()
            await fleet
            await agent.client.socket.close()
