"""What becomes of workers that the system does not let start. Those that do are tested as processes."""

import gc
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from qubix_tui.cli import worker_supervisor
from qubix_tui.cli.common import CommandError
from qubix_tui.cli.worker_sockets import WorkerSockets
from qubix_tui.cli.worker_supervisor import Supervisor
from qubix_tui.hub.config import HubConfig
from qubix_tui.notify import Notifier


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A system that is full: each start that was tried."""
    tried: list[float] = []

    def refuse(_: object, watchdog_seconds: float) -> None:
        tried.append(watchdog_seconds)
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(worker_supervisor, "start_worker", refuse)
    yield tried
    gc.unfreeze()


def test_a_system_without_room_for_processes_is_said_once(attempts: list[float], tmp_path: Path) -> None:
    """At the beginning that ends it: no further worker is tried, and the port is free again."""

    def serve(number: int, sockets: list[socket.socket], notifier: Notifier) -> None:
        raise AssertionError("nobody was started")

    sockets = WorkerSockets(HubConfig(port=0), 3)
    supervisor = Supervisor(sockets, serve, count=3, directory=tmp_path, notifier=Notifier(None, 7.0))
    with pytest.raises(CommandError, match=r"^worker 1 can't be started: Resource temporarily unavailable$"):
        supervisor.run(10.0)
    assert attempts == [7.0]
    assert not list(tmp_path.iterdir())
    with socket.create_server(("127.0.0.1", int(sockets.url.rpartition(":")[2]))):
        pass
