"""The GPUs as a sample shows them, whatever becomes of the process that reads them.

A child process that hangs, crashes, or says that the driver has to be initialised again is replaced, later
each time it happens again. `agent.sensors.gpu_rows` says what is shown meanwhile; `agent.sensors.gpu_rest`,
when there is no child at all because the GPUs sleep.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from agent.sensors.base import Monotonic, one_line
from agent.sensors.gpu_rest import Rest
from agent.sensors.gpu_rows import GpuRows
from agent.sensors.nvml_process import ChildGone, NvmlProcess, library_present
from agent.sensors.offer import Offer
from qubix_tui.protocol.records import GpuInfo, GpuMetrics

START_DEADLINE: Final = 30.0
"""Seconds for the first answer: the driver initialises every GPU, one after the other."""

ANSWER_DEADLINE: Final = 5.0
"""Seconds for every other answer; a child that is later is given up."""

PATIENCE: Final = 0.4
"""Seconds that one sample waits for the GPUs."""

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
    def ask(self, *, pcie: bool = False) -> None: ...  # noqa: D102
    def take(self, patience: float) -> bytes | None: ...  # noqa: D102
    def end(self) -> None: ...  # noqa: D102
    def is_gone(self) -> bool: ...  # noqa: D102
    def wait(self, timeout: float) -> bool: ...  # noqa: D102


class Answer(msgspec.Struct, rename="camel", frozen=True):
    """One line of the child: its GPUs, or why there is nothing more to be had (``over``)."""

    gpus: list[GpuMetrics] = []
    read_at: float = 0.0
    """When that was begun, monotonic seconds; that clock is the machine's, the same in all processes."""
    driver_version: str | None = None
    cuda_version: str | None = None
    unified: list[int] = []
    """Indices of the GPUs that have no memory of their own."""
    unused: bool = False
    """Whether all GPUs may sleep and nobody uses any."""
    remarks: dict[str, str] = {}
    """What is odd, by what it is of."""
    cpu_seconds: float = 0.0
    """Processor time of the child since it was started."""
    over: str | None = None


class GpuReading(NamedTuple):
    """The GPUs of one sample, and what is known of the driver."""

    gpus: list[GpuMetrics]
    note: str | None
    """Why something is missing, in words; None when nothing is."""
    identities: list[GpuInfo]
    """Every GPU that is offered and that the agent knows of, the lost ones too."""
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
        rest: When to leave the GPUs alone.
        monotonic: The clock of all deadlines.
        backoff: Seconds before the first, second, … start after a failure; the last one repeats.
        pcie: Whether PCIe throughput is measured too: with each sample that holds the driver for 40 ms a GPU.
    """

    def __init__(
        self,
        *,
        start: Callable[[], Child] = NvmlProcess,
        present: Callable[[], bool] = library_present,
        offer: Offer | None = None,
        rest: Rest | None = None,
        monotonic: Monotonic = time.monotonic,
        backoff: Sequence[float] = BACKOFF,
        pcie: bool = False,
    ) -> None:
        self._start = start
        self._present = present
        self._rest = rest or Rest()
        self._monotonic = monotonic
        self._backoff = backoff
        self._pcie = pcie
        self._decoder = msgspec.json.Decoder(Answer)

        self._child: Child | None = None
        self._stuck: list[Child] = []
        self._started_at = 0.0
        self._asked_at: float | None = None
        self._has_answered = False
        self._failures = 0
        self._next_start = 0.0

        self._rows = GpuRows(offer or Offer())
        self._sleepers: list[str] = []
        self._fresh = False
        self._remarked: set[str] = set()
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
        if self._child is None and now >= self._next_start and not self._is_resting(now):
            self._try_to_start(now)
        if self._child is not None and self._asked_at is None:
            try:
                self._child.ask(pcie=self._pcie)
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
            gpus=self._rows.shown(now, fresh=self._fresh, asleep=self._sleepers),
            note=self._note,
            identities=self._rows.identities(self._sleepers),
            driver_version=one_line(self._answer.driver_version),
            cuda_version=one_line(self._answer.cuda_version),
            unified=self._rows.among(self._answer.unified),
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
        self._say(answer.remarks)
        if answer.over is not None:
            self._rows.lose()
            self._fail(_OVER_NOTES.get(answer.over, f"NVML failed: {one_line(answer.over)}"), answer.over)
            return
        self._answer = answer
        self._has_answered = self._fresh = True
        self._rows.take(answer.gpus, answer.read_at)
        if missing := self._rows.lost():
            self._set_note(f"{_listed(missing)} lost, trying again")
            # A lost GPU comes back only to a new process.
            if now - self._started_at >= self._delay():
                self._fail(self._note or "", "to look for the lost GPU", now=True)
            return
        if now - self._started_at >= STEADY_SECONDS:
            self._failures = 0
        self._set_note(self._note_of(answer))
        places = self._rows.addresses()
        if self._rest.is_due(now, unused=answer.unused and bool(places)):
            self._rest.begin(now, places)
            self._give_up("the GPUs are left alone so that they may sleep")

    def _note_of(self, answer: Answer) -> str | None:
        if absent := self._rows.missing():
            return f"offered, but not there: GPU {', '.join(absent)}"
        if not self._rows:
            return NO_GPU
        if answer.unified:
            return f"{_listed(answer.unified)} sharing the host's memory"
        if self._rows.hidden:
            return f"{self._rows.hidden} MIG instances are not shown"
        return None

    def _say(self, remarks: dict[str, str]) -> None:
        for subject, what in remarks.items():
            if subject not in self._remarked:
                self._remarked.add(subject)
                _logger.warning("%s: %s", subject, what)

    def _is_resting(self, now: float) -> bool:
        """Whether no child is to be started, for the GPUs sleep or are given the time to fall asleep."""
        sleepers = self._rest.sleepers(now)
        if sleepers is None and self._rest.begins_asleep():
            sleepers = self._rest.sleepers(now)
        self._sleepers = sleepers or []
        if sleepers:
            self._settled = True
            self._set_note(None)
        return sleepers is not None

    def _fail(self, note: str, reason: str, *, now: bool = False) -> None:
        """Give the child up, and start another one later (``now``: at the next reading)."""
        self._give_up(reason)
        self._next_start = 0.0 if now else self._monotonic() + self._delay()
        self._failures += 1
        self._set_note(note)

    def _give_up(self, reason: str) -> None:
        _logger.info("the NVML process is given up: %s", reason)
        if self._child is not None:
            self._child.end()
            self._stuck.append(self._child)
            self._child = None
        self._asked_at, self._has_answered = None, False

    def _delay(self) -> float:
        return self._backoff[min(self._failures, len(self._backoff) - 1)]

    def _set_note(self, note: str | None) -> None:
        if note != self._note and note is not None and note not in _CALM:
            _logger.warning("%s", note)
        self._note = note


def _listed(indices: Sequence[int]) -> str:
    numbers = ", ".join(str(index) for index in indices)
    return f"GPU {numbers} is" if len(indices) == 1 else f"GPUs {numbers} are"
