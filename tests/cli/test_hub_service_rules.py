"""What a hub does for its place on the machine: its own address there, and files for its connections."""

import asyncio
import logging
import resource
import signal
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from qubix_tui.cli.hub_service import HubService, allow_files, local_url
from qubix_tui.hub.config import HubConfig
from qubix_tui.hub.engine.base import EngineUnavailable
from qubix_tui.hub.engine.memory import MemoryEngine
from qubix_tui.hub.server import Hub
from qubix_tui.notify import Notifier
from tests.hub.wire import eventually


@pytest.mark.parametrize(
    ("listens", "url"),
    [
        ("ws://127.0.0.1:4000", "ws://127.0.0.1:4000"),
        ("wss://0.0.0.0:4000", "wss://127.0.0.1:4000"),
        ("ws://[::]:4000", "ws://[::1]:4000"),
        ("ws://192.0.2.7:4000", "ws://192.0.2.7:4000"),
    ],
)
def test_all_addresses_are_reached_over_loopback(listens: str, url: str) -> None:
    """What listens everywhere is recorded where this machine's tokens may go."""
    assert local_url(listens) == url


class Kernel:
    """The limits of a process that is not this one."""

    def __init__(self, soft: int, hard: int, *, forbids: bool = False) -> None:
        self.limits = (soft, hard)
        self._forbids = forbids

    def get(self, _: int) -> tuple[int, int]:
        return self.limits

    def set(self, _: int, limits: tuple[int, int]) -> None:
        if self._forbids:
            raise PermissionError
        self.limits = limits


@pytest.fixture
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """A kernel with the limits that the test asks for."""
    made: Kernel = request.param
    monkeypatch.setattr(resource, "getrlimit", made.get)
    monkeypatch.setattr(resource, "setrlimit", made.set)
    return made


@pytest.mark.parametrize(
    ("kernel", "soft", "says"),
    [
        (Kernel(1_024, 1_048_576), 20_256, False),
        (Kernel(65_536, 1_048_576), 65_536, False),
        (Kernel(1_024, resource.RLIM_INFINITY), 20_256, False),
        (Kernel(resource.RLIM_INFINITY, resource.RLIM_INFINITY), resource.RLIM_INFINITY, False),
        (Kernel(1_024, 4_096), 4_096, True),
        (Kernel(1_024, 1_048_576, forbids=True), 1_024, True),
    ],
    indirect=["kernel"],
)
def test_files_are_asked_for(kernel: Kernel, soft: int, says: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The soft limit is raised as far as it is needed and allowed; less than is needed is said."""
    caplog.set_level(logging.INFO)
    allow_files(20_256)
    assert kernel.limits[0] == soft
    assert [record.levelname for record in caplog.records] == (["INFO"] if says else [])


class LosableEngine(MemoryEngine):
    """A store that somebody else may take."""

    def __init__(self) -> None:
        super().__init__()
        self.gone = asyncio.Event()

    async def lost(self) -> str:
        await self.gone.wait()
        return "the store was taken"


@pytest.mark.parametrize("told_to_end", [False, True], ids=["serves", "drains"])
async def test_a_hub_whose_store_is_lost_fails_unless_it_was_told_to_end(
    tmp_path: Path, *, told_to_end: bool
) -> None:
    """Who serves has to be started again; who lets its clients leave has nothing to do with it any more."""
    engine = LosableEngine()
    hub = Hub(HubConfig(port=0, drain_seconds=10.0), engine=engine)
    service = HubService(hub, directory=tmp_path, notifier=Notifier())
    running = asyncio.create_task(service.run())
    await eventually(lambda: hub.ready)
    client = await connect(hub.url)
    if told_to_end:
        signal.raise_signal(signal.SIGTERM)
        await eventually(lambda: not hub.ready)
    engine.gone.set()
    await client.close()
    if told_to_end:
        await running
    else:
        with pytest.raises(EngineUnavailable, match="the store was taken"):
            await running
