"""Jobs under anything that may happen to hubs that share a store, and to their agents."""

from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import precondition, rule

from qubix_tui.hub.engine.base import StoredEvent
from tests.hub.job_agent import Agent, JobsOfHub
from tests.hub.job_world import JobHub
from tests.hub.jobs_machine import AGENTS, PRICES, JobsMachine
from tests.hub.shared_job_world import SharedWorld

MAX_HUBS = 3
HAPPENINGS = ["nothing", "lag", "cut", "frozen", "killed", "heal", "cancel"]
STEP_SECONDS = 4.0
"""How often hubs look at their deadlines: they may not look away for as long as another one may be silent."""


class SharedHubsMachine(JobsMachine):
    """Up to three hubs: any may lag, be frozen, be cut off from the store, or be killed."""

    def __init__(self) -> None:
        super().__init__()
        self.world: SharedWorld = SharedWorld(PRICES)
        for _ in range(MAX_HUBS):
            self.runner.run(self.world.start())
        for number, agent in enumerate(self.world.agents):
            hub = self.hub(number)
            self.do(hub, agent.connect(hub))

    def come_to_an_end(self) -> None:
        for hub in self.world.all:
            if hub.trouble is not None:
                self.runner.run(self.world.heal(hub))
        self.check_hubs_agree()
        super().come_to_an_end()
        self.check_hubs_agree()

    @property
    def published(self) -> Iterable[StoredEvent]:
        return (event for entry in self.world.store.log for event in entry.events)

    @property
    def witness(self) -> JobHub | None:
        return next(iter(self.world.hubs), None)

    @property
    def everywhere(self) -> Sequence[JobHub]:
        return self.world.all

    def hub(self, pick: int) -> JobHub:
        hubs = self.world.reachable
        return hubs[pick % len(hubs)]

    def pass_seconds(self, seconds: float) -> None:
        while seconds > 0:
            super().pass_seconds(min(seconds, STEP_SECONDS))
            seconds -= STEP_SECONDS

    def check_hubs_agree(self) -> None:
        """All hubs that have heard everything know the same."""
        views = [view(hub) for hub in self.world.hubs]
        for other in views[1:]:
            assert other == views[0]

    @precondition(lambda self: len(self.world.all) < MAX_HUBS)
    @rule()
    def start_hub(self) -> None:
        self.runner.run(self.world.start())

    @rule(data=st.data(), what=st.sampled_from(HAPPENINGS))
    def trouble(self, data: st.DataObject, what: str) -> None:
        self.happen(what, data)

    @rule(data=st.data())
    def story(self, data: st.DataObject) -> None:
        """A job runs, and its hub, its agent, or both have a bad time; others would take it over."""
        self.submit(pick=0, retries=2, key=None)
        for agent in self.world.agents:
            self.serve(agent, data.draw(self.picks))
        for _ in range(data.draw(st.integers(1, 4))):
            self.happen(data.draw(st.sampled_from(HAPPENINGS)), data)
            silent, staying = data.draw(st.sets(self.agents)), data.draw(st.sets(self.agents))
            self.live_on(data.draw(st.sampled_from([10, 20, 50, 70])), silent, staying)

    def happen(self, what: str, data: st.DataObject) -> None:
        """Have something happen to a hub that is not the last one that is well, or a job cancelled."""
        well = [hub for hub in self.world.all if hub.trouble is None]
        ill = [hub for hub in self.world.all if hub.trouble is not None]
        if what == "cancel" and self.submitted:
            hub = data.draw(st.sampled_from(self.world.reachable))
            self.do(hub, hub.cancel(data.draw(st.sampled_from(self.submitted[-2:]))))
        elif what == "heal" and ill:
            self.runner.run(self.world.heal(data.draw(st.sampled_from(ill))))
        elif what == "killed" and len(well) > 1:
            self.runner.run(self.world.kill(data.draw(st.sampled_from(well))))
        elif what in {"lag", "cut", "frozen"} and len(well) > 1:
            self.world.trouble(data.draw(st.sampled_from(well)), what)

    def live_on(self, seconds: int, silent: set[int], staying: set[int]) -> None:
        """Let time pass; agents renew their leases, and look for another hub if they do not stay."""
        for _ in range(0, seconds, 10):
            for number, agent in enumerate(self.world.agents):
                agent.frozen = number in silent
                if agent.frozen:
                    continue
                if number not in staying:
                    self.leave_unless_well(agent)
                    well = [pick for pick, hub in enumerate(self.world.reachable) if hub.trouble is None]
                    self.serve(agent, well[number % len(well)])
                elif self.is_frozen(agent.hub):
                    self.world.renew_at_frozen(agent)
                else:
                    self.do(agent.hub, agent.renew())
            self.pass_seconds(10.0)

    def leave_unless_well(self, agent: Agent) -> None:
        """Have an agent leave a hub that does not answer."""
        if agent.hub is not None and agent.hub not in self.world.hubs:
            self.leave(agent, goodbye=False)

    @rule(number=st.integers(0, AGENTS - 1))
    def ask_a_frozen_hub(self, number: int) -> None:
        """It answers when it goes on."""
        self.world.renew_at_frozen(self.agent(number))

    # Nobody gets anything done at a frozen hub

    def is_frozen(self, hub: JobsOfHub | None) -> bool:
        return hub is not None and hub not in self.world.reachable

    def do(self, hub: JobsOfHub | None, work: Coroutine[Any, Any, Any]) -> None:
        super().do(None if self.is_frozen(hub) else hub, work)

    def obey(self, agent: Agent, *, refuses: bool) -> None:
        if not self.is_frozen(agent.hub):
            super().obey(agent, refuses=refuses)

    def leave(self, agent: Agent, *, goodbye: bool) -> None:
        if self.is_frozen(agent.hub):
            self.world.leave_frozen(agent)
        else:
            super().leave(agent, goodbye=goodbye)

    def serve(self, agent: Agent, pick: int = 0) -> None:
        if self.is_frozen(agent.hub):
            self.leave(agent, goodbye=False)
        super().serve(agent, pick)


def view(hub: JobHub) -> Any:
    """What a hub knows of jobs that all hubs have to know alike."""
    book = hub.jobs.book
    return (
        {job_id: (live.stored, live.reported) for job_id, live in book.live.items()},
        set(book.queue),
        set(book.held),
        dict(book.archive.states()),
        {entry.id: (entry.stored, book.track_record(entry.id)) for entry in hub.providers.registry},
    )


TestSharedJobs = SharedHubsMachine.TestCase
TestSharedJobs.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
