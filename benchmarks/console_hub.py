"""A real hub with a made-up fleet that costs little: its providers publish past their sockets.

``python -m benchmarks.console_hub N`` prints the hub's address and an operator's token, and takes ``go`` and
``rest`` on its input: whether each provider publishes once a second, or is merely there.
"""

import asyncio
import itertools
import sys
import time

import msgspec
import uvloop

from qubix_tui.hub.access import Access, Identity
from qubix_tui.hub.config import HubConfig
from qubix_tui.hub.provider_state import Entry
from qubix_tui.hub.server import Hub
from qubix_tui.protocol import codec
from qubix_tui.protocol.requests import PublishMetrics, Register
from qubix_tui.protocol.tokens import Role, new_token
from qubix_tui.protocol.types import RequestId, Wire, to_timestamp
from qubix_tui.simulation.machine import Machine

DIFFERENT = 200
"""Machines that are worked out; the others are like one of them, some samples further."""

SAMPLES = 16
SLICES = 20
"""Parts of the fleet, each with its moment in the second."""


class Publisher:
    """What a provider's connection is to the hub, without a socket."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.entry: Entry | None = None
        self.is_open = True

    def reply(self, kind: str, data: Wire, request_id: RequestId | None) -> None:
        """Take note of nothing."""

    def end(self, code: int, reason: str) -> None:
        """Stay."""


def made_up(count: int) -> list[tuple[Register, list[tuple[PublishMetrics, bytes]]]]:
    """Give so many machines, each with samples to publish in turn."""
    kinds = []
    for index in range(min(count, DIFFERENT)):
        machine = Machine(7, index, 1.0)
        samples = []
        for _ in range(SAMPLES):
            machine.advance()
            request = PublishMetrics(metrics=machine.metrics(to_timestamp(time.time())))
            samples.append((request, codec.encode_request("GPU_METRICS_UPDATE", request)))
        kinds.append((machine.spec, samples))
    fleet = []
    for index in range(count):
        spec, samples = kinds[index % len(kinds)]
        turn = index // len(kinds) % SAMPLES
        values = msgspec.structs.asdict(spec)
        values |= {"worker_id": f"w-{index:05d}", "name": f"{spec.name}-{index:05d}", "simulated": True}
        fleet.append((Register(**values, instance="benchmark"), samples[turn:] + samples[:turn]))
    return fleet


async def main(count: int) -> None:
    """Serve until the end of the input."""
    access, token = Access(), new_token(Role.OPERATOR)
    access.add_token(token, Role.OPERATOR, "benchmark")
    hub = Hub(HubConfig(port=0), access=access)
    await hub.start()
    providers = hub.services.providers
    fleet = []
    for register, samples in made_up(count):
        publisher = Publisher(Identity(Role.OPERATOR, "benchmark"))
        await providers.register(publisher, register)
        assert publisher.entry is not None
        fleet.append((publisher.entry, itertools.cycle(samples)))
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    print(hub.url, token, flush=True)
    going = True

    async def publish() -> None:
        for number in itertools.count():
            began = time.monotonic()
            for entry, samples in fleet[number % SLICES :: SLICES]:
                providers.heard(entry)
                if going:
                    providers.samples.take(entry, *next(samples))
            await asyncio.sleep(max(0.001, 1 / SLICES - (time.monotonic() - began)))

    publishing = asyncio.create_task(publish())
    while line := (await reader.readline()).decode().strip():
        going = line == "go"
    publishing.cancel()
    await hub.stop()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
