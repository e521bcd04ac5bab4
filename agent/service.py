"""The running agent: sampler, link and the signals that end them, in one event loop."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agent.backlog import Backlog
from agent.link import Link, new_instance
from agent.sampler import Sample, Sampler, SamplerThread
from agent.sensors.gpu import NO_READING
from agent.sensors.inventory import Owner, provider_spec, read_host
from agent.state import StateError
from agent.target import Target, TargetError, TargetFinder
from qubix_tui.client import BadUrl
from qubix_tui.home import HomeError
from qubix_tui.protocol.records import ProviderSpec

FIRST_LOOK_SECONDS: Final = 2.0
"""How long the first registration waits for the GPUs: without them it would be false news."""

LOOK_AGAIN_SECONDS: Final = 5.0
"""How often an agent that is not registered looks whether the hub's address or its token changed."""

STOP_SECONDS: Final = 0.8
"""For the sampler's last reading; the link's goodbye comes on top."""


class Service:
    """Runs until it is told to stop.

    Args:
        finder: Where the hub is.
        owner: What the owner says of this machine.
        directory: The agent's state directory.
        lifeline: Descriptor of an inherited pipe; the agent ends when its other end closes.
        insecure: Whether the token may cross a network in the clear.
        report: Called with one line each time the provider is registered.
        complain: Called with one sentence for each new reason why it is not.
    """

    def __init__(
        self,
        finder: TargetFinder,
        owner: Owner,
        directory: Path,
        *,
        lifeline: int | None,
        insecure: bool,
        report: Callable[[str], None],
        complain: Callable[[str], None],
    ) -> None:
        self._finder = finder
        self._owner = owner
        self._directory = directory
        self._lifeline = lifeline
        self._insecure = insecure
        self._report = report
        self._complain = complain
        self._host = read_host()
        self._instance = new_instance()
        self._backlog = Backlog()
        self._newest: Sample | None = None
        self._settled = asyncio.Event()
        self._stopping = asyncio.Event()
        self._link: Link | None = None

    async def run(self) -> None:
        """Sample and send until SIGTERM, SIGINT or the end of the lifeline.

        Raises:
            qubix_tui.client.BadUrl: The address of the hub can't be dialled, or the token not sent there.
            TargetError: The token given can't be used.
            agent.state.StateError: What was kept of an enrollment can't be read.
            qubix_tui.home.HomeError: Likewise.
        """
        loop = asyncio.get_running_loop()
        self._link = self._new_link(self._finder.find())
        self._listen_for_the_end(loop)

        def deliver(sample: Sample) -> None:
            # Where a reading outlasted the agent's end the loop is closed already.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._take, sample)

        sampler = SamplerThread(Sampler(self._directory), deliver)
        sampler.start()
        try:
            await self._wait_for(self._settled, FIRST_LOOK_SECONDS)
            await self._link.start()
            while not await self._wait_for(self._stopping, LOOK_AGAIN_SECONDS):
                if not self._link.is_open:
                    await self._follow_target()
        finally:
            sampler.stop_soon()
            await self._link.close()
            sampler.join(STOP_SECONDS)

    def _listen_for_the_end(self, loop: asyncio.AbstractEventLoop) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        if self._lifeline is not None:
            loop.add_reader(self._lifeline, self._read_lifeline, loop, self._lifeline)

    def _read_lifeline(self, loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
        if not os.read(descriptor, 4096):
            loop.remove_reader(descriptor)
            self._stop()

    def _stop(self) -> None:
        self._stopping.set()
        self._settled.set()

    def _take(self, sample: Sample) -> None:
        self._newest = sample
        if sample.gpus.settled:
            self._settled.set()
        if self._link is not None and not self._stopping.is_set():
            self._link.send(sample)

    async def _follow_target(self) -> None:
        """Dial another hub, or with another token, if that is what is asked for by now."""
        assert self._link is not None
        try:
            target = self._finder.find()
            if target == self._link.target:
                return
            link = self._new_link(target)
        except (TargetError, StateError, HomeError, BadUrl) as error:
            self._link.say(str(error))
            return
        await self._link.close()
        self._link = link
        await link.start()

    def _new_link(self, target: Target) -> Link:
        return Link(
            target,
            spec=self._spec,
            registered=lambda provider_id: self._report(f"registered as {provider_id} at {target.url}"),
            complain=self._complain,
            instance=self._instance,
            backlog=self._backlog,
            insecure=self._insecure,
        )

    def _spec(self) -> ProviderSpec:
        gpus = NO_READING if self._newest is None else self._newest.gpus
        return provider_spec(self._owner, self._host, gpus)

    async def _wait_for(self, event: asyncio.Event, seconds: float) -> bool:
        """Wait until ``event`` is set; False if that does not happen in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await event.wait()
        return False
