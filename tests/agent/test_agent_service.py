"""The running agent in one event loop with a real hub: what it does when its surroundings change."""

import asyncio
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent import service as service_module
from agent import target as target_module
from agent.sampler import Sampler
from agent.sensors.gpu_off import NoGpus
from agent.sensors.host import HostReading, HostSensor
from agent.sensors.inventory import Owner
from agent.service import Service
from agent.target import TargetFinder
from qubix_tui import home
from qubix_tui.hub.access import Access
from qubix_tui.hub.config import HubConfig
from qubix_tui.hub.server import Hub
from qubix_tui.notify import Notifier
from qubix_tui.protocol.tokens import Role, new_token
from tests.agent.fake_nvml import FakeNvml
from tests.client.scripted_hub import until


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No hub and no token but those of the test; nobody listens at the default address; no long waits."""
    for name in ("QUBIX_HUB", "QUBIX_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(service_module, "LOOK_AGAIN_SECONDS", 0.05)
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        monkeypatch.setattr(target_module, "DEFAULT_URL", f"ws://127.0.0.1:{reserved.getsockname()[1]}")
        yield


class Running:
    """A service under test, and what it says."""

    def __init__(
        self,
        directory: Path,
        token_file: Path | None = None,
        hub: str | None = None,
        *,
        sampler: Sampler | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        self.reports: list[str] = []
        self.complaints: list[str] = []
        self.service = Service(
            TargetFinder(hub, token_file, directory),
            Owner("worker-1", name="rig-7"),
            directory,
            sampler=sampler or Sampler(directory),
            period=0.05 if sampler else 1.0,
            notifier=notifier,
            report=self.reports.append,
            complain=self.complaints.append,
        )


@asynccontextmanager
async def running(
    directory: Path, *, token_file: Path | None = None, hub: str | None = None
) -> AsyncIterator[Running]:
    """Run a service; it is told to end, by a signal, when the block is done."""
    under_test = Running(directory, token_file, hub)
    task = asyncio.get_running_loop().create_task(under_test.service.run())
    try:
        await asyncio.sleep(0)
        yield under_test
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(5):
            await task


@asynccontextmanager
async def listening(token: str) -> AsyncIterator[Hub]:
    """Run a hub that knows one provider's token."""
    access = Access()
    access.add_token(token, Role.PROVIDER, "test")
    hub = Hub(HubConfig(port=0), access=access)
    await hub.start()
    try:
        yield hub
    finally:
        await hub.stop()


async def test_a_local_hub_that_is_started_later(tmp_path: Path) -> None:
    """Without a hub, it finds the one that this user starts later, wherever that listens."""
    async with running(tmp_path) as agent:
        await until(lambda: agent.complaints)
        token = home.ensure_local_token(Role.PROVIDER, home=tmp_path)
        async with listening(token) as hub:
            home.write_hub_record(hub.url, home=tmp_path)
            await until(lambda: agent.reports)
            assert agent.reports[0].startswith("registered as rig-7-")
            assert agent.reports[0].endswith(f" at {hub.url}")


async def test_a_new_token_is_tried_at_once(tmp_path: Path) -> None:
    """A refused agent waits a minute with the same token, but not with a new one in its file."""
    good, path = new_token(Role.PROVIDER), tmp_path / "token"
    path.write_text(new_token(Role.PROVIDER))
    async with listening(good) as hub, running(tmp_path, token_file=path, hub=hub.url) as agent:
        await until(lambda: agent.complaints)
        assert "token" in agent.complaints[0]
        path.write_text("qbx_cut-sho")
        await until(lambda: len(agent.complaints) == 2)
        assert "holds no valid token" in agent.complaints[1]
        path.write_text(good)
        await until(lambda: agent.reports)
        assert [text for text in agent.complaints if good in text] == []


async def test_gpus_that_come_later(tmp_path: Path, nvml: FakeNvml) -> None:
    """A driver that is loaded later changes the record at the hub; that is no new registration."""
    nvml.set_system(init="!9")
    token = home.ensure_local_token(Role.PROVIDER, home=tmp_path)
    async with listening(token) as hub:
        home.write_hub_record(hub.url, home=tmp_path)
        async with running(tmp_path) as agent:
            await until(lambda: agent.reports)
            (provider,) = hub.providers()
            assert (provider.gpu_count, provider.gpu_model) == (0, None)
            nvml.set_system(init=None)
            await until(lambda: hub.providers()[0].gpu_count == 2)
            assert hub.providers()[0].gpu_model == "NVIDIA H200"
            assert len(agent.reports) == 1


async def test_a_driver_that_does_not_answer(
    tmp_path: Path, nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first registration waits for the GPUs, but not for ever: their number is then unknown, not 0."""
    monkeypatch.setattr(service_module, "FIRST_LOOK_SECONDS", 0.3)
    nvml.set_system(init="hang")
    token = home.ensure_local_token(Role.PROVIDER, home=tmp_path)
    async with listening(token) as hub:
        home.write_hub_record(hub.url, home=tmp_path)
        async with running(tmp_path) as agent:
            await until(lambda: agent.reports)
            assert hub.providers()[0].gpu_count is None


async def test_it_ends_before_it_began(tmp_path: Path, nvml: FakeNvml) -> None:
    """A signal while it still waits for the GPUs ends it like any other."""
    nvml.set_system(init="hang")
    async with running(tmp_path) as agent:
        pass
    assert agent.reports == []


class Slow(HostSensor):
    """A host sensor that hangs in the kernel from its third reading on, until it is let go."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.let_go = threading.Event()
        self.hangs = threading.Event()
        self._left = 2

    def read(self) -> HostReading:
        """Read, or hang."""
        if self._left == 0:
            self.hangs.set()
            self.let_go.wait(30)
        self._left -= 1
        return super().read()


async def test_the_watchdog_is_fed_by_samples(tmp_path: Path) -> None:
    """Ready with the first sample, then alive with those that follow; once none comes, not a word more."""
    sensor, address = Slow(tmp_path), str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(address)
        supervisor.setblocking(False)
        heard: list[str] = []
        under_test = Running(
            tmp_path,
            hub="ws://127.0.0.1:1",
            sampler=Sampler(tmp_path, host=sensor, gpu=NoGpus()),
            notifier=Notifier(address, 0.04),
        )
        asyncio.get_running_loop().add_reader(
            supervisor, lambda: heard.append(supervisor.recv(4096).decode())
        )
        task = asyncio.get_running_loop().create_task(under_test.service.run())
        await until(sensor.hangs.is_set)
        await until(lambda: any("connection refused" in message for message in heard))
        assert heard[0] == "READY=1\nSTATUS=sampling"
        assert heard.count("WATCHDOG=1") == 2
        sensor.let_go.set()
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(5):
            await task
        await until(lambda: any(message.startswith("STOPPING=1") for message in heard))
        asyncio.get_running_loop().remove_reader(supervisor)
