"""A whole fleet on one hub: agents at 1 Hz, consoles on the digest, clients that follow one provider each.

``python -m benchmarks.whole``. The hub is ``qubix hub`` as it is installed, on core 0, with its data on disk;
the fleet and its audience (``whole.c``) are one process on core 1. The agents are the machines of
``qubix simulate``, registered as such. A sample is that of one small machine, as in the other benchmarks, or
(``--full``) the machine's own, with up to eight GPUs and all that can be known of each; its numbers stand
still.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import work
from benchmarks.contestants import frame, upgrade
from benchmarks.processes import LOAD_CORE, SERVER_CORE, Process, allow_files, compiled
from qubix_tui import home
from qubix_tui.protocol import codec
from qubix_tui.protocol.requests import PublishMetrics, Register
from qubix_tui.protocol.tokens import Role
from qubix_tui.simulation.machine import Machine

ARRIVALS = 250
"""Connections a second, as the fleet comes: all of it within 40 s."""

WINDOW_SECONDS = 10
MEMORY_SECONDS = 60
SETTLE_SECONDS = 15
"""The first steps of all providers' history are written within this; only then is memory looked at."""

MOST_CPU, MOST_MILLISECONDS, MOST_GROWTH = 1.0, 100.0, 1.02
FIRST_STAMP = 10**11
"""As in ``whole.c``: a sample's place for the time at which it was sent."""

SMALL = work.as_json(
    {
        "type": "GPU_METRICS_UPDATE",
        "data": {"metrics": {**work.sample(), "gpuNote": "x" * 60, "seq": FIRST_STAMP}},
    }
)


STATE = work.as_json(
    {
        "type": "provider:status",
        "data": {"paused": True, "draining": False, "note": "x" * 60, "reason": str(FIRST_STAMP)},
    }
)


@dataclass(frozen=True)
class Fleet:
    """Who takes part.

    Attributes:
        agents: Providers, each with a sample a second.
        consoles: Clients that follow the whole fleet, by a digest every second.
        watchers: Clients that follow one provider each.
    """

    agents: int = 10_000
    consoles: int = 20
    watchers: int = 200
    full: bool = False
    """Samples are the machines' own, 2.2 KB on average, in place of small ones."""
    states: bool = False
    """Each agent changes its state once a second, in place of samples: an event that is stored."""
    apart: bool = False
    """All agents are at the first hub, and everybody else is at the last, not all spread over them."""


@dataclass(frozen=True)
class Outcome:
    """What was measured.

    Attributes:
        fleet: Who took part.
        seconds: For how long.
        sample_bytes: The mean size of a sample's message.
        cpu: The hub's processor time as a share of one core: median and highest of the windows.
        delivery_ms: Agent to client: median, 99th percentile, highest.
        digest_ms: How old a provider's sample is when a console gets it: likewise.
        resident_mib: Resident memory at the start, and after each minute.
        sent: Samples that the agents sent.
        delivered: Samples that came to the clients that follow one provider.
        headlines: Providers' lines in digests that came to consoles.
        frames: Messages that the hub sent.
        sent_mib: What the hub sent.
        faults: What went wrong, in words.
    """

    fleet: Fleet
    seconds: int
    sample_bytes: float
    cpu: tuple[float, float]
    delivery_ms: tuple[float, float, float]
    digest_ms: tuple[float, float, float]
    resident_mib: list[float]
    sent: int
    delivered: int
    headlines: int
    frames: int
    sent_mib: float
    faults: list[str]

    def missed(self) -> list[str]:
        """Say what was not reached."""
        p99 = self.delivery_ms[1]
        growth = self.resident_mib[-1] / self.resident_mib[0]
        return [
            *self.faults,
            *([f"the hub took {self.cpu[1]:.2f} cores at worst"] if self.cpu[1] >= MOST_CPU else []),
            *([f"p99 is {p99:.1f} ms"] if p99 > MOST_MILLISECONDS else []),
            *([f"memory grew by {growth - 1:.1%}"] if growth > MOST_GROWTH else []),
        ]


