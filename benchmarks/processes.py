"""The processes of the benchmarks: servers on one core, the load on the other."""

import contextlib
import os
import resource
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

SERVER_CORE, LOAD_CORE = 0, 1

ROOT = Path(__file__).parent

_PROCESS_CPU = 2
"""Of a process's clocks, the one that the scheduler keeps, in nanoseconds (CPUCLOCK_SCHED)."""


@contextlib.contextmanager
def core(number: int) -> Iterator[None]:
    """Let this thread, and what it starts, run on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {number})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_seconds(pid: int) -> float:
    """Give the processor time that all threads of a process have had, user and kernel, ended ones included.

    The ticks of /proc/PID/stat are 10 ms each, 3 % of a short run; this clock (clock_getcpuclockid(3)) is not
    rounded.
    """
    return time.clock_gettime(~pid << 3 | _PROCESS_CPU)


class Process:
    """A process that is spoken to in lines.

    Args:
        command: What to run.
        on: The core that it runs on.
    """

    def __init__(self, command: Sequence[str], on: int) -> None:
        with core(on):
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd=ROOT.parent
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._input.close()
        self._output.close()

    def read(self) -> str:
        """Give the next line.

        Raises:
            RuntimeError: The process has ended.
        """
        line = self._output.readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r} ended")
        return line.strip()

    def tell(self, command: str) -> None:
        """Give a command; its answer is to be read."""
        self._input.write(f"{command}\n")

    def ask(self, command: str) -> str:
        """Give a command, and read its answer."""
        self.tell(command)
        return self.read()

    def cpu_seconds(self) -> float:
        """Give the processor time that it has had; see `cpu_seconds`."""
        return cpu_seconds(self._process.pid)

    def resident_kib(self) -> int:
        """Give the memory that is resident."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise RuntimeError("no VmRSS")


class Load(Process):
    """Clients of one server; see ``load.c``.

    Args:
        binary: The compiled ``load.c``.
        port: The server's.
        hellos: What each client says when it connects, one after the other.
        ready: What the server's answer holds then.
        folder: Where files may be put.
        sample: A masked frame for `send`; its sequence number follows ``"seq":``.
    """

    def __init__(
        self,
        binary: Path,
        port: int,
        hellos: Sequence[bytes],
        ready: str,
        folder: Path,
        sample: bytes = b"",
    ) -> None:
        hello_file, sample_file = folder / f"hellos-{port}", folder / f"sample-{port}"
        hello_file.write_bytes(b"".join(len(hello).to_bytes(4, "little") + hello for hello in hellos))
        command = [str(binary), str(port), str(hello_file), ready]
        if sample:
            sample_file.write_bytes(sample)
            command += [str(sample_file), '"seq":']
        super().__init__(command, LOAD_CORE)
        if self.read() != f"ready {len(hellos)}":
            raise RuntimeError("not all clients could connect")

    def received(self) -> int:
        """Give the bytes received since `reset`.

        Raises:
            RuntimeError: A connection was lost.
        """
        count, lost = map(int, self.ask("count").split())
        if lost:
            raise RuntimeError(f"the server cut {lost} clients")
        return count

    def reset(self) -> None:
        """Count from zero."""
        self.ask("reset")

    def say(self, data: bytes) -> None:
        """Let every client send the same."""
        self.ask(f"say {data.hex()}")

    def send(self, rate: float, seconds: float) -> int:
        """Send samples, and give how many were sent."""
        return int(self.ask(f"send {rate} {seconds}"))


def compiled(program: str, folder: Path) -> Path:
    """Compile a program of this directory.

    Raises:
        FileNotFoundError: There is no C compiler.
    """
    binary = folder / program
    subprocess.run(["cc", "-O2", "-o", str(binary), str(ROOT / f"{program}.c")], check=True)
    return binary


def allow_files(count: int) -> None:
    """Let this process, and what it starts, open so many files.

    Raises:
        RuntimeError: It may not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise RuntimeError(
            f"{count} open files are needed and {hard} are allowed; raise the limit (ulimit -Hn)"
        )
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
