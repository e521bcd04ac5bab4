"""What jobs print: kept within bounds, told live to who follows that one job, shown to who comes later."""

from collections.abc import AsyncIterator

import pytest

from qubix_tui.hub.engine.base import Change
from qubix_tui.hub.engine.memory import MemoryEngine
from qubix_tui.hub.job_logs import LOGS_TABLE, MAX_LOG_BYTES, MAX_PIECES, TAIL_BYTES, JobLogs, tail
from qubix_tui.protocol.job_records import LogPiece
from qubix_tui.protocol.requests import ReportLogs
from qubix_tui.protocol.tokens import Role
from qubix_tui.protocol.types import MAX_SAFE_INTEGER
from tests.hub.scripted_agent import join, submit
from tests.hub.wire import Running, eventually, running


@pytest.fixture
async def hub() -> AsyncIterator[Running]:
    """A hub that listens."""
    async with running() as made:
        yield made


def report(seq: int, text: str, start: int = 0, attempt: int = 1, job_id: str = "j") -> ReportLogs:
    """A piece of stdout."""
    return ReportLogs(job_id=job_id, attempt=attempt, seq=seq, stream="stdout", from_=start, text=text)


async def write(engine: MemoryEngine, logs: JobLogs, *reports: ReportLogs) -> None:
    """Take some pieces of log."""
    for one in reports:
        _, changes = await logs.add(one, 0.0)
        await engine.commit((), changes, ())


async def test_the_newest_of_a_log_is_kept() -> None:
    """1 MiB as it is stored; the oldest pieces go, and a hub that starts anew counts the same."""
    engine = MemoryEngine()
    await engine.open()
    logs = JobLogs(engine)
    size = 30_000
    for number in range(60):
        await write(engine, logs, report(number + 1, "x" * size, number * size))
        if number == 20:
            logs = JobLogs(engine)
    pieces = await logs.read("j")
    rows = await engine.load(LOGS_TABLE)
    stored = sum(map(len, rows.values()))
    assert stored == await logs.size("j")
    assert MAX_LOG_BYTES - size - 500 < stored <= MAX_LOG_BYTES
    assert pieces[-1].from_ == 59 * size
    assert [piece.from_ for piece in pieces] == [number * size for number in range(60 - len(pieces), 60)]


async def test_many_small_pieces_are_bounded_too() -> None:
    """By their number."""
    engine = MemoryEngine()
    await engine.open()
    logs = JobLogs(engine)
    await write(engine, logs, *(report(seq, "", seq) for seq in range(1, MAX_PIECES + 11)))
    pieces = await logs.read("j")
    assert (len(pieces), pieces[0].from_) == (MAX_PIECES, 11)


async def test_a_number_as_large_as_may_be_is_dropped_like_others() -> None:
    """It is the agent's to choose; the row that goes is its own, before and after a restart."""
    engine = MemoryEngine()
    await engine.open()
    for attempt in (1, 2):
        logs = JobLogs(engine)
        await write(engine, logs, report(MAX_SAFE_INTEGER, "large", attempt=attempt))
        logs = JobLogs(engine)
        await write(engine, logs, *(report(seq, "", attempt=attempt + 1) for seq in range(1, MAX_PIECES + 1)))
        pieces = await logs.read("j")
        assert len(pieces) == MAX_PIECES
        assert {piece.text for piece in pieces} == {""}
        for row in await engine.load(LOGS_TABLE):
            await engine.commit((), [Change(LOGS_TABLE, row, None)], ())


async def test_logs_are_in_the_order_of_attempts_and_reports() -> None:
    """Whatever the offsets say, and of that job alone."""
    engine = MemoryEngine()
    await engine.open()
    logs = JobLogs(engine)
    await write(
        engine,
        logs,
        report(9, "a"),
        report(10, "b", 1),
        report(1, "c", attempt=2),
        report(2, "other", job_id="j2"),
    )
    assert "".join(piece.text for piece in await logs.read("j")) == "abc"
    await engine.commit((), await logs.removal("j"), ())
    assert [piece.text for piece in await logs.read("j2")] == ["other"]
    assert await logs.read("j") == []


def test_a_tail_is_whole_pieces() -> None:
    """The newest that fit, in their order."""
    pieces = [
        LogPiece(attempt=1, stream="stdout", from_=n, text="x" * 30_000, timestamp="2026-01-31T12:00:00.000Z")
        for n in range(5)
    ]
    assert [piece.from_ for piece in tail(pieces)] == [3, 4]
    assert 2 * 30_000 <= TAIL_BYTES < 3 * 30_000
    assert tail([]) == []


