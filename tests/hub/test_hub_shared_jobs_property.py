"""Jobs under anything that may happen to hubs that share a store, and to their agents."""

from collections.abc import Coroutine, Iterable
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import precondition, rule

from qubix_tui.hub.engine.base import StoredEvent
from tests.hub.job_world import Agent, JobHub, SharedWorld, SharingHub
from tests.hub.jobs_machine import AGENTS, PRICES, JobsMachine

MAX_HUBS = 3
STEP_SECONDS = 4.0
"""Longer than a hub looks away, unless it is frozen."""


class SharedHubsMachine(JobsMachine):
    """Two or three hubs: any may lag, be frozen, be cut off from the store, or be killed."""

    def __init__(self) -> None:
        super().__init__()
        self.world: SharedWorld = SharedWorld(PRICES)
        for _ in range(2):
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

    @precondition(lambda self: len(self.world.reachable) > 1)
    @rule(data=st.data(), kind=st.sampled_from(["lag", "cut", "frozen"]))
    def trouble(self, data: st.DataObject, kind: str) -> None:
        well = [hub for hub in self.world.all if hub.trouble is None]
        if well:
            self.world.trouble(data.draw(st.sampled_from(well)), kind)

    @precondition(lambda self: any(hub.trouble for hub in self.world.all))
    @rule(data=st.data())
    def heal(self, data: st.DataObject) -> None:
        ill = [hub for hub in self.world.all if hub.trouble is not None]
        self.runner.run(self.world.heal(data.draw(st.sampled_from(ill))))

    @precondition(lambda self: len(self.world.reachable) > 1)
    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        hub: SharingHub = data.draw(st.sampled_from(self.world.all))
        if len([other for other in self.world.reachable if other is not hub]) > 0:
            self.runner.run(self.world.kill(hub))

    @rule(number=st.integers(0, AGENTS - 1))
    def ask_a_frozen_hub(self, number: int) -> None:
        """It answers when it goes on."""
        self.world.renew_at_frozen(self.agent(number))

    # Nobody gets anything done at a frozen hub

    def is_frozen(self, hub: JobHub | None) -> bool:
        return hub is not None and hub not in self.world.reachable

    def do(self, hub: JobHub | None, work: Coroutine[Any, Any, Any]) -> None:
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
TestSharedJobs.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
