"""A real redis-server on a Unix socket, in a directory of its own, stopped by the test that started it."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qubix_tui.hub.engine.redis_address import RedisAddress, parse_redis

SECONDS = 10.0
"""How long it may take to answer."""

PROGRAMS = ("redis-server", "valkey-server")


def program() -> str:
    """The server that this machine has; the test is skipped where there is none, but not in CI."""
    for name in PROGRAMS:
        if found := shutil.which(name):
            return found
    if os.environ.get("CI"):
        pytest.fail("CI has neither redis-server nor valkey-server")
    pytest.skip("neither redis-server nor valkey-server is installed")


class RedisServer:
    """One server, and what may happen to it.

    Args:
        directory: Its own; a short path, for its socket lies there.
        options: Settings beside those that a hub needs, as they stand in its file.
    """

    def __init__(self, directory: Path, **options: str) -> None:
        self.directory = directory
        self.socket = directory / "redis.sock"
        self._options = {
            "port": "0",
            "dir": str(directory),
            "unixsocket": str(self.socket),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            **options,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> RedisAddress:
        """Where it is."""
        return parse_redis(self.url)

    @property
    def url(self) -> str:
        """Likewise, as an operator would write it."""
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it answers."""
        file = self.directory / "redis.conf"
        file.write_text("".join(f"{name} {value}\n" for name, value in self._options.items()))
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen([program(), str(file)], stdout=log, stderr=log)
        deadline = time.monotonic() + SECONDS
        while not self.answers():
            assert self._process.poll() is None, (self.directory / "log").read_text()
            assert time.monotonic() < deadline, (self.directory / "log").read_text()
            time.sleep(0.01)

    def answers(self) -> bool:
        """Whether it is there, and through with its file."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            connection.connect(str(self.socket))
            connection.sendall(b"PING\r\n")
            return connection.recv(100).startswith((b"+PONG", b"-NOAUTH"))
        return False

    def command(self, *words: str) -> bytes:
        """Send one command as somebody else would, and give the first of its reply."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(SECONDS)
            connection.connect(str(self.socket))
            parts = b"".join(b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words)
            connection.sendall(b"*%d\r\n%s" % (len(words), parts))
            return connection.recv(65536)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it without a chance to do anything."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it, however it is."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self.kill()


@contextlib.contextmanager
def redis_server(**options: str) -> Iterator[RedisServer]:
    """Run a server for as long as the block runs."""
    with tempfile.TemporaryDirectory(prefix="qubix-redis-") as directory:
        server = RedisServer(Path(directory), **options)
        server.start()
        try:
            yield server
        finally:
            server.stop()
