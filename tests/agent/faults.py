"""An agent among everything that may fail around it, and an independent account of what was true."""

import json
import os
import signal
import subprocess
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, Self

from qubix_tui.protocol.types import from_timestamp
from tests.agent.fake_nvml import FakeNvml
from tests.agent.running import RunningAgent, running
from tests.end_to_end.processes import hub_process, started, wait_for

SOURCE: Final = Path(__file__).with_name("shifted_clock.c")

LOOK_SECONDS: Final = 0.05
"""Between two independent readings of the machine."""

MOMENT_SECONDS: Final = 0.1
"""How exactly a sample tells when it was taken, and how long taking it may last."""


def boot_time() -> float:
    """Seconds since the machine was started: what samples tell as their uptime."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ShiftedClock:
    """The wall clock of one process, to be set.

    Args:
        directory: Where to build what shifts it.
    """

    def __init__(self, directory: Path) -> None:
        self._file = directory / "shift"
        self._library = directory / "shifted_clock.so"
        flags = ["-shared", "-fPIC", "-std=c11", "-Wall", "-Wextra", "-Werror"]
        subprocess.run(["cc", *flags, "-o", str(self._library), str(SOURCE)], check=True)
        self.shifts: list[tuple[float, int]] = []
        self._file.write_bytes(bytes(8))
        self.set(0)

    @property
    def environment(self) -> dict[str, Any]:
        """What a process needs to be shifted."""
        return {"LD_PRELOAD": str(self._library), "SHIFTED_CLOCK": str(self._file)}

    def set(self, seconds: int) -> None:
        """Let the process's wall clock differ by so much from now on."""
        with self._file.open("r+b") as file:
            file.write(seconds.to_bytes(8, "little", signed=True))
        self.shifts.append((boot_time(), seconds))


class Reading(NamedTuple):
    """The machine at one moment, read from the kernel's own files."""

    at: float
    total_ticks: int
    idle_ticks: int
    used_mb: float


