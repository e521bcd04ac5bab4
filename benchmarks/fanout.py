"""What the hub's hot paths cost, beside what people would pick instead.

``python -m benchmarks.fanout`` (``make bench``). Each server is pinned to core 0, the clients (``load.c``)
to core 1; all on loopback. What counts is work per second of processor time of the server's process, in user
and kernel, so that other work on the machine shows as little as may be. The servers take turns, and a figure
is the median of several short runs. After each run the bytes that came are checked against what was
published: a server that drops does not count.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks import work
from benchmarks.contestants import (
    Contestant,
    Running,
    WebSocketServer,
    contestants,
    frame,
    tokens_file,
    upgrade,
)
from benchmarks.processes import LOAD_CORE, Load, compiled
from qubix_tui.protocol.tokens import Role, new_token

RUNS = 5
SUBSCRIBERS, AGENTS, IDLE = 1_000, 500, 4_000
INGEST_RATE = 8_000
DRAIN_SECONDS = 60.0

Results = dict[str, list[float]]


@dataclass(frozen=True)
class Work:
    """One thing that is measured.

    Attributes:
        title: Its name.
        unit: What the figures are.
        measure: Runs it on all contestants.
        less_is_better: How ratios are to be read.
    """

    title: str
    unit: str
    measure: Callable[["Stage", int], Results]
    less_is_better: bool = False


@dataclass(frozen=True)
class Stage:
    """What all measurements need."""

    folder: Path
    load: Path
    contestants: Sequence[Contestant]
    tokens: Sequence[str]


def await_count(count: Callable[[], int], expected: int) -> None:
    """Wait until all has come.

    Raises:
        RuntimeError: It did not, or more came.
    """
    deadline = time.monotonic() + DRAIN_SECONDS
    while (seen := count()) < expected and time.monotonic() < deadline:
        time.sleep(0.02)
    if seen != expected:
        raise RuntimeError(f"{seen} came of {expected}")


def settle(load: Load) -> None:
    """Wait until nothing more comes, and count from zero."""
    before = -1
    while (now := load.received()) != before:
        before = now
        time.sleep(0.1)
    load.reset()


def fan_out(
    events: int, every: float, seconds: float, subscribers: int = SUBSCRIBERS
) -> Callable[[Stage, int], Results]:
    """Give the measurement of deliveries per second of processor time."""

    def run(contestant: Contestant, server: Running, load: Load) -> float:
        load.say(contestant.keep_alive)
        settle(load)
        before = server.process.cpu_seconds()
        published = server.publish(events, every, seconds)
        await_count(load.received, published * subscribers * contestant.delivery_bytes)
        return published * subscribers / (server.process.cpu_seconds() - before)

    def measure(stage: Stage, runs: int) -> Results:
        with ExitStack() as stack:
            playing = []
            for contestant in stage.contestants:
                server = contestant.start(stage.folder)
                stack.enter_context(server.process)
                hellos = [contestant.hello(server.port)] * subscribers
                load = Load(stage.load, server.port, hellos, contestant.ready, stage.folder)
                playing.append((contestant, server, stack.enter_context(load)))
            results: Results = {contestant.name: [] for contestant, _, _ in playing}
            for _ in range(runs):
                for contestant, server, load in playing:
                    results[contestant.name].append(run(contestant, server, load))
            return results

    return measure


def ingest(stage: Stage, runs: int) -> Results:
    """Measure samples taken per second of processor time."""
    sample = {"metrics": {**work.sample(), "gpuNote": "x" * 60}}
    message = frame(work.as_json({"type": "GPU_METRICS_UPDATE", "data": sample}))
    with ExitStack() as stack:
        playing = []
        for contestant in stage.contestants:
            if not isinstance(contestant, WebSocketServer):
                continue
            server = contestant.start(stage.folder)
            stack.enter_context(server.process)
            hellos = [
                upgrade(server.port, token) + frame(_register(number))
                for number, token in enumerate(stage.tokens)
            ]
            load = Load(stage.load, server.port, hellos, '"registered"', stage.folder, message)
            playing.append((contestant.name, server.process, stack.enter_context(load)))
        results: Results = {name: [] for name, _, _ in playing}
        sent = dict.fromkeys(results, 0)
        for _ in range(runs):
            for name, process, load in playing:
                before = process.cpu_seconds()
                count = load.send(INGEST_RATE, 2.0)
                sent[name] += count
                await_count(lambda process=process: int(process.ask("received")), sent[name])  # type: ignore[misc]
                results[name].append(count / (process.cpu_seconds() - before))
        return results


def idle(stage: Stage, runs: int) -> Results:
    """Measure the resident memory of a subscribed connection on which nothing happens, in KiB."""
    results: Results = {contestant.name: [] for contestant in stage.contestants}
    for _ in range(min(runs, 3)):
        for contestant in stage.contestants:
            server = contestant.start(stage.folder)
            with server.process:
                hellos = [contestant.hello(server.port)] * IDLE
                # What comes with the first client is not what each further one costs.
                with Load(stage.load, server.port, hellos[:1], contestant.ready, stage.folder):
                    before = server.process.resident_kib()
                    with Load(stage.load, server.port, hellos, contestant.ready, stage.folder) as load:
                        settle(load)
                        grown = server.process.resident_kib() - before
            results[contestant.name].append(grown / IDLE)
    return results


def _register(number: int) -> bytes:
    return work.as_json(
        {"type": "provider:register", "data": {"workerId": f"bench-{number}", "instance": f"i{number}"}}
    )


WORKS = {
    "burst": Work(
        "bursts of 50 events per 10 ms, 1,000 subscribers", "deliveries / CPU-s", fan_out(50, 0.010, 2.0)
    ),
    "single": Work(
        "single events, 40 a second, 1,000 subscribers", "deliveries / CPU-s", fan_out(1, 0.025, 3.0)
    ),
    "ingest": Work("ingest: 500 agents, 8,000 samples a second", "samples / CPU-s", ingest),
    "idle": Work("an idle subscribed connection, of 4,000", "KiB", idle, less_is_better=True),
}


def table(work_done: Work, results: Results) -> list[str]:
    """Write one measurement as rows of a Markdown table."""
    medians = {name: statistics.median(values) for name, values in results.items()}
    node = medians.get("node-ws")
    lines = []
    for name, values in results.items():
        ratio = "–" if node is None else f"{medians[name] / node:.2f}×"
        spread = f"{_figure(min(values))} – {_figure(max(values))}"
        lines.append(f"| {work_done.title} | {name} | {_figure(medians[name])} | {spread} | {ratio} |")
    return lines


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.1f}"


def main() -> None:
    """Run the benchmarks, and print their table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fanout", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help="one run of each in place of five")
    parser.add_argument("--only", choices=WORKS, action="append", help="measure only this (may be repeated)")
    parser.add_argument("--against", action="append", help="only this server (may be repeated)")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table there")
    options = parser.parse_args()
    runs = 1 if options.quick else RUNS
    if (os.cpu_count() or 1) <= LOAD_CORE:
        parser.exit(1, "the servers and the load need a core each; this machine has one\n")
    os.sched_setaffinity(0, {LOAD_CORE})
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory(prefix="qubix-bench-") as name:
        folder = Path(name)
        tokens = [new_token(Role.PROVIDER) for _ in range(AGENTS)]
        tokens_file(folder).write_text("\n".join(tokens))
        playing = [
            contestant
            for contestant in contestants(folder)
            if not options.against or contestant.name in options.against
        ]
        stage = Stage(folder, compiled("load", folder), playing, tokens)
        lines = [
            "| work | server | median | lowest – highest | against node-ws |",
            "|---|---|---:|---:|---:|",
        ]
        print("\n".join(lines))
        for key in options.only or WORKS:
            for line in table(WORKS[key], WORKS[key].measure(stage, runs)):
                print(line, flush=True)
                lines.append(line)
    load = ", ".join(f"{average:.1f}" for average in os.getloadavg())
    print(f"{runs} alternating runs each; load average {load}")
    if options.markdown:
        options.markdown.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
