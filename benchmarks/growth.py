"""What the hub costs as there are more of them: subscribers of one channel, and agents at 1 Hz.

``python -m benchmarks.growth`` prints the figures, and draws them into ``docs/benchmarks/growth.svg``. Each
line is drawn beside one through its first point and zero with the same slope throughout: what grows in
proportion lies on it.
"""

import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contestants import WebSocketServer, contestants, tokens_file
from benchmarks.fanout import Stage, fan_out
from benchmarks.plot import Line, Panel, draw
from benchmarks.processes import LOAD_CORE, ROOT, compiled
from benchmarks.whole import Fleet, measure

SUBSCRIBERS = (100, 1_000, 4_000)
AGENTS = (100, 1_000, 10_000)
RUNS = 3
FLEET_SECONDS = 21

PICTURE = ROOT.parent / "docs" / "benchmarks" / "growth.svg"


def fan_out_cost(stage: Stage, subscribers: int, events: int, every: float) -> float:
    """Give the processor time of one event, in microseconds."""
    results = fan_out(events, every, 1.5, subscribers)(stage, RUNS)
    return subscribers / statistics.median(results["qubix"]) * 1e6


def fleet_cost(agents: int) -> float:
    """Give the hub's share of a core, with a console on the digest and ten clients on one provider each."""
    with tempfile.TemporaryDirectory(prefix="qubix-bench-") as folder:
        outcome = measure(Fleet(agents=agents, consoles=1, watchers=10), FLEET_SECONDS, Path(folder))
    return outcome.cpu[0]


def row(name: str, counts: Sequence[int], costs: Sequence[float], unit: str) -> str:
    """Write one line of the table."""
    cells = (f"{count:,}: {cost:,.3g} {unit}" for count, cost in zip(counts, costs, strict=True))
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Measure, print and draw."""
    os.sched_setaffinity(0, {LOAD_CORE})
    with tempfile.TemporaryDirectory(prefix="qubix-bench-") as name:
        folder = Path(name)
        tokens_file(folder).write_text("")
        hub = [one for one in contestants(folder) if isinstance(one, WebSocketServer) and one.name == "qubix"]
        stage = Stage(folder, compiled("load", folder), hub, ())
        bursts = [fan_out_cost(stage, count, 50, 0.010) for count in SUBSCRIBERS]
        print(row("an event, in bursts of 50 per 10 ms", SUBSCRIBERS, bursts, "µs"), flush=True)
        singles = [fan_out_cost(stage, count, 1, 0.025) for count in SUBSCRIBERS]
        print(row("an event, 40 a second", SUBSCRIBERS, singles, "µs"), flush=True)
    shares = [fleet_cost(count) * 100 for count in AGENTS]
    print(row("the hub with agents at 1 Hz", AGENTS, shares, "% of a core"), flush=True)
    PICTURE.write_text(
        draw(
            [
                Panel(
                    "An event to all subscribers",
                    "subscribers",
                    "µs of processor time",
                    [Line("40 a second", SUBSCRIBERS, singles), Line("bursts of 50", SUBSCRIBERS, bursts)],
                ),
                Panel("A fleet at 1 Hz", "agents", "% of one core", [Line("small samples", AGENTS, shares)]),
            ]
        )
    )


if __name__ == "__main__":
    main()
