"""The fleet digest: who gets which samples, how often, at what cost."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from qubix_tui.hub.digest import MAX_REASONS, Digests, headline
from qubix_tui.hub.outbox import Outbox
from qubix_tui.hub.provider_state import Entry
from qubix_tui.hub.registry import Registry
from qubix_tui.hub.telemetry import Telemetry
from qubix_tui.protocol import MAX_FRAME_BYTES
from qubix_tui.protocol.records import GpuMetrics, Metrics
from qubix_tui.protocol.requests import Register
from tests.hub.frames import FakeSocket, messages
from tests.hub.manual_clock import ManualClock

QUICK = 0.1


class Fleet:
    """A registry with some providers, and its digests."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.registry = Registry(self.clock)
        self.telemetry = Telemetry()
        self.digests = Digests(self.registry, self.telemetry)

    def add(self, count: int) -> list[Entry]:
        return [self.sample(self.register(f"w{number:05}"), 1) for number in range(count)]

    def register(self, worker_id: str) -> Entry:
        request = Register(worker_id=worker_id, instance="i")
        return self.registry.registered(self.registry.register(request))

    def sample(self, entry: Entry, seq: int) -> Entry:
        self.registry.sampled(entry, Metrics(seq=seq, cpu_percent=50))
        return entry

    def join(self, seconds: float = QUICK) -> tuple[FakeSocket, Outbox]:
        socket = FakeSocket()
        outbox = Outbox(socket)
        self.digests.join(outbox, seconds)
        return socket, outbox


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    """A fleet without providers."""
    made = Fleet()
    yield made
    await made.digests.close()


def lines(socket: FakeSocket) -> list[tuple[str, int]]:
    """Provider and seq of every headline that a reader got, in order."""
    return [
        (line["providerId"], line["seq"])
        for message in messages(socket.sent)
        for line in message["data"]["providers"]
    ]


