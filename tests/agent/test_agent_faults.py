"""One agent through everything that may fail around it: it goes on, and what it tells is true."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from tests.agent.fake_nvml import GPU_IS_LOST, FakeNvml
from tests.agent.faults import Stage, check_heartbeats, check_truth
from tests.agent.running import NO_LIBRARY, provider, running
from tests.end_to_end.processes import hub_process, run, wait_for

HEARTBEAT_SECONDS = 15.0
"""A hub takes a provider that it does not hear for so long for unreachable."""

ENDS_WITHIN = 2.0


def last(seconds: float) -> None:
    """Let a fault last."""
    threading.Event().wait(seconds)


def go_through(stage: Stage, seconds: float) -> None:
    """Let everything fail, one after the other, each for so many seconds at least."""
    registered = len(stage.agent.said)
    stage.samples(2)

    stage.kill_hub()
    stage.clock.set(-3600)
    last(2 * seconds)
    stage.start_hub()
    assert stage.agent.registered(registered + 1) == stage.provider_id
    stage.samples(2)
    no_hole(stage)

    with stage.frozen_hub():
        # Longer than a step of the hub's history, and a sweep.
        last(max(seconds, 8.0))
    stage.samples(2)
    no_hole(stage)

    stage.heat(62, 45)
    stage.nvml.set_gpu(1, util="hang")
    stage.until_gpus_are("stale", "stale")
    last(seconds)
    stage.nvml.set_gpu(1, util="9 1")
    stage.until_gpus_are("ok", "ok")

    stage.nvml.set_gpu(0, lost=str(GPU_IS_LOST))
    stage.until_gpus_are("lost", "ok")
    stage.nvml.set_gpu(0, lost=None)
    stage.heat(63, 46)
    stage.until_gpus_are("ok", "ok")

    stage.clock.set(7200)
    stage.samples(2)


def no_hole(stage: Stage) -> None:
    """Wait until the hub knows all of the agent's life, or of the last ten minutes."""
    first = stage.heard[0].metrics["uptimeSeconds"] + time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    oldest = max(first, time.time() - 580)
    steps: list[float] = []

    def look() -> bool:
        steps[:] = stage.history()
        return bool(steps) and steps[0] <= oldest and all(b - a == 5 for a, b in pairwise(steps))

    wait_for(look, f"a history since {oldest} without a hole: {steps}", 30)


def check(stage: Stage) -> None:
    """Check what was heard, and that the agent lives and ends as it should, also where no hub answers."""
    assert stage.agent.process.poll() is None
    with stage.frozen_hub():
        asked = time.monotonic()
        stage.agent.process.send_signal(signal.SIGTERM)
        assert stage.agent.process.wait(10) == 0
        assert time.monotonic() - asked < ENDS_WITHIN
    check_heartbeats(stage, HEARTBEAT_SECONDS)
    check_truth(stage)
    assert not [line for line in stage.agent.complaints if "Traceback" in line], stage.agent.complaints


@pytest.mark.timeout(180)
def test_an_agent_among_faults(tmp_path: Path, nvml: FakeNvml) -> None:
    """Hub killed, hub frozen, NVML hanging, a GPU lost, the clock set: heartbeats go on, samples are true."""
    with Stage(tmp_path, nvml) as stage:
        go_through(stage, 2.0)
        check(stage)


@pytest.mark.soak
def test_an_agent_among_faults_for_long(tmp_path: Path, nvml: FakeNvml) -> None:
    """The same, again and again, with faults of half a minute."""
    ends = time.monotonic() + float(os.environ.get("QUBIX_SOAK_SECONDS") or 3_600)
    with Stage(tmp_path, nvml) as stage:
        go_through(stage, 30.0)
        while time.monotonic() < ends:
            go_through(stage, 30.0)
        check(stage)


@contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    """A filesystem of 64 KiB, mounted there for as long as the block runs."""
    directory.mkdir(mode=0o700)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", str(directory)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("no filesystem can be mounted here (only root may)")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def fill(directory: Path) -> Path:
    """Leave no room on a disk; gives the file that takes it."""
    path = directory / "full"
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return path
    raise AssertionError("the disk can't be filled")


def test_a_full_disk(tmp_path: Path) -> None:
    """With no room for its state an agent goes on, is the same after a restart, and says that it is full."""
    hub_home = tmp_path / "hub"
    with hub_process(hub_home) as (_, url), small_disk(tmp_path / "agent") as home:
        token = ("--token-file", str(hub_home / "tokens" / "provider"))
        wait_for((hub_home / "tokens" / "provider").exists, "the hub's token for agents")
        with running(home, url, *token) as agent:
            provider_id = agent.registered()
            fill(home)
            before = provider(url, provider_id)["metrics"].get("seq", 0)
            wait_for(
                lambda: provider(url, provider_id)["metrics"].get("seq", 0) >= before + 3,
                "three more samples",
            )
            assert provider(url, provider_id)["metrics"]["diskPercent"] > 99
            agent.process.send_signal(signal.SIGTERM)
            assert agent.process.wait(10) == 0
            assert agent.complaints == []
        with running(home, url, *token) as agent:
            assert agent.registered() == provider_id


def test_a_first_start_on_a_full_disk(tmp_path: Path) -> None:
    """An identity that can't be kept is none: one sentence, exit code 1, nothing half made; then it works."""
    with small_disk(tmp_path / "agent") as home:
        (home / "agent").mkdir(mode=0o700)
        full = fill(home)
        shown = run(["qubix-agent", "--hub", "ws://127.0.0.1:1"], home, **NO_LIBRARY)
        assert shown.returncode == 1
        assert shown.stderr.count("\n") == 1
        assert "No space left" in shown.stderr
        assert not (home / "agent" / "worker-id").exists()
        full.unlink()
        with running(home, "ws://127.0.0.1:1") as agent:
            agent.complained("connection refused")
            assert (home / "agent" / "worker-id").read_text().strip()
