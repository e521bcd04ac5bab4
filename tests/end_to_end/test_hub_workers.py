"""`qubix hub --workers` on a real Redis: several processes that are one hub to everybody outside."""

import contextlib
import json
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
import trustme

from qubix_tui import home
from tests.cli.test_worker_sockets import free_ports
from tests.end_to_end.processes import PATIENCE, first_line, no_process_left, run, started, wait_for
from tests.end_to_end.terminal import terminal
from tests.end_to_end.test_hub_activation import Caller, handed_over, stays, url_of
from tests.end_to_end.test_hub_service import Supervisor, supervised, trusts, write_pair
from tests.redis_server import RedisServer, redis_server


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """One for all tests, emptied for each by `options`."""
    with redis_server() as server:
        yield server


@pytest.fixture
def options(redis: RedisServer) -> list[str]:
    """What makes two workers of a hub."""
    redis.command("FLUSHALL")
    return ["--engine", redis.url, "--workers", "2"]


def workers(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    """The processes that serve, the oldest first."""
    children = psutil.Process(process.pid).children()
    return sorted(children, key=lambda child: (child.create_time(), child.pid))


def replaced(process: "subprocess.Popen[str]", gone: psutil.Process) -> bool:
    """Whether there are two workers again, without one that is gone."""
    now = workers(process)
    return len(now) == 2 and gone not in now


def seen_at(port: int, path: str) -> str:
    """What one worker answers on a port of its own."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as answer:
        body: bytes = answer.read()
        return body.decode()


def providers_at(port: int) -> list[tuple[str, str]]:
    """The providers that one worker knows, and how they do."""
    records = json.loads(seen_at(port, "/api/providers"))["providers"]
    return [(record["name"], record["state"]) for record in records]


def is_live(port: int) -> bool:
    """Whether one worker sees the provider of the test, and sees it live."""
    return providers_at(port) == [("steady", "available")]


def has_greeted(caller: Caller, times: int) -> bool:
    """Whether a caller was let in so often."""
    return caller.ends["greeted"] >= times


def log_of(process: "subprocess.Popen[str]") -> str:
    """What a process that ended has logged."""
    _, log = process.communicate(timeout=PATIENCE)
    return log


def test_workers_are_one_hub_and_outlive_one_another(options: list[str], tmp_path: Path) -> None:
    """One address, one marketplace, one record; one that is killed is there again, and nobody is refused."""
    port = free_ports()
    file = tmp_path / "hub.toml"
    file.write_text(f"[listen]\nport = 0\nworker_port = {port}\nunix_socket = 'hub.sock'\n")
    hub = ["qubix", "hub", *options, "--log-format", "json"]
    with started(hub, tmp_path) as process:
        url = first_line(process).removeprefix("listening on ")
        assert home.running_hub(home=tmp_path) == url
        token = str(tmp_path / "tokens" / "provider")
        agent = ["qubix-agent", "--hub", url, "--token-file", token, "--name", "steady"]
        with started(agent, tmp_path / "agent"), Caller(url) as caller:
            for own in (port, port + 1):
                wait_for(partial(providers_at, own), "each worker to know the provider")
                assert "qubix_store_up 1.0" in seen_at(own, "/metrics")
            for gone in workers(process):
                gone.kill()
                wait_for(partial(replaced, process, gone), "the worker to be there again")
                wait_for(partial(has_greeted, caller, caller.ends["greeted"] + 40), "newcomers")
                wait_for(lambda: all(is_live(own) for own in (port, port + 1)), "the provider to be back")
            caller.stop()
            # At most the one whose handshake was under way in a process that was killed.
            assert caller.ends["greeted"] >= sum(caller.ends.values()) - 2
        with socket.socket(socket.AF_UNIX) as caller_inside:
            caller_inside.connect(str(tmp_path / "hub.sock"))
            caller_inside.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert caller_inside.recv(4096).startswith(b"HTTP/1.1 200")
        process.send_signal(signal.SIGTERM)
        said, log = process.communicate(timeout=PATIENCE)
        assert (process.returncode, said) == (0, "")
        records = [json.loads(line) for line in log.splitlines()]
        assert {record.get("worker") for record in records} == {None, 1, 2}
        assert sum("SIGKILL; it is started again now" in record["message"] for record in records) == 2
        assert no_process_left(tmp_path)
        assert not (tmp_path / "hub.json").exists()
        assert not (tmp_path / "hub.sock").exists()


def test_a_supervisor_hears_of_all_and_one_that_hangs_is_replaced(options: list[str], tmp_path: Path) -> None:
    """READY once all serve, WATCHDOG while they live; who hangs is killed, and the other one serves on."""
    with supervised(tmp_path, *options, WATCHDOG_USEC="1000000") as (process, url, supervisor):
        assert supervisor.next("READY") == {"READY": "1", "STATUS": f"listening on {url}, 2 of 2 workers"}
        assert supervisor.next("WATCHDOG") == {"WATCHDOG": "1"}
        hung = workers(process)[1]
        hung.suspend()
        wait_for(lambda: replaced(process, hung), "the worker to be replaced")
        supervisor.forget()
        assert supervisor.next("WATCHDOG")
        process.send_signal(signal.SIGTERM)
        assert supervisor.next("STOPPING")
        assert "it is killed" in log_of(process)
        assert process.returncode == 0


def test_sighup_brings_a_new_certificate_to_all(options: list[str], tmp_path: Path) -> None:
    """The reload is over when each worker has read the files."""
    first, second = trustme.CA(), trustme.CA()
    (tmp_path / "hub.toml").write_text("[tls]\ncert = 'tls.pem'\nkey = 'tls.key'\n")
    write_pair(tmp_path, first)
    with supervised(tmp_path, *options) as (process, url, supervisor):
        supervisor.next("READY")
        assert url.startswith("wss://")
        assert trusts(first, url)
        write_pair(tmp_path, second)
        process.send_signal(signal.SIGHUP)
        supervisor.next("RELOADING")
        supervisor.next("READY")
        # With two workers, one that was left out is not met in twelve calls once in four thousand times.
        assert all(trusts(second, url) for _ in range(12))


def test_sockets_that_were_handed_over_are_shared(options: list[str], tmp_path: Path) -> None:
    """Each worker serves them; who comes once they end waits for the next hub."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as port:
        with handed_over(port, tmp_path, *options, "--drain-seconds", "1") as process:
            assert first_line(process) == f"listening on {url_of(port)}"
            for one in workers(process):
                other = next(worker for worker in workers(process) if worker != one)
                other.suspend()
                with stays(url_of(port)):
                    other.resume()
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
        with socket.create_connection(port.getsockname(), timeout=PATIENCE) as waiting:
            waiting.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            with handed_over(port, tmp_path, *options):
                assert waiting.recv(4096).startswith(b"HTTP/1.1 200")


def test_nothing_outlives_the_supervisor(options: list[str], tmp_path: Path) -> None:
    """Not even where it is killed."""
    with started(["qubix", "hub", "--port", "0", *options], tmp_path) as process:
        first_line(process)
        assert len(workers(process)) == 2
        process.kill()
        wait_for(lambda: no_process_left(tmp_path), "the workers to end")


def test_what_no_worker_can_do_is_said_once(redis: RedisServer, options: list[str], tmp_path: Path) -> None:
    """A Redis that is not there, files that are none, a taken port: one sentence, and nothing is left."""

    def complaint(*words: str) -> str:
        answer = run(["qubix", "hub", "--log-level", "error", *options, *words], tmp_path)
        assert (answer.returncode, answer.stdout, answer.stderr.count("\n")) == (1, "", 1), answer.stderr
        assert no_process_left(tmp_path)
        return answer.stderr

    away = complaint("--port", "0", "--engine", "unix:///nowhere/redis.sock")
    assert "can't be reached" in away
    assert "can't read the TLS file" in complaint("--port", "0", "--tls-cert", "nowhere.pem")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"can't listen on 127.0.0.1:{port}" in complaint("--port", port)
    refused = run(["qubix", "hub", "--workers", "2"], tmp_path)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)