def write_fleet(path: Path, fleet: Fleet, ports: Sequence[int], token: str) -> float:
    """Write what ``whole.c`` reads; gives the mean size of a sample's message.

    Where there are several hubs, agents and consoles are spread over them, and who follows a provider is at
    the hub after that provider's.
    """
    ping = frame(b'{"type":"ping"}')
    size, machines = 0, []
    with path.open("wb") as file:

        def client(number: int, says: bytes, repeats: bytes, *, is_agent: bool = False) -> None:
            port = ports[(0 if is_agent else -1) if fleet.apart else number % len(ports)]
            file.write(port.to_bytes(4, "little"))
            for part in (upgrade(port, token) + frame(says), repeats):
                file.write(len(part).to_bytes(4, "little") + part)

        for index in range(fleet.agents):
            machine = Machine(seed=1, index=index, tick_seconds=1.0)
            machines.append(machine)
            sample = STATE if fleet.states else _sample(machine) if fleet.full else SMALL
            size += len(sample)
            client(index, _registration(machine), frame(sample), is_agent=True)
        follow = {"type": "subscribe:marketplace", "data": {"snapshot": True, "digest": 1}}
        for number in range(fleet.consoles):
            client(number, work.as_json(follow), ping)
        for number in range(fleet.watchers):
            index = number * fleet.agents // fleet.watchers
            provider = f"sim-{machines[index].spec.worker_id}"
            watch = {"type": "subscribe:provider", "subscriptionId": provider}
            client(index + 1, work.as_json(watch), ping)
    return size / fleet.agents


@contextlib.contextmanager
def audience(fleet: Fleet, ports: Sequence[int], token: str, folder: Path) -> Iterator[tuple[Process, float]]:
    """Run a fleet and its audience; gives the process, once all were let in, and the size of a sample."""
    size = write_fleet(folder / "fleet", fleet, ports, token)
    people = [str(number) for number in (fleet.agents, fleet.consoles, ARRIVALS)]
    marks = ['"reason":"', "PROVIDER_STATUS_CHANGED"] if fleet.states else ['"seq":', "GPU_METRICS_UPDATE"]
    command = [str(compiled("whole", folder)), str(folder / "fleet"), *people, *marks]
    with Process(command, LOAD_CORE) as clients:
        clients.read()
        yield clients, size


def _registration(machine: Machine) -> bytes:
    members: dict[str, Any] = {name: getattr(machine.spec, name) for name in machine.spec.__struct_fields__}
    return codec.encode_request("provider:register", Register(**members, instance="benchmark"))


def _sample(machine: Machine) -> bytes:
    metrics = msgspec.structs.replace(machine.metrics("2026-01-01T00:00:00.000Z"), seq=FIRST_STAMP)
    return codec.encode_request("GPU_METRICS_UPDATE", PublishMetrics(metrics=metrics))


def measure(fleet: Fleet, seconds: int, folder: Path) -> Outcome:
    """Run a hub with a fleet, and measure it.

    Raises:
        RuntimeError: The fleet was not let in.
    """
    allow_files(fleet.agents + fleet.consoles + fleet.watchers + 200)
    token = home.ensure_local_token(Role.OPERATOR, home=folder)
    program = [sys.executable, "-c", "from qubix_tui.cli.main import main; main()"]
    hub_command = ["env", f"QUBIX_HOME={folder}", *program, "hub", "--port", "0", "--log-level", "warning"]
    with Process(hub_command, SERVER_CORE) as hub:
        port = int(hub.read().rpartition(":")[2])
        with audience(fleet, [port], token, folder) as (clients, sample_bytes):
            time.sleep(SETTLE_SECONDS)
            clients.tell(f"measure {seconds}")
            cpu, resident = _watch(hub, seconds)
            seen = json.loads(clients.read())
    return Outcome(
        fleet=fleet,
        seconds=seconds,
        sample_bytes=sample_bytes,
        cpu=(statistics.median(cpu), max(cpu)),
        delivery_ms=tuple(seen["delivery_ms"]),
        digest_ms=tuple(seen["digest_ms"]),
        resident_mib=resident,
        sent=seen["sent"],
        delivered=seen["delivered"],
        headlines=seen["headlines"],
        frames=seen["frames_in"],
        sent_mib=seen["bytes_in"] / 2**20,
        faults=_faults(fleet, seconds, seen),
    )


