"""The running agent: sampler, link, jobs, the owner's desk and what ends it, in one event loop."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from agent.availability import Availability
from agent.backlog import Backlog
from agent.control import ControlError, ControlServer
from agent.desk import Desk, Facts
from agent.jobs.manager import JobManager
from agent.jobs.offer import Offer
from agent.jobs.workloads import Catalogue
from agent.link import Link, new_instance
from agent.sampler import PERIOD, Sample, Sampler, SamplerThread
from agent.sensors.gpu import NO_READING
from agent.sensors.inventory import Owner, provider_spec, read_host
from agent.state import StateError
from agent.target import Target, TargetError, TargetFinder
from agent.transport import TransportError
from qubix_tui.client import BadUrl
from qubix_tui.home import HomeError
from qubix_tui.notify import Notifier
from qubix_tui.protocol.records import ProviderSpec
from qubix_tui.settings.schema import SettingsError

FIRST_LOOK_SECONDS: Final = 2.0
"""How long the first registration waits for GPUs and workloads: without them it would be false news."""

LOOK_AGAIN_SECONDS: Final = 5.0
"""How often an agent looks whether the hub's address or its token changed, or a wish did not get through."""

STOP_SECONDS: Final = 0.8
"""For the sampler's last reading; the link's goodbye comes on top."""


