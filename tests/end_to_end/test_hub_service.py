"""`qubix hub` as a service: its file, its signals, and what its supervisor hears."""

import contextlib
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import trustme
from websockets.sync.client import connect

from tests.end_to_end.processes import (
    first_line,
    hub_process,
    no_process_left,
    run,
    started,
    wait_for,
)
from tests.end_to_end.terminal import terminal


class Supervisor:
    """Listens where ``NOTIFY_SOCKET`` says."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.settimeout(20)

    def next(self, name: str) -> dict[str, str]:
        """The next message that has this name in it."""
        while True:
            message = dict(line.split("=", 1) for line in self._socket.recv(4096).decode().split("\n"))
            if name in message:
                return message

    def forget(self) -> None:
        """Drop what was said so far."""
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while self._socket.recv(4096):
                pass
        self._socket.settimeout(20)

    def is_silent(self, seconds: float) -> bool:
        """Whether nothing is said for so long."""
        self._socket.settimeout(seconds)
        try:
            return not self._socket.recv(4096)
        except TimeoutError:
            return True
        finally:
            self._socket.settimeout(20)

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()


@contextlib.contextmanager
def supervised(
    home: Path, *options: str, **extra: str
) -> Iterator[tuple["subprocess.Popen[str]", str, Supervisor]]:
    """Run a hub under a supervisor: the process, its address, and what the supervisor hears."""
    supervisor = Supervisor(home / "notify")
    variables = {"NOTIFY_SOCKET": supervisor.address, **extra}
    with (
        contextlib.closing(supervisor),
        started(["qubix", "hub", "--port", "0", *options], home, **variables) as process,
    ):
        yield process, first_line(process).removeprefix("listening on "), supervisor


def write_pair(home: Path, authority: trustme.CA) -> None:
    """Put a certificate for localhost, and its key, where the hub's file names them."""
    issued = authority.issue_cert("localhost", "127.0.0.1")
    (home / "tls.pem").write_bytes(issued.cert_chain_pems[0].bytes())
    (home / "tls.key").write_bytes(issued.private_key_pem.bytes())