def _watch(hub: Process, seconds: int) -> tuple[list[float], list[float]]:
    """Give the hub's share of a core in each window, and its resident MiB at the start and each minute."""
    time.sleep(3)  # The clients pause before they begin.
    cpu, resident = [], [hub.resident_kib() / 1024]
    start = time.monotonic()
    noted = 0
    before = start, hub.cpu_seconds()
    while before[0] + WINDOW_SECONDS <= start + seconds - 1:
        time.sleep(before[0] + WINDOW_SECONDS - time.monotonic())
        after = time.monotonic(), hub.cpu_seconds()
        cpu.append((after[1] - before[1]) / (after[0] - before[0]))
        before = after
        if (after[0] - start) // MEMORY_SECONDS > noted:
            noted += 1
            resident.append(hub.resident_kib() / 1024)
    return cpu, [*resident, hub.resident_kib() / 1024]


def _faults(fleet: Fleet, seconds: int, seen: dict[str, Any]) -> list[str]:
    faults = []
    if seen["lost"] or seen["refused"]:
        faults.append(f"{seen['lost']} connections were lost, {seen['refused']} messages refused")
    if seen["delivered"] != fleet.watchers * seconds:
        faults.append(f"{seen['delivered']} samples were delivered of {fleet.watchers * seconds}")
    if seen["newest_seen"] != fleet.agents:
        faults.append(f"a console has the newest sample of {seen['newest_seen']} providers only")
    return faults


def report(outcome: Outcome) -> str:
    """Give the figures for people."""
    fleet, seconds = outcome.fleet, outcome.seconds
    resident = " → ".join(f"{size:.0f}" for size in outcome.resident_mib)
    audience = f"{fleet.consoles} consoles on digest 1 s, {fleet.watchers} clients on one provider each"
    sent = (
        f"in: {outcome.sent / seconds:,.0f} messages/s; out: {outcome.frames / seconds:,.0f} messages/s, "
        f"{outcome.sent_mib / seconds:.1f} MiB/s, {outcome.headlines / seconds:,.0f} headlines/s"
    )
    lines = [
        f"{fleet.agents:,} agents at 1 Hz ({outcome.sample_bytes:,.0f} bytes a sample), {audience}",
        f"measured for {seconds} s",
        f"hub CPU: {outcome.cpu[0]:.1%} of a core (worst {WINDOW_SECONDS} s: {outcome.cpu[1]:.1%})",
        "agent → client: p50 {:.1f} ms, p99 {:.1f} ms, highest {:.1f} ms".format(*outcome.delivery_ms),
        "age of a sample in a digest: p50 {:.0f} ms, p99 {:.0f} ms, highest {:.0f} ms".format(
            *outcome.digest_ms
        ),
        f"resident memory in MiB, at the start and each minute: {resident}",
        sent,
    ]
    missed = outcome.missed()
    return "\n".join(
        [*lines, *(f"NOT REACHED: {what}" for what in missed)] if missed else [*lines, "all reached"]
    )


def main() -> None:
    """Run a whole fleet on one hub, and say what it cost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.whole", description=main.__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long to measure (default: 10)")
    parser.add_argument("--quick", action="store_true", help="measure for 20 seconds")
    parser.add_argument("--agents", type=int, default=Fleet.agents, help="(default: 10000)")
    parser.add_argument("--full", action="store_true", help="samples with all that can be known of each GPU")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    if (os.cpu_count() or 1) <= LOAD_CORE:
        parser.exit(1, "the hub and the load need a core each; this machine has one\n")
    os.sched_setaffinity(0, {LOAD_CORE})
    with tempfile.TemporaryDirectory(prefix="qubix-bench-") as folder:
        seconds = 21 if options.quick else max(21, round(options.minutes * 60) + 1)
        outcome = measure(Fleet(agents=options.agents, full=options.full), seconds, Path(folder))
    print(report(outcome))
    if options.json:
        options.json.write_text(json.dumps(asdict(outcome), indent=2) + "\n")
    sys.exit(1 if outcome.missed() else 0)


if __name__ == "__main__":
    main()