class Service:
    """Runs until it is told to stop.

    Args:
        finder: Where the hub is.
        owner: What the owner says of this machine.
        directory: The agent's state directory, held by this process.
        sampler: What takes the samples.
        period: Seconds between them.
        catalogue: Tries out what the owner lets run, and gives it; None where this machine takes no jobs.
        lifeline: Descriptor of an inherited pipe; the agent ends when its other end closes.
        notifier: The supervisor, if there is one.
        report: Called with one line each time the provider is registered.
        complain: Called with one sentence for each new reason why it is not.
    """

    def __init__(
        self,
        finder: TargetFinder,
        owner: Owner,
        directory: Path,
        *,
        sampler: Sampler,
        period: float = PERIOD,
        catalogue: Callable[[], Catalogue] | None = None,
        lifeline: int | None = None,
        notifier: Notifier | None = None,
        report: Callable[[str], None],
        complain: Callable[[str], None],
    ) -> None:
        self._finder = finder
        self._owner = owner
        self._directory = directory
        self._sampler = sampler
        self._period = period
        self._lifeline = lifeline
        self._supervisor = _Supervisor(notifier or Notifier())
        self._report = report
        self._say = complain
        self._host = read_host()
        self._instance = new_instance()
        self._backlog = Backlog()
        self._settled = asyncio.Event()
        self._offered = asyncio.Event()
        self._stopping = asyncio.Event()
        self._availability = Availability(directory)
        self._facts: Facts | None = None
        self._offer = Offer(catalogue or (lambda: Catalogue((), user=None)))
        self._jobs = JobManager(
            directory / "jobs",
            self._offer,
            why_not=self._availability.why_not,
            complain=complain,
            gpus=lambda: [gpu.uuid for gpu in self._spec().gpus if gpu.uuid is not None],
            on_gpus=self._processes_on_gpus,
        )

    async def run(self) -> None:
        """Sample and send until SIGTERM, SIGINT or the end of the lifeline.

        Raises:
            qubix_tui.client.BadUrl: The address of the hub can't be dialled, or the token not sent there.
            TargetError: The token given can't be used.
            TransportError: Nor can the authority to trust.
            agent.state.StateError: What was kept of an enrollment can't be read.
            qubix_tui.home.HomeError: Likewise.
        """
        loop = asyncio.get_running_loop()
        link = self._new_link(self._finder.find())
        facts = self._facts = Facts(self._owner.worker_id, link, started_at=time.time())
        desk = Desk(facts, self._availability, self._jobs.status)
        self._listen_for_the_end(loop)

        def deliver(sample: Sample) -> None:
            # Where a reading outlasted the agent's end the loop is closed already.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._take, facts, sample)

        sampler = SamplerThread(self._sampler, deliver, period=self._period)
        control = ControlServer(self._directory, desk.answer)
        sampler.start()
        offering = loop.create_task(self._try_out())
        try:
            await self._open(control)
            await self._jobs.start()
            await asyncio.gather(
                self._wait_for(self._settled, FIRST_LOOK_SECONDS),
                self._wait_for(self._offered, FIRST_LOOK_SECONDS),
            )
            await link.start()
            while not await self._wait_for(self._stopping, LOOK_AGAIN_SECONDS):
                if not facts.link.is_open:
                    await self._follow_target(facts)
                await desk.tell_hub()
        finally:
            self._supervisor.stopping()
            sampler.stop_soon()
            offering.cancel()
            await control.close()
            await facts.link.close()
            await self._jobs.close()
            sampler.join(STOP_SECONDS)

    async def _open(self, control: ControlServer) -> None:
        try:
            await control.start()
        except ControlError as error:
            self._complain(str(error))

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
        if self._lifeline is not None:
            # Whoever started this agent ends, and nobody will start it again.
            self._jobs.end_all("agent_restarted: what its agent was started for has ended")
        self._stopping.set()
        self._settled.set()
        self._offered.set()

    async def _try_out(self) -> None:
        """Find out what can be run here. The record that is registered follows, as with a GPU that comes."""
        try:
            for sentence in await self._offer.load():
                self._say(sentence)
        except SettingsError as error:
            self._complain(str(error))
        self._offered.set()

    def _take(self, facts: Facts, sample: Sample) -> None:
        facts.newest, facts.newest_at = sample, time.monotonic()
        self._supervisor.sampled(facts.newest_at)
        if sample.gpus.settled:
            self._settled.set()
        if not self._stopping.is_set():
            facts.link.send(sample)

    async def _follow_target(self, facts: Facts) -> None:
        """Dial another hub, or with another token, if that is what is asked for by now."""
        try:
            target = self._finder.find()
            if target == facts.link.target:
                return
            link = self._new_link(target)
        except (TargetError, TransportError, StateError, HomeError, BadUrl) as error:
            facts.link.say(str(error))
            return
        await facts.link.close()
        facts.sent_before += facts.link.sent
        facts.link = link
        await link.start()

    def _new_link(self, target: Target) -> Link:
        return Link(
            target,
            spec=self._spec,
            registered=lambda provider_id: self._registered(provider_id, target.url),
            complain=self._complain,
            instance=self._instance,
            backlog=self._backlog,
            wish=self._availability.to_tell,
            told=self._availability.told,
            jobs=self._jobs,
        )

    def _registered(self, provider_id: str, url: str) -> None:
        if self._facts is not None:
            self._facts.provider_id, self._facts.registered_at = provider_id, time.time()
        line = f"registered as {provider_id} at {url}"
        self._supervisor.status(line)
        self._report(line)

    def _complain(self, sentence: str) -> None:
        self._supervisor.status(sentence)
        self._say(sentence)

    def _spec(self) -> ProviderSpec:
        newest = None if self._facts is None else self._facts.newest
        gpus = NO_READING if newest is None else newest.gpus
        spec = provider_spec(self._owner, self._host, gpus)
        return msgspec.structs.replace(spec, workloads=self._offer.workloads(spec.gpu_count))

    def _processes_on_gpus(self) -> set[int]:
        """The ids of the processes that hold a GPU, as far as the newest sample tells."""
        newest = None if self._facts is None else self._facts.newest
        gpus = [] if newest is None else newest.metrics.gpus
        return {process.pid for gpu in gpus for process in gpu.processes or ()}

    async def _wait_for(self, event: asyncio.Event, seconds: float) -> bool:
        """Wait until ``event`` is set; False if that does not happen in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await event.wait()
        return False


class _Supervisor:
    """What a supervisor hears: ready with the first sample, alive with each that follows.

    No timer feeds its watchdog: an agent that takes no more samples is of no use, however its loop turns.
    """

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._every = (notifier.watchdog_seconds or 0.0) / 4
        self._fed_at: float | None = None
        self._status = "sampling"

    def sampled(self, now: float) -> None:
        """A sample was taken, at ``now`` (monotonic)."""
        if self._fed_at is None:
            self._notifier.ready(self._status)
        elif not self._every or now - self._fed_at < self._every:
            return
        self._fed_at = now
        if self._every:
            self._notifier.alive()

    def status(self, line: str) -> None:
        """Say in a line how the agent does."""
        self._status = line
        self._notifier.status(line)

    def stopping(self) -> None:
        """The agent ends."""
        self._notifier.stopping("saying goodbye", 2 * STOP_SECONDS)
