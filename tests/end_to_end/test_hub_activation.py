"""`qubix hub` on a socket that its supervisor holds: who comes between two hubs waits for the next one."""

import contextlib
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.sync.client import connect

from qubix_tui import home
from tests.end_to_end.processes import PATIENCE, command, environment, first_line, wait_for

HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3, inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="qubix-hub.socket")
os.execv(sys.argv[2], sys.argv[2:])
"""
"""What systemd does between its fork and the service's own program."""


@pytest.fixture
def port() -> Iterator[socket.socket]:
    """The supervisor's socket."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        yield listener


@contextlib.contextmanager
def handed_over(listener: socket.socket, directory: Path, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a hub that gets the socket."""
    process = subprocess.Popen(
        [sys.executable, "-c", HAND_OVER, str(listener.fileno()), command("qubix"), "hub", *options],
        env=environment(directory),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=[listener.fileno()],
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def url_of(listener: socket.socket) -> str:
    """The address of whoever takes its connections."""
    return f"ws://127.0.0.1:{listener.getsockname()[1]}"


class Caller:
    """Connects, is greeted, and leaves, over and over, in a thread of its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._call, name="caller")
        self.ends: Counter[str] = Counter()
        """How often it was greeted, asked to come back (503), or failed otherwise, by the name of that."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Connect no more; again is no error."""
        self._enough.set()
        self._thread.join(PATIENCE)

    def _call(self) -> None:
        while not self._enough.is_set():
            self.ends[self._once()] += 1

    def _once(self) -> str:
        try:
            with connect(self._url, open_timeout=PATIENCE, compression=None) as client:
                assert '"connected"' in str(client.recv(PATIENCE))
        except InvalidStatus as refused:
            return str(refused.response.status_code)
        except (OSError, WebSocketException) as error:
            return type(error).__name__
        return "greeted"


@contextlib.contextmanager
def stays(url: str) -> Iterator[None]:
    """A client that does not leave when it is asked to, so that the hub's end takes all its time."""
    with contextlib.closing(socket.create_connection(("127.0.0.1", urlsplit(url).port or 0))) as client:
        client.settimeout(PATIENCE)
        client.sendall(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        assert client.recv(12) == b"HTTP/1.1 101"
        yield


def test_nobody_is_refused_while_the_hub_is_started_again(port: socket.socket, tmp_path: Path) -> None:
    """A client in a loop only ever waits; one that comes while there is no hub is answered by the next."""
    with Caller(url_of(port)) as caller:
        with handed_over(port, tmp_path, "--drain-seconds", "1") as first, stays(url_of(port)):
            assert first_line(first) == f"listening on {url_of(port)}"
            wait_for(lambda: caller.ends["greeted"] >= 5, "clients of the first hub")
            first.send_signal(signal.SIGTERM)
            assert first.wait(PATIENCE) == 0
        before = caller.ends["greeted"]
        with socket.create_connection(port.getsockname(), timeout=PATIENCE) as waiting:
            waiting.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            with handed_over(port, tmp_path):
                assert waiting.recv(4096).startswith(b"HTTP/1.1 200")
                wait_for(lambda: caller.ends["greeted"] >= before + 5, "clients of the second hub")
                caller.stop()
    # Whose handshake was under way when the hub was told to end was asked to come back.
    assert caller.ends.keys() <= {"greeted", "503"}
    assert caller.ends["503"] <= 1


def test_the_socket_goes_before_the_settings(port: socket.socket, tmp_path: Path) -> None:
    """The address of the settings is left alone, and other commands find the hub where it is."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        flags = ("--host", "127.0.0.1", "--port", str(taken.getsockname()[1]))
        with handed_over(port, tmp_path, *flags) as process:
            assert first_line(process) == f"listening on {url_of(port)}"
            assert home.running_hub(home=tmp_path) == url_of(port)


def test_a_socket_that_others_can_reach_asks_for_tls(tmp_path: Path) -> None:
    """What the supervisor opened is judged, not what the settings say."""
    with (
        socket.create_server(("0.0.0.0", 0)) as listener,
        handed_over(listener, tmp_path, "--host", "127.0.0.1") as process,
    ):
        _, complaint = process.communicate(timeout=PATIENCE)
        assert process.returncode == 1
        assert complaint.startswith("qubix: 0.0.0.0 can be reached from other machines")


def test_what_is_no_listening_socket_is_refused(tmp_path: Path) -> None:
    """In one sentence that says what a socket unit needs."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other,
        handed_over(other, tmp_path) as process,
    ):
        _, complaint = process.communicate(timeout=PATIENCE)
        assert process.returncode == 1
        assert complaint == (
            "qubix: descriptor 3, handed over by the supervisor, is no listening TCP socket: "
            "a hub needs ListenStream= with an address and a port, and Accept=no\n"
        )