async def until(condition: Any, seconds: float = 5.0) -> None:
    """Wait for something."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


async def test_a_new_subscriber_gets_a_full_set_at_once_then_newer_samples_only(fleet: Fleet) -> None:
    """A sample that equals the last one is newer all the same; no sample comes twice."""
    one, two = fleet.add(2)
    fleet.register("silent")
    socket, _ = fleet.join()
    assert lines(socket) == [(one.id, 1), (two.id, 1)]
    socket.written.clear()
    fleet.sample(two, 1)
    await until(lambda: socket.written)
    assert lines(socket) == [(two.id, 1)]
    message = messages(socket.sent)[0]
    assert (message["type"], message["channel"], message["data"]["kind"]) == (
        "MARKETPLACE_UPDATE",
        "marketplace",
        "metrics",
    )
    assert "offset" not in message


async def test_subscribers_of_one_interval_share_a_tick_and_its_bytes(fleet: Fleet) -> None:
    """One encoding, whoever reads it."""
    (one,) = fleet.add(1)
    sockets = [fleet.join()[0] for _ in range(3)]
    for socket in sockets:
        socket.written.clear()
    fleet.sample(one, 2)
    await until(lambda: all(socket.written for socket in sockets))
    assert sockets[0].written[0] is sockets[1].written[0] is sockets[2].written[0]


async def test_a_subscriber_between_two_ticks_gets_no_sample_twice(fleet: Fleet) -> None:
    """What its full set held is not news at the next tick."""
    one, two = fleet.add(2)
    first, _ = fleet.join(0.2)
    fleet.sample(one, 2)
    second, _ = fleet.join(0.2)
    fleet.sample(two, 2)
    first.written.clear()
    await until(lambda: first.written)
    await until(lambda: len(second.written) == 2)
    assert sorted(lines(first)) == sorted([(one.id, 2), (two.id, 2)])
    assert lines(second) == [(one.id, 2), (two.id, 1), (two.id, 2)]


async def test_nothing_new_sends_nothing(fleet: Fleet) -> None:
    """An idle fleet costs no bytes."""
    (one,) = fleet.add(1)
    slow, _ = fleet.join(0.3)
    quick, _ = fleet.join(0.1)
    slow.written.clear()
    quick.written.clear()
    fleet.sample(one, 2)
    # The quick one has had a tick or two more than the slow one by then, with nothing to say.
    await until(lambda: slow.written)
    assert lines(slow) == lines(quick) == [(one.id, 2)]


async def test_three_thousand_headlines_come_in_frames_of_64_kib(fleet: Fleet) -> None:
    """In pages, in the full set as in a tick."""
    entries = fleet.add(3_000)
    socket, _ = fleet.join()
    assert len(lines(socket)) == 3_000
    assert all(len(frame) <= MAX_FRAME_BYTES for frame in socket.written)
    socket.written.clear()
    for entry in entries:
        fleet.sample(entry, 2)
    await until(lambda: len(lines(socket)) >= 3_000)
    assert sorted(lines(socket)) == [(entry.id, 2) for entry in sorted(entries, key=lambda entry: entry.id)]
    assert all(MAX_FRAME_BYTES * 0.9 < len(frame) <= MAX_FRAME_BYTES for frame in socket.written[:-1])


async def test_an_unread_digest_is_merged_into_the_next(fleet: Fleet) -> None:
    """A reader that comes back gets every provider once, with its newest sample, whatever it missed."""
    entries = fleet.add(1_000)
    watcher, _ = fleet.join()
    slow, outbox = fleet.join()
    slow.written.clear()
    slow.paused = True
    outbox.hold()
    for seq in (2, 3, 4):
        watcher.written.clear()
        for entry in entries:
            fleet.sample(entry, seq)
        await until(lambda: len(lines(watcher)) >= 1_000)
    assert outbox.waiting_bytes == 0
    slow.paused = False
    outbox.pump()
    assert sorted(lines(slow)) == [(entry.id, 4) for entry in sorted(entries, key=lambda entry: entry.id)]
    slow.written.clear()
    fleet.sample(entries[0], 5)
    await until(lambda: slow.written)
    assert lines(slow) == [(entries[0].id, 5)]


async def test_a_reader_that_takes_a_page_a_tick_sees_every_provider_in_turn(fleet: Fleet) -> None:
    """Those that wait keep their place, so a slow link sees the whole fleet, only less often."""

    class OnePage(FakeSocket):
        def write(self, data: bytes) -> None:
            super().write(data)
            self.paused = True

    entries = fleet.add(1_000)
    watcher, _ = fleet.join()
    slow = OnePage()
    outbox = Outbox(slow)
    fleet.digests.join(outbox, QUICK)
    for seq in range(2, 30):
        watcher.written.clear()
        for entry in entries:
            fleet.sample(entry, seq)
        await until(lambda: len(lines(watcher)) >= 1_000)
        slow.paused = False
        outbox.pump()
        if len(dict(lines(slow))) == 1_000:
            break
    assert len(dict(lines(slow))) == 1_000


async def test_a_provider_that_is_gone_is_in_no_digest(fleet: Fleet) -> None:
    """Not even in the one that it was part of."""
    one, two = fleet.add(2)
    socket = FakeSocket()
    socket.paused = True
    outbox = Outbox(socket)
    outbox.hold()
    fleet.digests.join(outbox, QUICK)
    fleet.clock.advance(60)
    outcome = fleet.registry.refresh(one)
    assert outcome is not None
    fleet.registry.apply(outcome)
    fleet.registry.apply(fleet.registry.remove(one.id))
    socket.paused = False
    outbox.pump()
    assert lines(socket) == [(two.id, 1)]


async def test_leaving_ends_it_and_the_last_one_ends_the_ticks(fleet: Fleet) -> None:
    """No task stays for nobody; leaving twice is no error."""
    socket, outbox = fleet.join()
    tasks = {task for task in asyncio.all_tasks() if task.get_name() == "digest"}
    assert len(tasks) == 1
    fleet.digests.leave(outbox)
    fleet.digests.leave(outbox)
    await until(lambda: all(task.done() for task in tasks))
    assert socket.written == []


async def test_another_interval_replaces_the_first(fleet: Fleet) -> None:
    """The newest options win: one digest a connection."""
    fleet.add(1)
    socket, outbox = fleet.join(60)
    fleet.digests.join(outbox, 0.1)
    socket.written.clear()
    fleet.sample(next(iter(fleet.registry)), 2)
    await until(lambda: socket.written)
    assert lines(socket)[0][1] == 2


def test_a_headline_is_what_a_row_needs() -> None:
    """The hottest GPU, sums of what is known, the union of reasons without idle."""
    gpus = [
        GpuMetrics(index=0, temp_c=60, temp_slowdown_c=90, power_w=100, power_limit_w=450, throttle=["idle"]),
        GpuMetrics(index=1, temp_c=87, temp_slowdown_c=88, power_w=438.5, throttle=["power cap"]),
        GpuMetrics(index=2, state="lost"),
    ]
    row = headline("rig-7", Metrics(seq=9, gpu_percent=80.5, gpu_temp=87, gpus=gpus), 1_800_000_000.0)
    assert (row.provider_id, row.seq, row.timestamp) == ("rig-7", 9, "2027-01-15T08:00:00.000Z")
    assert (row.hottest_gpu, row.temp_slowdown_c, row.gpu_temp) == (1, 88, 87)
    assert (row.power_w, row.power_limit_w) == (538.5, 450)
    assert row.throttle == ["power cap"]
    assert row.gpus_lost == 1


def test_what_is_not_known_is_null_in_a_headline() -> None:
    """Never 0."""
    row = headline("rig-7", Metrics(), 0)
    unknown = (row.hottest_gpu, row.power_w, row.power_limit_w, row.throttle, row.gpus_lost, row.gpu_percent)
    assert unknown == (None,) * 6


def test_a_headline_stays_short_whatever_the_sample() -> None:
    """A provider can't make one that fits on no page."""
    gpus = [GpuMetrics(index=0, throttle=[f"{n}" + "x" * 100 for n in range(500)])]
    row = headline("rig-7", Metrics(gpus=gpus), 0)
    assert row.throttle is not None
    assert len(row.throttle) == MAX_REASONS
