"""The hub's heartbeat goes on, whatever one beat came to."""

import asyncio
from typing import cast

import pytest

from qubix_tui.hub.heartbeat import BEATS_PER_WORD, Heartbeat
from qubix_tui.hub.nodes import Nodes
from qubix_tui.hub.store_watch import StoreWatch
from tests.hub.wire import eventually


class Beaten:
    """A store and hubs that count how often they are looked at, and told; the first look fails."""

    def __init__(self) -> None:
        self.looks = self.words = 0

    async def look(self) -> None:
        self.looks += 1
        if self.looks == 1:
            raise ValueError("a mistake")

    def describe(self) -> None:
        self.words += 1


async def test_a_beat_that_fails_is_logged_and_the_next_one_comes(caplog: pytest.LogCaptureFixture) -> None:
    """The store is looked at with each, other hubs hear of each fourth; after the end nothing happens."""
    beaten = Beaten()
    heartbeat = Heartbeat(cast(StoreWatch, beaten), cast(Nodes, beaten))
    heartbeat.start()
    await eventually(lambda: beaten.words == 1)
    await heartbeat.close()
    assert beaten.looks == BEATS_PER_WORD + 1
    assert "a mistake" in caplog.text
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "hub heartbeat"]


async def test_a_heart_that_never_beat_ends_all_the_same() -> None:
    """A hub that could not start has one."""
    beaten = Beaten()
    await Heartbeat(cast(StoreWatch, beaten), cast(Nodes, beaten)).close()
    assert beaten.looks == 0
