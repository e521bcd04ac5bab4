"""`make gpu-check`: the agent's values beside those of a stand-in for nvidia-smi."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.gpu_comparison import RULES, compared
from tests.agent.fake_nvml import BIG, MIB, FakeNvml
from tests.end_to_end.processes import environment

ANSWERS = {
    "driver_version": "580.65.06",
    "index": "0",
    "uuid": BIG["uuid"],
    "name": "NVIDIA H200",
    "pci.bus_id": "00000000:41:00.0",
    "utilization.gpu": "90",
    "utilization.memory": "41",
    "memory.used": "70000",
    "memory.total": "143771",
    "temperature.gpu": "61",
    "temperature.memory": "74",
    "power.draw": "508.20",
    "power.draw.average": "[N/A]",
    "enforced.power.limit": "700.00",
    "clocks.sm": "1980",
    "clocks.mem": "3201",
    "pstate": "P0",
    "fan.speed": "35",
    "clocks_event_reasons.active": "0x0000000000000004",
    "ecc.errors.corrected.volatile.total": "5",
    "ecc.errors.uncorrected.volatile.total": "2",
    "remapped_rows.correctable": "3",
    "remapped_rows.uncorrectable": "1",
    "remapped_rows.pending": "Yes",
    "remapped_rows.failure": "No",
    "pcie.link.gen.current": "5",
    "pcie.link.gen.max": "5",
    "pcie.link.width.current": "8",
    "pcie.link.width.max": "16",
    "processes": f"{BIG['uuid']}, PID, 905, /somewhere/NAME",
    "instances": "",
}
"""What nvidia-smi would say of the stand-in's GPU, and of this process (PID, NAME), which holds it."""

SMI = f"""#!{sys.executable}
import pathlib, sys
lines = pathlib.Path(__file__).with_suffix(".txt").read_text().splitlines()
answers = dict(line.split("=", 1) for line in lines)
query = sys.argv[1] if len(sys.argv) > 1 else ""
if query.startswith("--query-gpu="):
    print(", ".join(answers[name] for name in query.split("=")[1].split(",")))
elif query.startswith("--query-compute-apps"):
    print(answers["processes"])
elif query == "-L":
    print("GPU 0: NVIDIA H200 (UUID: " + answers["uuid"] + ")")
    print(answers["instances"])
else:
    print("| NVIDIA-SMI 580.65.06   Driver Version: 580.65.06   CUDA Version: 13.0 |")
"""


def check(tmp_path: Path, nvml: FakeNvml | None, **answers: str) -> "subprocess.CompletedProcess[str]":
    """Run the check, with what nvidia-smi answers differently."""
    programs = tmp_path / "programs"
    programs.mkdir()
    smi = programs / "nvidia-smi"
    smi.write_text(SMI)
    smi.chmod(0o755)
    told = "\n".join(f"{name}={value}" for name, value in {**ANSWERS, **answers}.items())
    told = told.replace("PID", str(os.getpid())).replace("NAME", psutil.Process().name())
    smi.with_suffix(".txt").write_text(told)
    library: dict[str, Any] = nvml.environment if nvml is not None else {"LD_LIBRARY_PATH": str(programs)}
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_check", "--no-load", "--seconds", "0"],
        env=environment(tmp_path, PATH=str(programs), **library),
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )


@pytest.fixture
def one_gpu(nvml: FakeNvml) -> FakeNvml:
    """A stand-in for NVML with one GPU, which a process holds."""
    nvml.gpus.pop()
    nvml.set_gpu(0, compute=f"{os.getpid()}:{900 * MIB}")
    return nvml


def test_agreement(one_gpu: FakeNvml, tmp_path: Path) -> None:
    """Values that agree within their tolerances are a table and exit code 0."""
    ran = check(tmp_path, one_gpu)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "| `utilPercent` | 93 | 90 | ±10 | agrees |" in ran.stdout
    assert ran.stdout.rstrip().endswith("All values agree.")


@pytest.mark.parametrize(
    ("query", "answer", "member"),
    [
        ("temperature.gpu", "70", "tempC"),
        ("remapped_rows.pending", "No", "rowRemapPending"),
        ("fan.speed", "[N/A]", "fanPercent"),
        ("clocks_event_reasons.active", "0x0000000000000041", "throttle"),
        ("uuid", "GPU-another", "uuid"),
        ("processes", f"{BIG['uuid']}, PID, 905, /somewhere/else", "processes"),
        ("processes", "", "processes"),
        ("instances", "  MIG 1g.18gb Device 0: (UUID: MIG-0)", "MIG instances"),
    ],
)
def test_disagreement(one_gpu: FakeNvml, tmp_path: Path, query: str, answer: str, member: str) -> None:
    """One value that differs is named, and makes the exit code 1."""
    ran = check(tmp_path, one_gpu, **{query: answer})
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert any(f"`{member}`" in line for line in ran.stdout.splitlines() if "differs" in line)


def test_without_a_gpu(tmp_path: Path) -> None:
    """Where there is no GPU one sentence says so, and the exit code is 2."""
    ran = check(tmp_path, None)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "gpu-check: no NVIDIA GPU found (NVML not installed)\n"


def test_values_that_move() -> None:
    """A value may lie anywhere between the two answers of nvidia-smi, give or take the tolerance."""
    clock = next(rule for rule in RULES if rule.member == "smClockMhz")
    assert compared(clock, 1500, 345.0, 1980.0).agrees
    assert compared(clock, 2100, 345.0, 1980.0).agrees
    assert not compared(clock, 2300, 345.0, 1980.0).agrees
    assert not compared(clock, None, 345.0, 1980.0).agrees
    reasons = next(rule for rule in RULES if rule.member == "throttle")
    assert compared(reasons, frozenset({"idle"}), frozenset({"idle", "power cap"}), frozenset()).agrees
    assert not compared(reasons, frozenset(), frozenset({"idle"}), frozenset({"idle"})).agrees
