"""The hub as a server of the benchmarks; see `benchmarks.work`. Tokens of providers come as a file."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import work
from qubix_tui.hub.access import Access
from qubix_tui.hub.config import HubConfig
from qubix_tui.hub.server import Hub
from qubix_tui.protocol import channels, codec, events
from qubix_tui.protocol.tokens import Role


def _event(metrics: dict[str, Any]) -> bytes:
    data = {"providerId": work.PROVIDER, "metrics": metrics, "timestamp": "2026-01-01T00:00:00.000Z"}
    channel = channels.provider_channel(work.PROVIDER)
    return codec.encode_event(events.GPU_METRICS_UPDATE, data, channel=channel)


async def _commands() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    return reader


async def main(tokens: list[str]) -> None:
    """Serve until the end of the input."""
    access = Access()
    for number, token in enumerate(tokens):
        access.add_token(token, Role.PROVIDER, f"agent-{number}")
    hub = Hub(HubConfig(port=0), access=access)
    await hub.start()
    work.answer(hub.port)
    metrics = work.padded(work.sample(), _event)

    def broadcast(seq: int) -> None:
        metrics["seq"] = seq
        hub.broadcast_gpu_metrics(work.PROVIDER, metrics)

    commands = await _commands()
    while line := (await commands.readline()).decode().split():
        if line[0] == "publish":
            work.answer(await work.publish(broadcast, asyncio.sleep, line[1:]))
        else:
            telemetry = hub.telemetry
            refused = telemetry.messages_sent[events.ERROR]
            work.answer(telemetry.messages_received[events.GPU_METRICS_UPDATE] - refused)
    await hub.stop()


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]).read_text().split()))
