"""The GPUs as a sample shows them: current, stale or lost, whatever becomes of the process that reads them.

The rules: a GPU that was seen once is never forgotten, it is `lost` until it is back (by UUID). What is not
current is `stale`, with the values last read for ten seconds and none after that. A child process that hangs,
crashes, or says that the driver has to be initialised again is replaced, later each time it happens again.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec
import psutil

from agent.sensors.base import Monotonic, one_line
from agent.sensors.nvml_process import ChildGone, NvmlProcess, library_present
from agent.sensors.offer import Offer
from qubix_tui.protocol.records import GpuInfo, GpuMetrics, GpuProcess

START_DEADLINE: Final = 30.0
"""Seconds for the first answer: the driver initialises every GPU, one after the other."""

ANSWER_DEADLINE: Final = 5.0
"""Seconds for every other answer; a child that is later is given up."""

PATIENCE: Final = 0.4
"""Seconds that one sample waits for the GPUs."""

STALE_VALUES_SECONDS: Final = 10.0
"""How long values are shown that could not be read again."""

STEADY_SECONDS: Final = 60.0
"""A child that answered for so long was a success: the next failure counts as the first."""

BACKOFF: Final = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)

LOOK_FOR_LIBRARY_SECONDS: Final = 10.0

END_SECONDS: Final = 0.6
"""How long the end of a child is waited for: more than it needs, unless it hangs in the driver."""

MAX_STUCK: Final = 3
"""So many given-up children that do not end (they hang in the driver): no more are started."""

NOT_INSTALLED: Final = "no NVIDIA GPU found (NVML not installed)"
NO_GPU: Final = "no NVIDIA GPU found"
STARTING: Final = "waiting for the NVIDIA driver"
LATE: Final = "NVML does not answer, trying again"
CRASHED: Final = "NVML crashed, trying again"
STUCK: Final = "NVML hangs in the driver; restart the machine or reload the driver"

_OVER_NOTES: Final = {
    "library_not_found": NOT_INSTALLED,
    "driver_not_loaded": "the NVIDIA driver is not loaded",
    "version_mismatch": "NVML does not fit the NVIDIA driver; reload the driver or restart the machine",
    "uninitialized": "NVML lost, trying again",
}

_CALM: Final = frozenset({NOT_INSTALLED, NO_GPU, STARTING})
"""Notes that are no news for a log."""

_logger = logging.getLogger("qubix_agent")


class Child(Protocol):
    """What this module needs of a `NvmlProcess`."""

    @property
    def pid(self) -> int: ...  # noqa: D102 - as there
    def ask(self) -> None: ...  # noqa: D102
    def take(self, patience: float) -> bytes | None: ...  # noqa: D102
    def end(self) -> None: ...  # noqa: D102
    def is_gone(self) -> bool: ...  # noqa: D102
    def wait(self, timeout: float) -> bool: ...  # noqa: D102


class Answer(msgspec.Struct, rename="camel", frozen=True):
    """One line of the child: its GPUs, or why there is nothing more to be had (``over``)."""

    gpus: list[GpuMetrics] = []
    driver_version: str | None = None
    cuda_version: str | None = None
    unified: list[int] = []
    """Indices of the GPUs that have no memory of their own."""
    remarks: list[str] = []
    cpu_seconds: float = 0.0
    """Processor time of the child since it was started."""
    over: str | None = None


class GpuReading(NamedTuple):
    """The GPUs of one sample, and what is known of the driver."""

    gpus: list[GpuMetrics]
    note: str | None
    """Why something is missing, in words; None when nothing is."""
    identities: list[GpuInfo]
    """Every GPU that is offered and was seen since the agent started, the lost ones too."""
    driver_version: str | None
    cuda_version: str | None
    unified: frozenset[int]
    """Indices of the GPUs that share the host's memory: their own memory values are None."""
    settled: bool
    """Whether there has been an answer, with GPUs or without."""
    child_cpu_seconds: float = 0.0
    """Processor time of the child so far."""


NO_READING: Final = GpuReading([], STARTING, [], None, None, frozenset(), settled=False)
"""What is known before the first one."""