class Witness(threading.Thread):
    """Reads the machine all along, independently of the agent."""

    def __init__(self) -> None:
        super().__init__()
        self._over = threading.Event()
        self.readings: list[Reading] = []

    def run(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            ticks = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
            lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
            memory = {words[0]: int(words[1]) for words in lines}
            used = (memory["MemTotal:"] - memory["MemAvailable:"]) / 1024
            self.readings.append(Reading(boot_time(), sum(ticks), ticks[3] + ticks[4], used))

    def end(self) -> None:
        """Read no more."""
        self._over.set()
        self.join()

    def used_mb(self, at: float) -> tuple[float, float]:
        """The least and the most memory that was in use about a moment."""
        near = [reading.used_mb for reading in self._around(at - 0.5, at + 0.5)]
        return min(near), max(near)

    def busy_percent(self, begin: float, end: float) -> tuple[float, float]:
        """The least and the most that all cores can have been busy between two moments."""
        outer = self._around(begin - MOMENT_SECONDS, end + MOMENT_SECONDS)
        inner = [reading for reading in outer if begin + MOMENT_SECONDS <= reading.at <= end - MOMENT_SECONDS]
        least = _busy_ticks(inner) if inner else 0
        ticks = (end - begin) * os.sysconf("SC_CLK_TCK") * (os.cpu_count() or 1)
        return 100 * least / ticks, 100 * _busy_ticks(outer) / ticks

    def _around(self, begin: float, end: float) -> list[Reading]:
        """The readings between two moments, the last one before and the first one after."""
        times = [reading.at for reading in self.readings]
        return self.readings[max(0, bisect_left(times, begin) - 1) : bisect_left(times, end) + 1]


def _busy_ticks(readings: list[Reading]) -> int:
    first, last = readings[0], readings[-1]
    return (last.total_ticks - last.idle_ticks) - (first.total_ticks - first.idle_ticks)


class Heard(NamedTuple):
    """One live sample, as a watcher of the hub got it."""

    at: float
    metrics: dict[str, Any]


class Stage:
    """One agent that runs throughout, a hub that does not, and who watches both.

    Args:
        directory: For everything.
        nvml: The agent's GPUs.
    """

    def __init__(self, directory: Path, nvml: FakeNvml) -> None:
        self.home = directory / "home"
        self._watchers = directory / "watchers"
        self._watcher_count = 0
        self.nvml = nvml
        self.clock = ShiftedClock(directory)
        self.temperatures: list[tuple[float, tuple[int, ...]]] = []
        self.heard: list[Heard] = []
        self.presence: list[tuple[float, float]] = []
        """When there was a hub to hear: from, to."""
        self.witness = Witness()
        self.url = ""
        self._open = ExitStack()
        self._since: float | None = None

    def __enter__(self) -> Self:
        self.heat(61, 44)
        self.witness.start()
        self._open.callback(self.witness.end)
        self.start_hub()
        self.began = boot_time()
        self.agent: RunningAgent = self._open.enter_context(
            running(self.home, self.url, **self.nvml.environment, **self.clock.environment)
        )
        self.provider_id = self.agent.registered()
        return self

    def __exit__(self, *_: object) -> None:
        self.gone()
        self._open.close()

    def _listen(self, stream: IO[str]) -> None:
        for line in stream:
            event = json.loads(line)
            if event["type"] == "GPU_METRICS_UPDATE":
                self.heard.append(Heard(boot_time(), event["data"]["metrics"]))

    def _watch(self, *arguments: str) -> "subprocess.Popen[str]":
        """Watch the hub, with a home of its own: with a command everything ends that has the same one."""
        self._watcher_count += 1
        home = self._watchers / str(self._watcher_count)
        return self._open.enter_context(started(["qubix", "watch", *arguments, "--hub", self.url], home))

    def start_hub(self) -> None:
        """Start a hub where the one before was."""
        port = int(self.url.rsplit(":", 1)[1]) if self.url else 0
        self.hub, self.url = self._open.enter_context(hub_process(self.home, port=port))
        watcher = self._watcher = self._watch("provider:*")
        assert watcher.stdout is not None
        listener = threading.Thread(target=self._listen, args=(watcher.stdout,))
        listener.start()
        self._open.callback(listener.join)
        self._open.callback(watcher.kill)
        self.back()

    def kill_hub(self) -> None:
        """Let the hub be gone without a word."""
        self.gone()
        for process in (self.hub, self._watcher):
            process.kill()
            process.wait()

    def back(self) -> None:
        """From now on there is a hub to hear."""
        self._since = boot_time()

    def gone(self) -> None:
        """From now on there is none."""
        if self._since is not None:
            self.presence.append((self._since, boot_time()))
            self._since = None

    @contextmanager
    def frozen_hub(self) -> Iterator[None]:
        """Stop the hub, as a sleeping laptop does, for as long as the block runs."""
        self.gone()
        self.hub.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.hub.send_signal(signal.SIGCONT)
            self.back()

    def heat(self, *temperatures: int) -> None:
        """Set the GPUs' temperatures."""
        for index, temperature in enumerate(temperatures):
            self.nvml.set_gpu(index, temp=str(temperature))
        self.temperatures.append((boot_time(), temperatures))

    def samples(self, count: int) -> None:
        """Wait for so many more samples."""
        before = len(self.heard)
        wait_for(lambda: len(self.heard) >= before + count, f"{count} samples; {self.agent.complaints}")

    def until_gpus_are(self, *states: str) -> None:
        """Wait until a sample shows the GPUs in these states."""
        before = len(self.heard)

        def look() -> bool:
            told = [[gpu["state"] for gpu in each.metrics["gpus"]] for each in self.heard[before:]]
            return list(states) in told

        wait_for(look, f"GPUs that are {states}", 60)

    def history(self) -> list[float]:
        """The beginning of each step that the hub remembers."""
        watcher = self._watch(f"provider:{self.provider_id}", "--snapshot")
        assert watcher.stdout is not None
        page = json.loads(watcher.stdout.readline())["data"]
        watcher.kill()
        return [from_timestamp(point["timestamp"]) for point in page["history"]]


def check_heartbeats(stage: Stage, longest: float) -> None:
    """Check that no hub that was there waited longer than ``longest`` seconds for a sample."""
    arrivals = [heard.at for heard in stage.heard]
    for begin, end in stage.presence:
        within = [begin, *(at for at in arrivals if begin <= at <= end), end]
        gaps = [later - earlier for earlier, later in pairwise(within)]
        assert max(gaps) <= longest, (begin, end, gaps)


def check_truth(stage: Stage) -> None:
    """Check every sample against what was read, and set, independently."""
    sequence = [heard.metrics["seq"] for heard in stage.heard]
    assert all(later > earlier for earlier, later in pairwise(sequence)), sequence
    uptimes = [heard.metrics["uptimeSeconds"] for heard in stage.heard]
    assert all(later > earlier for earlier, later in pairwise(uptimes)), uptimes
    for number, heard in enumerate(stage.heard):
        metrics, at = heard.metrics, heard.metrics["uptimeSeconds"]
        least, most = stage.witness.used_mb(at)
        assert least - 64 <= metrics["ramUsedMb"] <= most + 64, metrics
        _check_clock(stage, metrics, at)
        for gpu in metrics["gpus"]:
            _check_gpu(stage, gpu, at)
        if number and sequence[number] == sequence[number - 1] + 1:
            low, high = stage.witness.busy_percent(uptimes[number - 1], at)
            assert low - 10 <= metrics["cpuPercent"] <= high + 10, (metrics["cpuPercent"], low, high)


def _check_clock(stage: Stage, metrics: dict[str, Any], at: float) -> None:
    """``sampledAt`` is the provider's clock at the reading, wherever somebody has set it."""
    wall = time.time() - boot_time() + at
    differences = [
        from_timestamp(metrics["sampledAt"]) - wall - shift for shift in _about(stage.clock.shifts, at)
    ]
    assert any(abs(difference) < 1 for difference in differences), differences


def _check_gpu(stage: Stage, gpu: dict[str, Any], at: float) -> None:
    """A GPU that is ``ok`` tells what was set; one that is lost or stale tells nothing new."""
    told = gpu["tempC"]
    if gpu["state"] == "ok":
        assert told in [temperatures[gpu["index"]] for temperatures in _about(stage.temperatures, at)], gpu
    elif gpu["state"] == "lost":
        assert (told, gpu["utilPercent"], gpu["powerW"]) == (None, None, None)
    else:
        ever = {temperatures[gpu["index"]] for set_at, temperatures in stage.temperatures if set_at <= at}
        assert told is None or told in ever


def _about(settings: list[tuple[float, Any]], at: float) -> list[Any]:
    """What was set at a moment, give or take the second that a reading may take."""
    before = [setting for set_at, setting in settings if set_at <= at + 0.2]
    since = [setting for set_at, setting in settings if at - 1.5 <= set_at <= at + 1.5]
    return [before[-1], *before[-2:-1][: bool(since)], *since]
