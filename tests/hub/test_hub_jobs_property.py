"""Jobs under anything that may happen to a hub that is alone with its store."""

from collections.abc import Iterable

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import rule

from qubix_tui.hub.engine.base import NewEvent
from tests.hub.job_world import JobHub, World
from tests.hub.jobs_machine import PRICES, JobsMachine


class LoneHubMachine(JobsMachine):
    """A hub that may be killed, and a store that may be full."""

    def __init__(self) -> None:
        super().__init__()
        self.world: World = World(PRICES)
        self.runner.run(self.world.start())
        for agent in self.world.agents:
            self.do(self.world.hub, agent.connect(self.world.hub))

    def come_to_an_end(self) -> None:
        self.world.store.full = False
        super().come_to_an_end()

    @property
    def published(self) -> Iterable[NewEvent]:
        return self.world.store.published

    @property
    def witness(self) -> JobHub:
        return self.world.hub

    def hub(self, pick: int) -> JobHub:
        return self.world.hub

    @rule()
    def restart(self) -> None:
        self.runner.run(self.world.restart())

    @rule(full=st.booleans())
    def fill_the_disk(self, full: bool) -> None:
        self.world.store.full = full


TestJobs = LoneHubMachine.TestCase
TestJobs.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