async def test_a_log_is_told_to_who_follows_that_job(hub: Running) -> None:
    """Live, without an offset, and not to who follows all jobs."""
    async with (
        await hub.client(Role.OPERATOR) as operator,
        await hub.client() as follower,
        await hub.client() as everything,
        await hub.agent() as client,
    ):
        agent = await join(hub, client)
        job_id = await submit(operator)
        await follower.subscribe(f"job:{job_id}")
        await everything.subscribe("job:*")
        order = await agent.start()
        await agent.log(order, "é\x1b[31m\n", 5, dropped=3)
        heard = [message for message in await follower.heard() if message["type"] == "JOB_LOGS"]
        (logged,) = heard
        assert "offset" not in logged
        assert logged["channel"] == f"job:{job_id}"
        timestamp = logged["data"].pop("timestamp")
        assert timestamp.endswith("Z")
        assert logged["data"] == {
            "jobId": job_id,
            "stream": "stdout",
            "from": 5,
            "text": "é\x1b[31m\n",
            "dropped": 3,
        }
        assert "JOB_LOGS" not in {message["type"] for message in await everything.heard()}


async def test_a_snapshot_shows_the_record_the_receipts_and_the_tail(hub: Running) -> None:
    """In that order, and before what comes later; of a job that is not known it says so."""
    async with await hub.client(Role.OPERATOR) as operator, await hub.agent() as client:
        agent = await join(hub, client)
        job_id = await submit(operator, retries=1)
        order = await agent.start()
        await agent.log(order, "first\n")
        await agent.complete(order, "failed", reason="exit_code: 1")
        async with await hub.client() as watcher:
            await watcher.send("subscribe:job", {"snapshot": True}, subscriptionId=job_id)
            await watcher.send("subscribe:job", {"snapshot": True}, subscriptionId="j-none")
            subscribed, shown, log, other, nothing = [await watcher.recv() for _ in range(5)]
        assert (subscribed["type"], other["type"]) == ("subscribed", "subscribed")
        assert shown["data"]["kind"] == "job_snapshot"
        assert shown["data"]["job"]["state"] == "queued"
        assert [receipt["reason"] for receipt in shown["data"]["receipts"]] == ["exit_code: 1"]
        assert log["data"]["text"] == "first\n"
        assert nothing["data"] == {
            "kind": "job_snapshot",
            "jobId": "j-none",
            "job": None,
            "receipts": [],
        }


async def test_all_jobs_come_as_pages(hub: Running) -> None:
    """The newest first, whatever state they are in, each page within a frame."""
    async with await hub.client(Role.OPERATOR) as operator:
        params = {"x": "y" * 15_000}
        ids = [await submit(operator, params=params) for _ in range(6)]
        await operator.ask("job:cancel", {"jobId": ids[0]})
        async with await hub.client() as watcher:
            await watcher.send("subscribe:job", {"snapshot": True}, subscriptionId="*")
            await watcher.until("subscribed")
            pages = [await watcher.recv()]
            while pages[-1]["data"]["page"] < pages[-1]["data"]["pages"]:
                pages.append(await watcher.recv())
        shown = [job["id"] for page in pages for job in page["data"]["jobs"]]
        assert shown == ids[::-1]
        assert len(pages) == 2
        assert pages[0]["data"]["kind"] == "jobs_snapshot"


async def test_a_slow_reader_skips_log_and_no_event(hub: Running) -> None:
    """Its unread pieces give way to newer ones; what it missed is to be read over HTTP."""
    async with await hub.client(Role.OPERATOR) as operator, await hub.agent() as client:
        agent = await join(hub, client)
        job_id = await submit(operator)
        order = await agent.start()
        async with await hub.client() as reader:
            await reader.subscribe(f"job:{job_id}")
            session = next(
                session for session in hub.hub._connections if f"job:{job_id}" in session.subscriber.channels
            )
            # As when its socket is full.
            session.outbox.hold()
            session.paused = True
            for number in range(5):
                await agent.log(order, f"{number}", number)
                await agent.progress(order, float(number))
            await eventually(lambda: session.outbox.waiting_bytes)
            hub.hub.services.fanout.flush()
            session.paused = False
            session.outbox.pump()
            heard = await reader.heard()
        assert [m["data"]["text"] for m in heard if m["type"] == "JOB_LOGS"] == ["4"]
        assert [m["data"]["progress"]["progress"] for m in heard if m["type"] == "JOB_PROGRESS"] == [
            0.0,
            1.0,
            2.0,
            3.0,
            4.0,
        ]
