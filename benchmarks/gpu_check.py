"""Compares every value that the agent tells of NVIDIA GPUs with nvidia-smi, idle and under load.

    python -m benchmarks.gpu_check              as `make gpu-check` does
    python -m benchmarks.gpu_check --no-load    without making a load

It prints one table a GPU and state, in Markdown. Exit codes: 0 all agree, 1 something differs, 2 there is
nothing to compare (no NVIDIA GPU, no nvidia-smi).
"""

import argparse
import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Final

import msgspec

from agent.sensors.gpu import GpuReading, GpuSensor
from benchmarks.gpu_comparison import NOT_TOLD, RULES, Finding, compared, compared_processes, parsed, shown
from qubix_tui.protocol.records import GpuMetrics

WATCHED_SECONDS: Final = 6
"""How long the agent reads before it is compared: long enough for a second reading of the energy counter."""

LOAD_DEADLINE: Final = 60.0


class NothingToCompare(Exception):
    """The message says why, in one sentence."""


class Smi(msgspec.Struct, frozen=True):
    """One answer of nvidia-smi, by UUID and the name of the query."""

    gpus: dict[str, dict[str, str]]
    processes: list[list[str]]
    instances: dict[str, frozenset[str]]
    """MIG instances of each GPU."""
    cuda_version: str


def ask_smi() -> Smi:
    """Ask nvidia-smi for all that is compared.

    Raises:
        NothingToCompare: It is not there, or fails.
    """
    names = ["driver_version", *(rule.query for rule in RULES)]
    gpus = [dict(zip(names, row, strict=True)) for row in _csv(f"--query-gpu={','.join(names)}")]
    processes = _csv("--query-compute-apps=gpu_uuid,pid,used_memory,process_name")
    version = re.search(r"CUDA Version: *([0-9.]+)", _run())
    return Smi(
        {gpu["uuid"]: gpu for gpu in gpus},
        processes,
        _instances(_run("-L")),
        version.group(1) if version else "N/A",
    )


def _instances(listing: str) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    whole = ""
    for uuid in re.findall(r"UUID: ((?:GPU|MIG)-[^)]+)", listing):
        if uuid.startswith("GPU-"):
            whole = uuid
            found[whole] = frozenset()
        else:
            found[whole] |= {uuid}
    return found


def _csv(query: str) -> list[list[str]]:
    lines = _run(query, "--format=csv,noheader,nounits").splitlines()
    return [[cell.strip() for cell in line.split(", ")] for line in lines if line.strip()]


def _run(*arguments: str) -> str:
    try:
        return subprocess.run(
            ["nvidia-smi", *arguments], capture_output=True, text=True, check=True, timeout=60
        ).stdout
    except FileNotFoundError:
        raise NothingToCompare("nvidia-smi is not installed, so there is nothing to compare with") from None
    except subprocess.CalledProcessError as error:
        said = (error.stdout + error.stderr).strip().partition("\n")[0]
        raise NothingToCompare(f"nvidia-smi fails: {said}") from None


def watched(seconds: float) -> tuple[Smi, GpuReading, Smi]:
    """Read with the agent's own sensor once a second, then compare the last reading with what is around it.

    Raises:
        NothingToCompare: There is no NVIDIA GPU.
    """
    sensor = GpuSensor()
    try:
        deadline = time.monotonic() + 40
        reading = _read(sensor)
        while not reading.settled and time.monotonic() < deadline:
            reading = _read(sensor)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(1)
            reading = _read(sensor)
        if not reading.gpus:
            raise NothingToCompare(reading.note or "no NVIDIA GPU found")
        before = ask_smi()
        reading = _read(sensor)
        return before, reading, ask_smi()
    finally:
        sensor.close()


def _read(sensor: GpuSensor) -> GpuReading:
    sensor.ask()
    return sensor.read()


def findings(gpu: GpuMetrics, reading: GpuReading, before: Smi, after: Smi) -> list[Finding]:
    """Judge all values of one GPU."""
    uuid = gpu.uuid or ""
    unknown = dict.fromkeys([rule.query for rule in RULES] + ["driver_version"], "N/A")
    first, last = before.gpus.get(uuid, unknown), after.gpus.get(uuid, unknown)
    members = msgspec.to_builtins(gpu)
    if members["throttle"] is not None:
        members["throttle"] = frozenset(members["throttle"])
    versions = [
        ("driverVersion", reading.driver_version, first["driver_version"]),
        ("cudaVersion", reading.cuda_version, before.cuda_version),
    ]
    return [
        *(Finding(name, ours or "—", smi, "same", ours == smi) for name, ours, smi in versions),
        *(
            compared(
                rule, members[rule.member], parsed(rule, first[rule.query]), parsed(rule, last[rule.query])
            )
            for rule in RULES
        ),
        compared_processes(gpu, after.processes),
        _compared_instances(gpu, reading, after),
    ]


def _compared_instances(gpu: GpuMetrics, reading: GpuReading, smi: Smi) -> Finding:
    ours = frozenset(each.uuid for each in reading.gpus if each.uuid and each.parent_uuid == gpu.uuid)
    theirs = smi.instances.get(gpu.uuid or "", frozenset())
    return Finding("MIG instances", shown(ours), shown(theirs), "same", ours == theirs)


def checked(state: str, seconds: float) -> int:
    """Print the tables of all GPUs in one state; gives how many values differ."""
    before, reading, after = watched(seconds)
    differing = 0
    for gpu in (gpu for gpu in reading.gpus if gpu.parent_index is None):
        found = findings(gpu, reading, before, after)
        differing += sum(not finding.agrees for finding in found)
        print(f"\n### {state}: GPU {gpu.index}, {gpu.name} ({gpu.state})\n")
        print("| value | agent | nvidia-smi | within | |\n|---|---|---|---|---|")
        for one in found:
            verdict = "agrees" if one.agrees else "**differs**"
            print(f"| `{one.member}` | {one.agent} | {one.smi} | {one.within} | {verdict} |")
        told = msgspec.to_builtins(gpu)
        rest = ", ".join(f"`{member}` {'—' if told[member] is None else told[member]}" for member in NOT_TOLD)
        print(f"\nNot told by nvidia-smi: {rest}.")
    return differing


@contextlib.contextmanager
def load() -> Iterator[str | None]:
    """Keep all GPUs busy meanwhile; gives None, or why that can't be done."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.gpu_load"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        said = worker.stdout.readline().strip()
        yield None if said == "ready" else said or "the load ended by itself"
    finally:
        worker.stdin.close()
        try:
            worker.wait(LOAD_DEADLINE)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def main() -> int:
    """Compare, and say what came of it."""
    parser = argparse.ArgumentParser(prog="gpu_check", description=__doc__.partition("\n")[0])
    parser.add_argument("--no-load", action="store_true", help="do not make a load")
    parser.add_argument("--seconds", type=float, default=WATCHED_SECONDS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    try:
        differing = checked("Idle", arguments.seconds)
        if not arguments.no_load:
            with load() as missing:
                if missing is None:
                    differing += checked("Under load", arguments.seconds)
                else:
                    print(f"\nNot compared under load: {missing}.")
    except NothingToCompare as reason:
        print(f"gpu-check: {reason}", file=sys.stderr)
        return 2
    print(f"\n{differing} values differ." if differing else "\nAll values agree.")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
