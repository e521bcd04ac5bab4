"""What the supervisor hears, on a real datagram socket."""

import asyncio
import contextlib
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qubix_tui.notify import FAILURE, Notifier, ParentNotifier, read_message


@contextlib.contextmanager
def listening(address: str) -> Iterator[socket.socket]:
    """A supervisor's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        receiver.settimeout(10)
        yield receiver


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """Its address, and the socket to hear with."""
    address = str(tmp_path / "notify")
    with listening(address) as receiver:
        yield address, receiver


def heard(receiver: socket.socket) -> dict[str, str]:
    """The next message, as names and values."""
    return dict(line.split("=", 1) for line in receiver.recv(4096).decode().split("\n"))


def test_each_message_is_one_datagram(supervisor: tuple[str, socket.socket]) -> None:
    """Ready, status, reload and end come as the names and units that systemd documents."""
    address, receiver = supervisor
    notifier = Notifier(address)
    notifier.ready("listening on ws://127.0.0.1:3001")
    assert heard(receiver) == {"READY": "1", "STATUS": "listening on ws://127.0.0.1:3001"}
    notifier.status("2 lines\nare one")
    assert heard(receiver) == {"STATUS": "2 lines are one"}
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.reloading()
    reloading = heard(receiver)
    assert reloading["RELOADING"] == "1"
    assert before <= int(reloading["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.stopping("draining", 12.5)
    assert heard(receiver) == {"STOPPING": "1", "STATUS": "draining", "EXTEND_TIMEOUT_USEC": "12500000"}


def test_a_parent_hears_the_same_and_why_its_child_ends() -> None:
    """Over its channel, one message at a time, and whatever a sentence holds stays one line."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        notifier = ParentNotifier(theirs, 1.0)
        notifier.alive()
        notifier.ready("listening on ws://127.0.0.1:3001/?a=b")
        notifier.failed("it is full:\nREADY=1")
        assert read_message(ours.recv(4096)) == {"WATCHDOG": "1"}
        assert read_message(ours.recv(4096)) == {
            "READY": "1",
            "STATUS": "listening on ws://127.0.0.1:3001/?a=b",
        }
        assert read_message(ours.recv(4096)) == {FAILURE: "it is full: READY=1"}


def test_a_parent_that_does_not_read_holds_nobody_up(caplog: pytest.LogCaptureFixture) -> None:
    """What does not fit is lost, and the log says so."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        notifier = ParentNotifier(theirs, None)
        while not caplog.records:
            notifier.status("x" * 1000)
        assert "can't tell the supervisor" in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
def test_an_abstract_socket_is_reached() -> None:
    """``@name`` is the abstract socket of that name."""
    address = f"@qubix-test-{os.getpid()}"
    with listening(address) as receiver:
        Notifier(address).alive()
        assert heard(receiver) == {"WATCHDOG": "1"}


def test_without_a_supervisor_nothing_is_sent(caplog: pytest.LogCaptureFixture) -> None:
    """Silence, and no complaint."""
    Notifier.from_environment({}).ready("listening")
    assert caplog.records == []


@pytest.mark.parametrize("address", ["{directory}/nobody", "@qubix-nobody-listens", "/" + "x" * 200])
def test_a_supervisor_that_is_gone_stops_nothing(
    address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The message is lost, and a line in the log says so."""
    Notifier(address.format(directory=tmp_path)).ready("listening")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_supervisor_that_does_not_read_holds_nothing_up(
    supervisor: tuple[str, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    """Once its socket is full, messages are dropped with a warning; the call returns."""
    notifier = Notifier(supervisor[0])
    for _ in range(10_000):
        notifier.alive()
        if caplog.records:
            break
    assert caplog.records


def test_the_environment_is_read_and_emptied() -> None:
    """The socket and the watchdog are taken out of the environment, so no child speaks in the hub's name."""
    environment = {
        "NOTIFY_SOCKET": "/run/notify",
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(os.getpid()),
        "HOME": "/",
    }
    assert Notifier.from_environment(environment).watchdog_seconds == 30
    assert environment == {"HOME": "/"}


@pytest.mark.parametrize(
    "environment",
    [
        {"NOTIFY_SOCKET": "/run/notify"},
        {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "0"},
        {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "soon"},
        {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "30000000"},
        {"NOTIFY_SOCKET": "vsock:2:1234", "WATCHDOG_USEC": "30000000"},
    ],
)
def test_a_watchdog_that_is_not_ours_is_left_alone(environment: dict[str, str]) -> None:
    """Another process's watchdog, none, a senseless one, or one that can't be reached: there is none."""
    assert Notifier.from_environment(environment).watchdog_seconds is None


async def test_the_watchdog_is_held_off_while_the_store_answers(
    supervisor: tuple[str, socket.socket],
) -> None:
    """A message comes at every half of the watchdog's time."""
    address, receiver = supervisor

    async def answers() -> None:
        await asyncio.sleep(0)

    beating = asyncio.create_task(Notifier(address, 0.02).keep_alive(answers, "the store"))
    for _ in range(3):
        assert await asyncio.to_thread(heard, receiver) == {"WATCHDOG": "1"}
    beating.cancel()


async def test_a_store_that_hangs_is_left_to_the_watchdog(
    supervisor: tuple[str, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    """No message while the store does not answer; again one once it does."""
    address, receiver = supervisor
    asked = 0

    async def hangs_twice() -> None:
        nonlocal asked
        asked += 1
        if asked <= 2:
            await asyncio.Event().wait()

    beating = asyncio.create_task(Notifier(address, 0.02).keep_alive(hangs_twice, "the store"))
    assert await asyncio.to_thread(heard, receiver) == {"WATCHDOG": "1"}
    beating.cancel()
    assert asked >= 3
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 2


async def test_who_is_not_watched_need_not_beat() -> None:
    """Without a watchdog the task ends at once."""

    async def never() -> None:
        raise AssertionError("asked")

    await Notifier("/run/notify").keep_alive(never, "the store")