def trusts(authority: trustme.CA, url: str) -> bool:
    """Whether somebody who trusts this authority alone can shake hands with the hub."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    port = int(url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="localhost"):
                return True
        except ssl.SSLCertVerificationError:
            return False


def test_the_file_in_its_home_is_read(tmp_path: Path) -> None:
    """`qubix hub` follows QUBIX_HOME/hub.toml, and a flag goes before it."""
    (tmp_path / "hub.toml").write_text("[storage]\ndata = 'elsewhere'\n[listen]\nport = 1\n")
    with hub_process(tmp_path):
        assert (tmp_path / "elsewhere" / "hub.sqlite3").exists()
        assert not (tmp_path / "hub").exists()


def test_a_file_with_a_fault_starts_nothing(tmp_path: Path) -> None:
    """The line and the key in one sentence, exit code 2, and no data directory."""
    (tmp_path / "hub.toml").write_text("\n[limits]\nconnections = 'many'\n")
    refused = run(["qubix", "hub", "--port", "0"], tmp_path)
    assert refused.returncode == 2
    assert refused.stderr == (
        f"qubix: {tmp_path}/hub.toml line 3: limits.connections: "
        'expected a whole number from 1 to 1000000000, not "many"\n'
    )
    assert not (tmp_path / "hub").exists()


def test_a_supervisor_hears_of_start_life_and_end(tmp_path: Path) -> None:
    """READY with the address, WATCHDOG at half its time, STOPPING with the time that it may take."""
    with supervised(tmp_path, "--drain-seconds", "7", WATCHDOG_USEC="200000") as (process, url, supervisor):
        assert supervisor.next("READY") == {"READY": "1", "STATUS": f"listening on {url}"}
        assert supervisor.next("WATCHDOG") == {"WATCHDOG": "1"}
        assert supervisor.next("WATCHDOG") == {"WATCHDOG": "1"}
        process.send_signal(signal.SIGTERM)
        stopping = supervisor.next("STOPPING")
        assert int(stopping["EXTEND_TIMEOUT_USEC"]) > 7_000_000
        assert process.wait(10) == 0


def test_a_hub_that_hangs_is_not_said_to_live(tmp_path: Path) -> None:
    """While the process does nothing, nothing holds the watchdog off."""
    with supervised(tmp_path, WATCHDOG_USEC="200000") as (process, _, supervisor):
        supervisor.next("WATCHDOG")
        process.send_signal(signal.SIGSTOP)
        wait_for(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED, "the hub to hang")
        supervisor.forget()
        assert supervisor.is_silent(0.5)
        process.send_signal(signal.SIGCONT)
        assert supervisor.next("WATCHDOG")


def test_the_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    """A client that does not leave may take drain_seconds, unless the hub is told to end once more."""
    with supervised(tmp_path, "--drain-seconds", "300") as (process, url, supervisor):
        with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=10) as client:
            client.sendall(
                b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
            assert client.recv(4096).startswith(b"HTTP/1.1 101 ")
            process.send_signal(signal.SIGTERM)
            supervisor.next("STOPPING")
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        assert process.stderr is not None
        assert "told to end again" in process.stderr.read()


def test_sighup_brings_in_a_new_certificate(tmp_path: Path) -> None:
    """New connections get what the files hold now, old ones live on; files with a fault change nothing."""
    first, second = trustme.CA(), trustme.CA()
    (tmp_path / "hub.toml").write_text("[tls]\ncert = 'tls.pem'\nkey = 'tls.key'\n")
    write_pair(tmp_path, first)
    context = ssl.create_default_context()
    first.configure_trust(context)
    with supervised(tmp_path) as (process, url, supervisor):
        assert url.startswith("wss://")
        supervisor.next("READY")
        assert trusts(first, url)
        with connect(url, ssl=context, server_hostname="localhost") as client:
            write_pair(tmp_path, second)
            process.send_signal(signal.SIGHUP)
            assert "MONOTONIC_USEC" in supervisor.next("RELOADING")
            supervisor.next("READY")
            assert trusts(second, url)
            assert not trusts(first, url)
            assert '"connected"' in str(client.recv(10))
            client.send('{"type": "ping"}')
            assert '"pong"' in str(client.recv(10))
        (tmp_path / "tls.pem").write_text("nonsense")
        process.send_signal(signal.SIGHUP)
        supervisor.next("RELOADING")
        supervisor.next("READY")
        assert trusts(second, url)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=10)
        assert "SIGHUP: the TLS files were read again" in log
        assert "SIGHUP: the TLS files can't be used, those from before are kept" in log


def test_sighup_of_a_service_without_tls_ends_nothing(tmp_path: Path) -> None:
    """Without a terminal the signal asks for a reload; there is nothing to read, and the log says so."""
    with supervised(tmp_path) as (process, _, supervisor):
        supervisor.next("READY")
        process.send_signal(signal.SIGHUP)
        supervisor.next("RELOADING")
        supervisor.next("READY")
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=10)
        assert process.returncode == 0
        assert "SIGHUP: there are no TLS files to read again" in log


def test_a_closed_terminal_ends_the_hub_that_was_started_there(tmp_path: Path) -> None:
    """SIGHUP reloads while the terminal is open, and ends the hub once it is closed."""
    supervisor = Supervisor(tmp_path / "notify")
    with (
        contextlib.closing(supervisor),
        terminal(["qubix", "hub", "--port", "0"], tmp_path, NOTIFY_SOCKET=supervisor.address) as screen,
    ):
        supervisor.next("READY")
        screen.child.kill(signal.SIGHUP)
        supervisor.next("RELOADING")
        supervisor.next("READY")
        screen.hang_up()
        supervisor.next("STOPPING")
        wait_for(lambda: no_process_left(tmp_path), "the hub to end")
