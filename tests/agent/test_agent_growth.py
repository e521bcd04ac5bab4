"""An agent that runs for long takes no more memory, and no more files, than one that has just begun."""

import os
import threading
import time
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from tests.agent.fake_nvml import FakeNvml
from tests.agent.running import child_of, running
from tests.end_to_end.processes import hub_process, wait_for

MIB = 2**20

SETTLE_SECONDS = 660.0
"""Until what is kept for a hub that might go away, ten minutes of samples, is all there."""

EVERY_SECONDS = 5.0


class Holding(NamedTuple):
    """What the agent's two processes hold."""

    resident: int
    files: int


def holding(pids: list[int]) -> Holding:
    """Look at processes."""
    processes = [psutil.Process(pid) for pid in pids]
    return Holding(
        sum(process.memory_info().rss for process in processes), sum(each.num_fds() for each in processes)
    )


@pytest.mark.soak
def test_it_does_not_grow(tmp_path: Path, nvml: FakeNvml) -> None:
    """After an hour with a hub and GPUs resident memory and descriptors are what they were."""
    seconds = float(os.environ.get("QUBIX_SOAK_SECONDS") or 3_600)
    home = tmp_path / "home"
    with hub_process(home) as (_, url), running(home, url, **nvml.environment) as agent:
        agent.registered()
        child = wait_for(lambda: child_of(agent), "the NVML process")
        pids = [agent.process.pid, child]
        pause = threading.Event()
        began = time.monotonic()
        pause.wait(min(SETTLE_SECONDS, seconds / 3))
        first = holding(pids)
        seen = [first]
        while time.monotonic() < began + seconds:
            pause.wait(EVERY_SECONDS)
            seen.append(holding(pids))
        assert child_of(agent) == child
    assert max(each.files for each in seen) <= first.files, seen
    assert max(each.resident for each in seen) <= first.resident + MIB, seen
