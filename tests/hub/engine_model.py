"""A model of what any engine must keep: the engine beside a list of everything that was ever committed."""

import asyncio
from typing import Any, ClassVar

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from qubix_tui.hub.engine.base import Change, Conflict, Engine, NewEvent, Precondition, Replay
from tests.hub.manual_clock import ManualClock


class EngineMachine(RuleBasedStateMachine):
    """The engine beside a list of everything that was ever committed."""

    bounds: ClassVar[dict[str, Any]]
    exact: ClassVar[bool]
    """Whether nothing is evicted, so that the model knows what is kept and not only what is true."""

    channels = st.sampled_from([f"c{number}" for number in range(14)])
    keys = st.sampled_from("ab")
    values = st.sampled_from([None, b"", b"1", b"2"])

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        self.engine = self.make()
        self.runner.run(self.engine.open())
        self.all: dict[str, list[tuple[int, float, bytes]]] = {}
        self.table: dict[str, bytes] = {}
        self.reported: dict[str, int] = {}
        self.number = 0

    def make(self) -> Engine:
        """Make an engine on the machine's clock, within its bounds."""
        raise NotImplementedError

    def teardown(self) -> None:
        self.runner.run(self.engine.close())
        self.runner.close()

    @rule(
        conditions=st.lists(st.tuples(keys, values), max_size=2),
        changes=st.lists(st.tuples(keys, values), max_size=2),
        into=st.lists(channels, max_size=4),
    )
    def commit(
        self,
        conditions: list[tuple[str, bytes | None]],
        changes: list[tuple[str, bytes | None]],
        into: list[str],
    ) -> None:
        events = []
        for channel in into:
            self.number += 1
            events.append(NewEvent(channel, "T", b"%04d" % self.number))
        attempt = self.engine.commit(
            [Precondition("t", key, value) for key, value in conditions],
            [Change("t", key, value) for key, value in changes],
            events,
        )
        if any(self.table.get(key) != value for key, value in conditions):
            try:
                self.runner.run(attempt)
            except Conflict:
                return
            raise AssertionError("a precondition did not hold, and the commit went through")
        offsets = self.runner.run(attempt)
        for key, value in changes:
            if value is None:
                self.table.pop(key, None)
            else:
                self.table[key] = value
        for event, offset in zip(events, offsets, strict=True):
            assert offset > self.reported.get(event.channel, 0), "an offset went back"
            self.reported[event.channel] = offset
            entry = (offset, self.clock.monotonic(), event.data)
            self.all.setdefault(event.channel, []).append(entry)

    @rule(seconds=st.sampled_from([1.0, 4.0, 11.0]))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(channel=channels)
    def look_at_the_offset(self, channel: str) -> None:
        offset = self.engine.offset(channel)
        assert offset >= self.reported.get(channel, 0), "an offset went back"
        if self.exact:
            assert offset == len(self.all.get(channel, []))
        self.reported[channel] = offset

    @rule(channel=channels, since=st.integers(0, 12), limit=st.integers(1, 8))
    def replay(self, channel: str, since: int, limit: int) -> None:
        replay = self.runner.run(self.engine.replay(channel, since, limit=limit))
        ever = self.all.get(channel, [])
        if replay.complete and since:
            missed = [(offset, data) for offset, _, data in ever if offset > since]
            assert [(event.offset, event.data) for event in replay.events] == missed
        if not replay.complete:
            assert since
            assert replay.events == []
        self.check_exactly(replay, ever, since, limit)

    def check_exactly(
        self, replay: Replay, ever: list[tuple[int, float, bytes]], since: int, limit: int
    ) -> None:
        if not self.exact:
            return
        oldest = self.clock.monotonic() - self.bounds["max_age"]
        kept = [entry for entry in ever[-self.bounds["max_events"] :] if entry[1] >= oldest]
        if since == 0:
            assert [event.offset for event in replay.events] == [offset for offset, _, _ in kept[-limit:]]
            return
        missed = len(ever) - since
        assert replay.complete == (0 <= missed <= min(limit, len(kept)))

    @precondition(lambda self: self.exact)
    @rule()
    def load(self) -> None:
        assert self.runner.run(self.engine.load("t")) == self.table