def test_the_second_signal_ends_all_at_once(options: list[str], tmp_path: Path) -> None:
    """A client that does not leave may take drain_seconds, unless the hub is told to end once more."""
    with supervised(tmp_path, *options, "--drain-seconds", "300") as (process, url, supervisor), stays(url):
        process.send_signal(signal.SIGTERM)
        supervisor.next("STOPPING")
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert "told to end again" in log_of(process)
        assert process.returncode == 0


def test_ctrl_c_is_one_signal(options: list[str], tmp_path: Path) -> None:
    """Though the terminal sends it to all processes that it knows: clients may leave in peace."""
    supervisor = Supervisor(tmp_path / "notify")
    with (
        contextlib.closing(supervisor),
        terminal(
            ["qubix", "hub", "--port", "0", *options], tmp_path, NOTIFY_SOCKET=supervisor.address
        ) as screen,
    ):
        url = supervisor.next("READY")["STATUS"].removeprefix("listening on ").partition(",")[0]
        with stays(url):
            screen.press("\x03")
            supervisor.next("STOPPING")
            screen.wait_for("clients connected: 1")
        assert screen.wait_end() == 0
        assert "told to end again" not in screen.text


def test_a_closed_terminal_ends_all(options: list[str], tmp_path: Path) -> None:
    """SIGHUP reloads while the terminal is open, and ends workers and supervisor once it is closed."""
    supervisor = Supervisor(tmp_path / "notify")
    command = ["qubix", "hub", "--port", "0", *options]
    with (
        contextlib.closing(supervisor),
        terminal(command, tmp_path, NOTIFY_SOCKET=supervisor.address) as screen,
    ):
        supervisor.next("READY")
        screen.child.kill(signal.SIGHUP)
        supervisor.next("RELOADING")
        supervisor.next("READY")
        screen.hang_up()
        supervisor.next("STOPPING")
        wait_for(lambda: no_process_left(tmp_path), "the hub to end")