class GpuSensor:
    """Reads all NVIDIA GPUs through a child process.

    `ask` and `read` are two steps so that the child reads the GPUs while the caller reads something else.

    Args:
        start: Starts a child.
        present: Whether the library can be found at all.
        offer: Which GPUs are spoken of.
        monotonic: The clock of all deadlines.
        backoff: Seconds before the first, second, … start after a failure; the last one repeats.
    """

    def __init__(
        self,
        *,
        start: Callable[[], Child] = NvmlProcess,
        present: Callable[[], bool] = library_present,
        offer: Offer | None = None,
        monotonic: Monotonic = time.monotonic,
        backoff: Sequence[float] = BACKOFF,
    ) -> None:
        self._start = start
        self._present = present
        self._offer = offer or Offer()
        self._monotonic = monotonic
        self._backoff = backoff
        self._decoder = msgspec.json.Decoder(Answer)
        self._names = ProcessNames()

        self._child: Child | None = None
        self._stuck: list[Child] = []
        self._started_at = 0.0
        self._asked_at: float | None = None
        self._has_answered = False
        self._failures = 0
        self._next_start = 0.0

        self._known: dict[str, GpuMetrics] = {}
        self._read_at = 0.0
        self._fresh = False
        self._note: str | None = STARTING
        self._settled = False
        self._answer = Answer()

    @property
    def child_pid(self) -> int | None:
        """Process id of the child, if there is one."""
        return None if self._child is None else self._child.pid

    def ask(self) -> None:
        """Begin a reading: start the child where one is due, and ask it."""
        now = self._monotonic()
        self._stuck = [child for child in self._stuck if not child.is_gone()]
        if self._child is None and now >= self._next_start:
            self._try_to_start(now)
        if self._child is not None and self._asked_at is None:
            try:
                self._child.ask()
            except ChildGone as error:
                self._fail(CRASHED, str(error))
            else:
                self._asked_at = now

    def read(self) -> GpuReading:
        """End a reading: give what the child answered in time, or what is still known."""
        self._fresh = False
        if self._child is not None and self._asked_at is not None:
            self._await_answer(self._child, self._asked_at)
        now = self._monotonic()
        return GpuReading(
            gpus=[self._shown(gpu, now) for gpu in self._sorted()],
            note=self._note,
            identities=[
                GpuInfo(uuid=gpu.uuid, name=gpu.name, mem_total_mb=gpu.mem_total_mb) for gpu in self._sorted()
            ],
            driver_version=one_line(self._answer.driver_version),
            cuda_version=one_line(self._answer.cuda_version),
            unified=frozenset(self._answer.unified) & {gpu.index for gpu in self._known.values()},
            settled=self._settled,
            child_cpu_seconds=self._answer.cpu_seconds if self._has_answered else 0.0,
        )

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.end()
            self._stuck.append(self._child)
            self._child = None
        for child in self._stuck:
            child.wait(END_SECONDS)

    def _try_to_start(self, now: float) -> None:
        if not self._present():
            self._next_start = now + LOOK_FOR_LIBRARY_SECONDS
            self._set_note(_OVER_NOTES["library_not_found"])
            self._settled = True
            return
        if len(self._stuck) >= MAX_STUCK:
            self._set_note(STUCK)
            return
        self._started_at, self._has_answered = now, False
        try:
            self._child = self._start()
        except OSError as error:
            self._fail(CRASHED, f"it can't be started: {error.strerror}")

    def _await_answer(self, child: Child, asked_at: float) -> None:
        try:
            # One that was late already is not waited for again: host values must not come late with it.
            line = child.take(PATIENCE if self._monotonic() - asked_at < PATIENCE else 0)
            if line is None:
                deadline = ANSWER_DEADLINE if self._has_answered else START_DEADLINE
                if self._monotonic() - asked_at > deadline:
                    self._fail(LATE, f"no answer within {deadline:g} s")
                return
            answer = self._decoder.decode(line)
        except ChildGone as error:
            self._fail(CRASHED, str(error))
        except msgspec.MsgspecError as error:
            self._fail(CRASHED, f"its answer can't be read: {error}")
        else:
            self._asked_at = None
            self._settled = True
            self._take(answer)

    def _take(self, answer: Answer) -> None:
        now = self._monotonic()
        for remark in answer.remarks:
            _logger.warning("%s", remark)
        if answer.over is not None:
            self._known = {key: lost(gpu) for key, gpu in self._known.items()}
            self._fail(_OVER_NOTES.get(answer.over, f"NVML failed: {one_line(answer.over)}"), answer.over)
            return
        self._answer = answer
        self._has_answered = self._fresh = True
        self._read_at = now
        self._note_gpus([gpu for gpu in answer.gpus if self._offer.includes(gpu)])
        missing = [gpu.index for gpu in self._sorted() if gpu.state == "lost"]
        if missing:
            self._set_note(f"{_listed(missing)} lost, trying again")
            # A lost GPU comes back only to a new process.
            if now - self._started_at >= self._delay():
                self._fail(self._note or "", "to look for the lost GPU", now=True)
            return
        if now - self._started_at >= STEADY_SECONDS:
            self._failures = 0
        if absent := self._offer.missing(self._known.values()):
            self._set_note(f"offered, but not there: GPU {', '.join(absent)}")
        elif not self._known:
            self._set_note(NO_GPU)
        elif answer.unified:
            self._set_note(f"{_listed(answer.unified)} sharing the host's memory")
        else:
            self._set_note(None)

    def _note_gpus(self, gpus: list[GpuMetrics]) -> None:
        current: dict[str, GpuMetrics] = {}
        for gpu in gpus:
            key = gpu.uuid or self._key_at(gpu.index) or f"index {gpu.index}"
            before = self._known.get(key)
            if gpu.state == "lost" and before is not None:
                current[key] = lost(before)
            else:
                current[key] = msgspec.structs.replace(
                    gpu, name=one_line(gpu.name), processes=self._names.fill(gpu.processes)
                )
        for key, gpu in self._known.items():
            current.setdefault(key, lost(gpu))
        self._names.forget_others()
        self._known = current

    def _key_at(self, index: int) -> str | None:
        """Which known GPU a lost one is that does not even tell its UUID."""
        return next((key for key, gpu in self._known.items() if gpu.index == index), None)

    def _fail(self, note: str, reason: str, *, now: bool = False) -> None:
        """Give the child up, and start another one later (``now``: at the next reading)."""
        _logger.info("the NVML process is given up: %s", reason)
        if self._child is not None:
            self._child.end()
            self._stuck.append(self._child)
            self._child = None
        self._asked_at, self._has_answered = None, False
        self._next_start = 0.0 if now else self._monotonic() + self._delay()
        self._failures += 1
        self._set_note(note)

    def _delay(self) -> float:
        return self._backoff[min(self._failures, len(self._backoff) - 1)]

    def _set_note(self, note: str | None) -> None:
        if note != self._note and note is not None and note not in _CALM:
            _logger.warning("%s", note)
        self._note = note

    def _sorted(self) -> list[GpuMetrics]:
        return sorted(self._known.values(), key=lambda gpu: gpu.index)

    def _shown(self, gpu: GpuMetrics, now: float) -> GpuMetrics:
        if self._fresh or gpu.state == "lost":
            return gpu
        if now - self._read_at <= STALE_VALUES_SECONDS:
            return msgspec.structs.replace(gpu, state="stale")
        return msgspec.structs.replace(lost(gpu), state="stale")


