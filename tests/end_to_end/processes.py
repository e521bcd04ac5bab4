"""Real processes under test: started with a home of their own, watched, and always ended."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import psutil

T = TypeVar("T")

PATIENCE = 20.0
"""Seconds that a process may take for what it is about to do, on a busy machine."""

LONG_PATIENCE = 60.0
"""Seconds that anything may take, with faults, leases that have to run out, and a busy machine."""


def wait_for(look: Callable[[], T | None], what: str, patience: float = PATIENCE) -> T:
    """Give the first truthy thing that ``look`` finds; fail when ``patience`` seconds have passed."""
    deadline = time.monotonic() + patience
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience:g} s for {what}")
        time.sleep(0.02)


async def until(look: Callable[[], T | None], what: str, patience: float = LONG_PATIENCE) -> T:
    """As `wait_for`, while other tasks go on."""
    deadline = time.monotonic() + patience
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {patience:g} s for {what}"
        await asyncio.sleep(0.02)
    return found


def environment(home: Path, **extra: str) -> dict[str, str]:
    """A clean environment whose QUBIX_HOME is ``home``."""
    kept = {
        name: os.environ[name]
        for name in ("PATH", "LANG", "HOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "CI")
        if name in os.environ
    }
    return {**kept, "QUBIX_HOME": str(home), "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **extra}


def command(name: str) -> str:
    """The installed script of ours beside the interpreter that runs the tests."""
    return str(Path(sys.executable).with_name(name))


def processes_of(home: Path) -> list[psutil.Process]:
    """Every live process that was started with this QUBIX_HOME."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("QUBIX_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def no_process_left(home: Path) -> bool:
    """Whether nothing that was started with this QUBIX_HOME is alive."""
    return not processes_of(home)


def run(
    arguments: Sequence[str], home: Path, patience: float = PATIENCE, **extra: str
) -> subprocess.CompletedProcess[str]:
    """Run a command of ours to its end."""
    return subprocess.run(
        [command(arguments[0]), *arguments[1:]],
        env=environment(home, **extra),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=patience,
        check=False,
    )


@contextmanager
def started(arguments: Sequence[str], home: Path, **extra: str) -> Iterator["subprocess.Popen[str]"]:
    """Start a command of ours; whatever it left behind is ended with the block."""
    process = subprocess.Popen(
        [command(arguments[0]), *arguments[1:]],
        env=environment(home, **extra),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
        for left in processes_of(home):
            left.kill()


def first_line(process: "subprocess.Popen[str]") -> str:
    """The first line that a process prints; fails, with its complaint, if it ends without one."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        assert process.stderr is not None
        raise AssertionError(f"it ended without a word on stdout; on stderr: {process.stderr.read()}")
    return line.strip()


@contextmanager
def hub_process(home: Path, *options: str, port: int = 0) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Run `qubix hub` on a free port; gives the process and its address."""
    with started(["qubix", "hub", "--port", str(port), "--log-level", "warning", *options], home) as process:
        line = first_line(process)
        prefix = "listening on "
        assert line.startswith(prefix), line
        yield process, line.removeprefix(prefix)
