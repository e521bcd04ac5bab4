"""The process that holds one job, whatever becomes of the agent that started it.

`agent.jobs.runner` starts it as a plain script, with the attempt's directory and the module search path. It
is the parent of all that the job starts, ends all of it when it is over, and enforces the job's lease by
itself: with no agent to renew it the job ends before the hub gives it to somebody else. One thread, no event
loop.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

if __name__ == "__main__":
    # Isolated and without `site`, it finds nothing by itself.
    sys.path[:] = [*sys.argv[2:], *sys.path]

import msgspec

from agent.jobs import child, container
from agent.jobs.cgroup import Cgroup
from agent.jobs.clock import boottime
from agent.jobs.files import LOOK, Ended, Files, Started
from agent.jobs.output import Budget, Kept, Stream
from agent.jobs.processes import Pack, stat
from agent.jobs.progress import Report, reader_of
from agent.jobs.result import exit_word, how_it_ended, read_result
from agent.jobs.usage import Usage
from agent.jobs.workdir import remove
from qubix_tui.protocol.reasons import JobReason, with_detail

TICK_SECONDS: Final = 0.5
"""How often progress is read, at most said, and limits are checked."""

SWEEP_SECONDS: Final = 0.05
FULL_DISK_SECONDS: Final = 1.0
UNKILLABLE_SECONDS: Final = 30.0
"""How long after SIGKILL a process may still be there before that is what the job ended with."""


class Verdict(NamedTuple):
    """Why a job is over."""

    status: Literal["completed", "failed", "cancelled"]
    reason: str | None = None


class Supervisor:
    """Runs one job to its end.

    Args:
        files: The attempt's directory, with a plan and orders.

    Raises:
        OSError: They are not there.
        msgspec.MsgspecError: They can't be read.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        plan = files.read_plan()
        self._launch = plan.launch
        self._work = Path(plan.work)
        self._orders = files.read_orders()
        self._cgroup = Cgroup.make(self._launch.tag)
        self._pack = Pack(self._launch.tag, root=os.getpid(), cgroup=self._cgroup)
        self._reader = reader_of(self._launch.progress, self._work)
        self._report = Report()
        self._streams: list[Stream] = []
        self._poll = select.poll()
        self._wakeup = self._listen_for_signals()
        self._job = 0
        self._exit_code: int | None = None
        self._verdict: Verdict | None = None
        self._is_terminated = False

    def run(self) -> None:
        """Start the job, hold it, end it, and say durably how it ended."""
        self._limit_group()
        try:
            process = child.start(self._launch, str(self._work), self._cgroup)
        except child.StartFailed as error:
            ended = Ended(status="failed", reason=with_detail(JobReason.NOT_STARTED, str(error)))
        else:
            self._hold(process)
            ended = self._end()
        self._write_down(ended)
        if self._cgroup is not None:
            self._cgroup.remove()
        remove(self._work)

    def _write_down(self, ended: Ended) -> None:
        """Say how it ended, however long that takes: on a full disk the job's own files make room first."""
        while True:
            try:
                self._files.append(ended, durable=True)
            except (FileNotFoundError, NotADirectoryError):
                # The agent's directory was taken away: nobody is left who would read it.
                return
            except OSError:
                remove(self._work)
                self._poll.poll(FULL_DISK_SECONDS * 1000)
            else:
                return

    def _listen_for_signals(self) -> int:
        """Let signals wake the loop; gives the descriptor that tells of them."""
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, LOOK, signal.SIGTERM):
            signal.signal(number, self._take_signal)
        # A terminal's are meant for the agent. Caught, for what is ignored would be so in the job, too.
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._take_signal)
        self._poll.register(reading, select.POLLIN)
        return reading

    def _take_signal(self, number: int, _frame: object) -> None:
        self._is_terminated = self._is_terminated or number == signal.SIGTERM

    def _limit_group(self) -> None:
        limits = self._launch.limits
        if self._cgroup is None:
            return
        if limits.memory_bytes is not None:
            self._cgroup.set_limit("memory.max", limits.memory_bytes)
        if limits.max_processes is not None:
            self._cgroup.set_limit("pids.max", limits.max_processes)

    def _hold(self, process: "subprocess.Popen[bytes]") -> None:
        """Live through the job until its first process ended, or all of it has to be killed."""
        started = now = boottime()
        first = stat(process.pid)
        assert first is not None, "nobody but this process can reap it"
        self._job = process.pid
        group = None if self._cgroup is None else str(self._cgroup.path)
        self._files.append(Started(process=first.process, at=started, cgroup=group))
        self._open_streams(process)
        usage = Usage(self._launch.limits, self._launch.no_progress_seconds, self._pack, self._files, started)
        next_tick, grace_over = now, float("inf")
        while self._exit_code is None:
            over: str | None = None
            if now >= next_tick:
                next_tick = now + TICK_SECONDS
                self._read_orders()
                self._note_progress()
                over = usage.check(now, self._report)
            if self._verdict is None:
                self._verdict = self._judge(now, over)
                if self._verdict is not None:
                    self._pack.terminate()
                    grace_over = now + self._grace()
            # However much grace is left, the lease has the last word.
            kill_at = min(grace_over, self._orders.kill_at)
            if now >= kill_at:
                return
            wake_at = self._lease_stop() if self._verdict is None else kill_at
            self._wait(min(next_tick, wake_at) - now)
            now = boottime()

    def _open_streams(self, process: "subprocess.Popen[bytes]") -> None:
        budget = Budget(self._launch.limits.log_bytes)
        for name, pipe in (("stdout", process.stdout), ("stderr", process.stderr)):
            assert pipe is not None
            stream = Stream(name, os.dup(pipe.fileno()), self._files.stream(name), budget)
            pipe.close()
            self._streams.append(stream)
            self._poll.register(stream.pipe, select.POLLIN)

    def _lease_stop(self) -> float:
        """When the lease begins to end the job."""
        return self._orders.kill_at - self._orders.lease_grace

    def _judge(self, now: float, over: str | None) -> Verdict | None:
        """Say why the job has to end, None while it has not to."""
        if self._orders.stop is not None:
            return Verdict("cancelled", self._orders.stop.reason)
        if self._is_terminated:
            return Verdict("failed", with_detail(JobReason.AGENT_RESTARTED, "its supervisor was told to end"))
        if now >= self._lease_stop():
            return Verdict("failed", JobReason.LEASE_EXPIRED.value)
        return None if over is None else Verdict("failed", over)

    def _grace(self) -> float:
        stop = self._orders.stop
        return self._launch.grace_seconds if stop is None else stop.grace_seconds

    def _read_orders(self) -> None:
        # What can't be read for the moment (too many open files, say) is as it was.
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            self._orders = self._files.read_orders()

    def _note_progress(self) -> None:
        report = self._reader.read()
        if report != self._report:
            self._report = report
            with contextlib.suppress(OSError):
                self._files.write_progress(report)

    def _wait(self, seconds: float) -> None:
        """Wait for output, a signal, or the time, and take what came."""
        ready = {descriptor for descriptor, _ in self._poll.poll(max(seconds, 0) * 1000)}
        if self._wakeup in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wakeup, 4096)
            self._read_orders()
        for stream in self._streams:
            if stream.pipe in ready and stream.is_open:
                self._take_output(stream)
        for pid, status in _ended_children():
            if pid == self._job:
                self._exit_code = os.waitstatus_to_exitcode(status)

    def _take_output(self, stream: Stream) -> bool:
        """Take what a stream has for now; whether there was anything."""
        chunks = stream.read()
        for chunk in chunks:
            self._reader.feed(stream.name, chunk)
        if not stream.is_open:
            self._poll.unregister(stream.pipe)
        return bool(chunks)

    def _end(self) -> Ended:
        """End everything that is left of the job, and say how it ended."""
        is_gone = self._make_gone()
        for stream in self._streams:
            while stream.is_open and self._take_output(stream):
                pass
        self._note_progress()
        verdict = (
            self._verdict or self._own_verdict() if is_gone else Verdict("failed", JobReason.UNKILLABLE.value)
        )
        kept: dict[str, Kept] = {stream.name: stream.close() for stream in self._streams}
        return Ended(status=verdict.status, reason=verdict.reason, result=self._result(), **kept)

    def _make_gone(self) -> bool:
        """End everything that is left of the job; False if that can't be done."""
        deadline = boottime() + UNKILLABLE_SECONDS
        while self._pack.kill():
            if boottime() >= deadline:
                return False
            self._wait(SWEEP_SECONDS)
        self._wait(0)
        container.remove(self._launch)
        return True

    def _own_verdict(self) -> Verdict:
        """What a job that nobody ended has come to."""
        code = self._exit_code
        if code == 0:
            return Verdict("completed")
        if code == -signal.SIGXCPU and self._launch.limits.cpu_seconds is not None:
            return Verdict("failed", with_detail(JobReason.LIMIT, "processor time"))
        return Verdict("failed", with_detail(JobReason.EXIT_CODE, exit_word(code)))

    def _result(self) -> Any:  # noqa: ANN401 - whatever JSON the job left
        result, complaint = read_result(self._work)
        if result is not None:
            return result
        ended = how_it_ended(self._exit_code)
        return ended if complaint is None else {**ended, "error": complaint}


def _ended_children() -> Iterator[tuple[int, int]]:
    """Collect all that ended, also what the job left behind: id and status of each."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, status


def main(directory: Path) -> None:
    """Hold the job of one attempt."""
    os.chdir("/")
    child.become_subreaper()
    Supervisor(Files(directory)).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
