"""One child process that NVML lives in, seen from the agent: start it, ask it, give it up."""

import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Final

from agent.sensors import nvml_child

LIBRARY: Final = "libnvidia-ml.so.1"

_LOADER_CACHE: Final = Path("/etc/ld.so.cache")
_LOADER_DIRECTORIES: Final = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")

_MAX_REPLY_BYTES: Final = 1024 * 1024


class ChildGone(Exception):
    """The child ended, or speaks nonsense."""


def library_present() -> bool:
    """Whether the loader would find NVML, without loading it into this process.

    It looks where the loader looks: ``LD_LIBRARY_PATH``, the loader's cache, its standard directories.
    """
    given = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    if any(
        (Path(directory) / LIBRARY).exists() for directory in (*filter(None, given), *_LOADER_DIRECTORIES)
    ):
        return True
    try:
        return LIBRARY.encode() in _LOADER_CACHE.read_bytes()
    except OSError:
        return False


class NvmlProcess:
    """A running child; `agent.sensors.nvml_child` says what it does.

    Args:
        root: What stands before ``/sys`` and ``/proc``.

    Raises:
        OSError: It can't be started.
    """

    def __init__(self, root: str = "") -> None:
        search = (str(Path(nvml_child.__file__).parents[2]), *filter(os.path.isdir, sys.path))
        self._process = subprocess.Popen(
            # Isolated and without `site`: nothing of the user's runs in there, and it starts sooner.
            [sys.executable, "-I", "-S", nvml_child.__file__, root, *search],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            # Out of the terminal's process group: Ctrl-C is for the agent, which ends this one.
            process_group=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._questions = self._process.stdin.fileno()
        self._answers = self._process.stdout.fileno()
        os.set_blocking(self._questions, False)
        os.set_blocking(self._answers, False)
        self._ready = select.poll()
        self._ready.register(self._answers, select.POLLIN)
        self._buffer = b""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ask(self, *, pcie: bool = False) -> None:
        """Ask for one sample.

        Args:
            pcie: Whether PCIe throughput is wanted, which holds the driver for 40 ms a GPU.

        Raises:
            ChildGone: It ended.
        """
        try:
            os.write(self._questions, nvml_child.WITH_PCIE if pcie else b"\n")
        except OSError:
            raise ChildGone("it ended") from None

    def take(self, patience: float) -> bytes | None:
        """Give its next answer, None if that does not come within ``patience`` seconds.

        Raises:
            ChildGone: It ended without one.
        """
        while b"\n" not in self._buffer:
            if not self._ready.poll(patience * 1000):
                return None
            chunk = os.read(self._answers, 65536)
            if not chunk:
                raise ChildGone(self._obituary())
            self._buffer += chunk
            if len(self._buffer) > _MAX_REPLY_BYTES:
                raise ChildGone("its answer has no end")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def end(self) -> None:
        """End it at once and let go of its pipes; one that hangs in the driver stays until that ends."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def is_gone(self) -> bool:
        """Whether it has ended (and is reaped)."""
        return self._process.poll() is not None

    def wait(self, timeout: float) -> bool:
        """Wait for its end; False if it has not come within ``timeout`` seconds."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _obituary(self) -> str:
        self.wait(0.1)
        code = self._process.returncode
        if code is None:
            return "it closed its output"
        return f"it was ended by signal {-code}" if code < 0 else f"it ended with exit code {code}"
