"""A real agent under test, and what the hub says of it."""

import json
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from tests.end_to_end.processes import command, environment, processes_of, wait_for

NO_LIBRARY: Final[dict[str, Any]] = {"LD_LIBRARY_PATH": "/nonexistent"}


class RunningAgent:
    """An agent's process, with everything it has said so far.

    Args:
        process: The process; its stdout and stderr are pipes.
    """

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.said: list[str] = []
        self.complaints: list[str] = []
        self._threads = [
            threading.Thread(target=_collect, args=(stream, lines))
            for stream, lines in ((process.stdout, self.said), (process.stderr, self.complaints))
        ]
        for thread in self._threads:
            thread.start()

    def registered(self, times: int = 1) -> str:
        """Wait until it said so for so many times; gives the last id."""
        wait_for(lambda: len(self.said) >= times, f"registration {times}; it complained {self.complaints}")
        words = self.said[times - 1].split()
        assert words[:2] == ["registered", "as"], self.said
        return words[2]

    def complained(self, of: str) -> str:
        """Wait for a line on stderr that holds ``of``; gives it."""

        def look() -> str | None:
            return next((line for line in self.complaints if of in line), None)

        return wait_for(look, f"a complaint of {of!r}")

    def end(self) -> None:
        """Kill it if it lives, and read what it said to its end."""
        self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join(5)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


def _collect(stream: IO[str], lines: list[str]) -> None:
    lines.extend(line.rstrip("\n") for line in iter(stream.readline, ""))


@contextmanager
def running(
    home: Path, url: str | None, *options: str, inherit: Sequence[int] = (), **extra: str
) -> Iterator[RunningAgent]:
    """Run an agent (without ``url`` it finds its hub); what it left behind is ended with the block."""
    process = subprocess.Popen(
        [command("qubix-agent"), *(["--hub", url] if url else []), *options],
        env=environment(home, **{**NO_LIBRARY, **extra}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=inherit,
    )
    before = {left.pid for left in processes_of(home)} - {process.pid}
    agent = RunningAgent(process)
    try:
        yield agent
    finally:
        agent.end()
        for left in processes_of(home):
            if left.pid not in before:
                left.kill()


def ask(url: str, path: str) -> Any:
    """Ask a hub over HTTP; None where it answers with an error."""
    try:
        with urllib.request.urlopen(url.replace("ws://", "http://") + path, timeout=5) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as error:
        error.close()
        return None


def provider(url: str, provider_id: str) -> dict[str, Any]:
    """What the hub knows of a provider: its record and its last metrics (empty before the first)."""
    found = ask(url, f"/api/providers/{provider_id}")
    return {**found["provider"], "metrics": found["metrics"] or {}} if found else {}


def child_of(agent: RunningAgent) -> int | None:
    """The process id of the agent's NVML process, None where it has none."""
    path = Path(f"/proc/{agent.process.pid}/task")
    try:
        children = [int(pid) for task in path.iterdir() for pid in (task / "children").read_text().split()]
    except OSError:
        return None
    return children[0] if children else None


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def copy_identity(home: Path, other: Path) -> None:
    """Give another home the identity of this one, as a cloned disk does."""
    (other / "agent").mkdir(mode=0o700, parents=True)
    (other / "agent" / "worker-id").write_bytes((home / "agent" / "worker-id").read_bytes())
    (other / "tokens").mkdir(mode=0o700)
    (other / "tokens" / "provider").write_bytes((home / "tokens" / "provider").read_bytes())
    (other / "hub.json").write_bytes((home / "hub.json").read_bytes())