class ProcessNames:
    """Names of the processes that hold a GPU; each is asked for once."""

    def __init__(self) -> None:
        self._names: dict[int, str | None] = {}
        self._used: set[int] = set()

    def fill(self, processes: list[GpuProcess] | None) -> list[GpuProcess] | None:
        """Give the same list with names (None for a process that is gone, or of another container)."""
        if processes is None:
            return None
        return [msgspec.structs.replace(process, name=self._name(process.pid)) for process in processes]

    def forget_others(self) -> None:
        """Forget the processes that were not asked for since this was called last."""
        self._names = {pid: name for pid, name in self._names.items() if pid in self._used}
        self._used = set()

    def _name(self, pid: int) -> str | None:
        self._used.add(pid)
        if pid not in self._names:
            try:
                self._names[pid] = one_line(psutil.Process(pid).name())
            except psutil.Error:
                self._names[pid] = None
        return self._names[pid]


def lost(gpu: GpuMetrics) -> GpuMetrics:
    """Give what stays true of a GPU that can't be read: its identity."""
    return GpuMetrics(
        index=gpu.index, uuid=gpu.uuid, name=gpu.name, mem_total_mb=gpu.mem_total_mb, state="lost"
    )


def _listed(indices: Sequence[int]) -> str:
    numbers = ", ".join(str(index) for index in indices)
    return f"GPU {numbers} is" if len(indices) == 1 else f"GPUs {numbers} are"
