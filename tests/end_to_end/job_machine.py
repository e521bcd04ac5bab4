"""A provider's machine as real processes: an agent that offers a job which writes down when it runs."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from agent import control
from agent.jobs.files import Files, holder
from tests.end_to_end import stamping_job
from tests.end_to_end.processes import LONG_PATIENCE, command, environment
from tests.end_to_end.proxy import Proxy


class Agent:
    """One provider's machine.

    Args:
        root: Where its jobs write down when they run; its QUBIX_HOME lies there.
        name: What it is called.
        proxy: The network between it and the hubs.
        said: Where its complaints go.
    """

    def __init__(self, root: Path, name: str, proxy: Proxy, said: IO[bytes]) -> None:
        self.name = name
        self.proxy = proxy
        self.home = root / name
        self.process: subprocess.Popen[bytes] | None = None
        self._said = said
        self.home.mkdir()
        user = '[jobs]\nuser = "root"\n' if os.geteuid() == 0 else ""
        (self.home / "agent.toml").write_text(user)
        script = [sys.executable, stamping_job.__file__, str(root)]
        (self.home / "workloads.toml").write_text(
            f'benchmark = false\n[workload.stamping]\ncommand = {script!r}\nsandbox = "none"\n'
        )

    def start(self) -> None:
        """Start it; or another one in its place."""
        self.process = subprocess.Popen(
            [
                *(command("qubix-agent"), "--hub", self.proxy.url, "--name", self.name, "--price", "36"),
                *("--token-file", str(self.home / "token")),
            ],
            env=environment(self.home, LD_LIBRARY_PATH="/nonexistent"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
        )

    def end(self) -> None:
        """End it, whatever state it is in."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    async def pause(self, paused: bool) -> None:
        """Have its owner keep it, or offer it again."""
        wish = control.Command(do="pause" if paused else "resume")
        deadline = time.monotonic() + LONG_PATIENCE
        while True:
            try:
                reply = await asyncio.to_thread(control.ask, self.home / "agent", wish)
            except control.ControlError:
                # It has just been started again.
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
            else:
                assert reply.error is None
                return

    def files(self, job_id: str) -> list[Files]:
        """The attempts at a job that it holds."""
        return [Files(path) for path in (self.home / "agent" / "jobs").glob(f"{job_id}.*")]

    def held(self) -> list[str]:
        """The attempts that it still holds."""
        return [path.name for path in (self.home / "agent" / "jobs").glob("*")]

    def supervisor(self, job_id: str) -> int | None:
        """The id of the process that holds a job here."""
        return next((pid for files in self.files(job_id) if (pid := holder(files.lock))), None)

    def first_process(self, job_id: str) -> int | None:
        """The id of the job's first process here."""
        for files in self.files(job_id):
            started, ended = files.journal()
            if started is not None and ended is None:
                return started.process.pid
        return None
