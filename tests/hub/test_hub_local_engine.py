"""The local engine's own promises: what it acknowledged is there after any end; no file is overwritten."""

import asyncio
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis.stateful import rule

from qubix_tui.hub.engine import database
from qubix_tui.hub.engine.base import Change, Conflict, EngineUnavailable, NewEvent, Precondition
from qubix_tui.hub.engine.local import LocalEngine
from qubix_tui.hub.engine.schema import MIGRATIONS
from tests.hub.engine_model import EngineMachine
from tests.hub.manual_clock import ManualClock

KILL_ROUNDS = 5


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database of the test lies."""
    return tmp_path / "hub.sqlite3"


@asynccontextmanager
async def opened(path: Path, **options: Any) -> AsyncIterator[LocalEngine]:
    """An engine, closed with the block."""
    engine = LocalEngine(path, **options)
    await engine.open()
    try:
        yield engine
    finally:
        await engine.close()


async def append(engine: LocalEngine, channel: str, data: bytes = b"{}") -> int:
    """Commit one event and give its offset."""
    (offset,) = await engine.commit([], [], [NewEvent(channel, "T", data)])
    return offset


async def refusal(path: Path) -> str:
    """The sentence with which a file is refused."""
    with pytest.raises(EngineUnavailable) as caught:
        await LocalEngine(path).open()
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


async def test_a_restart_keeps_offsets_events_tables_and_the_epoch(path: Path) -> None:
    """What was committed is there for the next engine on the same file."""
    async with opened(path) as engine:
        await engine.commit([], [Change("t", "a", b"1"), Change("t", "b", b"")], [NewEvent("x", "T", b"{}")])
        await append(engine, "x", b'{"n":2}')
        epoch = engine.epoch
    async with opened(path) as engine:
        assert engine.epoch == epoch
        assert engine.offset("x") == 2
        replay = await engine.replay("x", 1, limit=9)
        assert replay.complete
        assert [(event.offset, event.type, event.data) for event in replay.events] == [(2, "T", b'{"n":2}')]
        assert await engine.load("t") == {"a": b"1", "b": b""}
        assert await append(engine, "x") == 3


async def test_history_ages_while_no_hub_runs(path: Path) -> None:
    """An event too old at the restart is not replayed, and its offset is not given again."""
    clock = ManualClock()
    async with opened(path, clock=clock, max_age=60) as engine:
        await append(engine, "x")
    clock.advance(61)
    async with opened(path, clock=clock, max_age=60) as engine:
        assert (await engine.replay("x", 0, limit=9)).events == []
        assert await append(engine, "x") == 2


async def test_a_clock_set_back_leaves_no_gap(path: Path) -> None:
    """Where a younger event has an older time, a replay gives what follows on it, and nothing before it."""
    clock = ManualClock()
    async with opened(path, clock=clock, max_age=60) as engine:
        await append(engine, "x")
        clock.now -= 50
        await append(engine, "x")
        clock.now += 70
        await append(engine, "x")
        clock.now += 41
        assert [event.offset for event in (await engine.replay("x", 0, limit=9)).events] == [3]
        assert not (await engine.replay("x", 1, limit=9)).complete


async def test_only_the_owner_can_read_it(path: Path) -> None:
    """The database and its log have mode 0600, whatever the umask allows."""
    async with opened(path) as engine:
        await append(engine, "x")
        made = sorted(path.parent.iterdir())
        assert [file.name for file in made] == ["hub.sqlite3", "hub.sqlite3-shm", "hub.sqlite3-wal"]
        assert {file.stat().st_mode & 0o777 for file in made} == {0o600}


async def test_commits_of_one_turn_share_a_transaction(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred commits asked for at once are one transaction, in the order in which they were asked for."""
    transactions: list[int] = []
    write = database.Database.write

    def counted(self: database.Database, commits: list[database.Commit]) -> list[list[int] | Exception]:
        transactions.append(len(commits))
        return write(self, commits)

    monkeypatch.setattr(database.Database, "write", counted)
    async with opened(path) as engine:
        offsets = await asyncio.gather(*(append(engine, "x", b"%d" % number) for number in range(100)))
        assert offsets == list(range(1, 101))
        assert transactions == [100]
        events = (await engine.replay("x", 0, limit=100)).events
        assert [event.data for event in events] == [b"%d" % number for number in range(100)]


async def test_a_commit_that_no_database_takes_fails_alone(path: Path) -> None:
    """Neither a conflict nor text that can't be stored touches the other commits of a transaction."""
    async with opened(path) as engine:
        results = await asyncio.gather(
            append(engine, "x"),
            engine.commit([], [Change("t", "a", b"1")], [NewEvent("x", "\ud800", b"")]),
            engine.commit([Precondition("t", "a", b"1")], [], [NewEvent("x", "T", b"")]),
            append(engine, "x"),
            return_exceptions=True,
        )
        assert results[0] == 1
        assert isinstance(results[1], UnicodeEncodeError)
        assert isinstance(results[2], Conflict)
        assert results[3] == 2
        assert await engine.load("t") == {}


async def test_a_commit_whose_caller_has_gone_is_still_written(path: Path) -> None:
    """Cancelling who waits for a commit disturbs neither it nor the others."""
    async with opened(path) as engine:
        gone = asyncio.ensure_future(append(engine, "x"))
        stays = asyncio.ensure_future(append(engine, "x"))
        await asyncio.sleep(0)
        gone.cancel()
        assert await stays == 2
        assert len((await engine.replay("x", 0, limit=9)).events) == 2


async def test_a_disk_that_fills_fails_that_commit_alone(path: Path) -> None:
    """While the disk is full commits fail and say so; nothing acknowledged is lost; then they work again."""
    async with opened(path) as engine:

        async def pragma(text: str) -> None:
            connection = engine._database._opened()
            await engine._call(lambda: connection.execute(f"PRAGMA {text}").fetchall())

        await engine.commit([], [Change("t", "a", b"1")], [NewEvent("x", "T", b"{}")])
        await pragma("max_page_count=1")
        with pytest.raises(EngineUnavailable, match=r"disk is full: free some space") as caught:
            await engine.commit([], [Change("t", "a", b"2")], [NewEvent("x", "T", bytes(100_000))])
        assert str(path) in str(caught.value)
        assert engine.offset("x") == 1
        assert await engine.load("t") == {"a": b"1"}
        await pragma("max_page_count=100000")
        assert await engine.commit([], [Change("t", "a", b"3")], [NewEvent("x", "T", bytes(100_000))]) == [2]
        assert [event.offset for event in (await engine.replay("x", 0, limit=9)).events] == [1, 2]


async def test_a_database_that_was_moved_is_not_begun_anew(path: Path) -> None:
    """An empty one in its place would forget every token, and stand in the way of the move back."""
    async with opened(path) as engine:
        await append(engine, "x")
    path.rename(path.with_name(f"{path.name}.moved"))
    with pytest.raises(EngineUnavailable, match=r"was moved to a Redis .* set storage\.engine"):
        await LocalEngine(path).open()
    assert not path.exists()


async def test_a_locked_file_fails_the_commit_and_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program that holds the file is named as the cause; when it lets go commits work again."""
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.05)
    async with opened(path) as engine:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(EngineUnavailable, match="is locked by another program"):
                await append(engine, "x")
            other.execute("ROLLBACK")
        assert await append(engine, "x") == 1


async def test_a_file_locked_at_the_start_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that can't read its database for another program says so."""
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.05)
    async with opened(path):
        pass
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        assert "is locked by another program" in await refusal(path)


async def test_a_file_that_is_no_database_is_left_alone(path: Path) -> None:
    """Bytes of anything else are refused and stay as they are."""
    path.write_bytes(b"not a database, but somebody's only copy of something\n" * 100)
    before = path.read_bytes()
    assert "move it away" in await refusal(path)
    assert path.read_bytes() == before


async def test_a_damaged_database_is_left_alone(path: Path) -> None:
    """Pages that were overwritten are found at the start; nothing is repaired or lost in silence."""
    async with opened(path) as engine:
        for number in range(200):
            await append(engine, f"c{number}", bytes(1_000))
    content = bytearray(path.read_bytes())
    content[8_192:40_960] = random.Random(1).randbytes(32_768)
    path.write_bytes(content)
    assert "is damaged: move it away" in await refusal(path)
    assert path.read_bytes() == content


async def test_a_newer_database_is_left_alone(path: Path) -> None:
    """A database of a later version is refused with both versions' numbers, and stays as it is."""
    async with opened(path):
        pass
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    before = path.read_bytes()
    said = await refusal(path)
    assert "newer version" in said
    assert f"form {len(MIGRATIONS) + 1}" in said
    assert path.read_bytes() == before


async def test_a_database_of_another_program_is_left_alone(path: Path) -> None:
    """A database that no hub has made is not taken for one, nor changed."""
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE precious (thing)")
    before = path.read_bytes()
    assert "another program" in await refusal(path)
    assert path.read_bytes() == before


async def test_a_read_only_file_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that can't be written is refused at the start, not at the first commit.

    Opened read-only here by SQLite itself: modes mean nothing to root, who may run this.
    """
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda path, **options: connect(f"file:{path}?mode=ro", uri=True, **options)
    )
    assert "can't be written: make the file" in await refusal(path)


async def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    """The engine makes its file, not its place."""
    assert "No such file or directory" in await refusal(tmp_path / "nowhere" / "hub.sqlite3")


async def test_a_migration_that_fails_leaves_the_form_before_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Migrations are one transaction: all of them or none; the data is whole after the next good one."""
    async with opened(path) as engine:
        await append(engine, "x")
    with monkeypatch.context() as broken:
        broken.setattr(database, "MIGRATIONS", (*MIGRATIONS, ("CREATE TABLE extra (a)", "CREATE TABLE (")))
        with pytest.raises(EngineUnavailable):
            await LocalEngine(path).open()
    monkeypatch.setattr(database, "MIGRATIONS", (*MIGRATIONS, ("CREATE TABLE extra (a)",)))
    async with opened(path) as engine:
        assert await append(engine, "x") == 2
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)


async def test_the_oldest_events_go_when_it_grows_too_large(path: Path) -> None:
    """Beyond the bound on its size the oldest of all channels are freed, and the file stops growing."""
    async with opened(path, max_bytes=1_000_000) as engine:
        await append(engine, "quiet")
        for number in range(300):
            await append(engine, f"c{number % 7}", bytes(10_000))
        assert (await engine.replay("quiet", 0, limit=9)).events == []
        assert engine.offset("quiet") == 1
        assert path.stat().st_size < 2_000_000


async def test_a_forgotten_channel_starts_after_every_offset_that_was_forgotten(path: Path) -> None:
    """Offsets dropped at the bound are never given twice, after a restart neither."""
    async with opened(path, max_channels=1) as engine:
        for _ in range(3):
            await append(engine, "old")
        for number in range(20):
            await append(engine, f"new-{number}")
        assert engine.offset("never seen") >= 3
        forgotten = engine.offset("old")
    async with opened(path, max_channels=1) as engine:
        assert engine.offset("old") == forgotten
        assert not (await engine.replay("old", 2, limit=9)).complete
        assert await append(engine, "old") == forgotten + 1


WRITER = """
import asyncio, sys
from pathlib import Path
from qubix_tui.hub.engine.base import Change, NewEvent
from qubix_tui.hub.engine.local import LocalEngine

async def commit(engine, writer):
    while True:
        number = str(writer[1]).encode()
        (offset,) = await engine.commit(
            [], [Change("t", writer[0], number)], [NewEvent(writer[0], "T", number)]
        )
        print(writer[0], offset, writer[1], flush=True)
        writer[1] += 1

async def main():
    engine = LocalEngine(Path(sys.argv[1]))
    await engine.open()
    begin = {key: int(value) + 1 for key, value in (await engine.load("t")).items()}
    await asyncio.gather(*(commit(engine, [name, begin.get(name, 1)]) for name in ("a", "b", "c")))

asyncio.run(main())
"""


async def test_a_kill_loses_nothing_that_was_acknowledged(path: Path) -> None:
    """SIGKILL at random moments: every acknowledged commit is there, whole, once, and in its place."""
    moments = random.Random(20_240_229)
    acknowledged: dict[str, int] = {}
    for _ in range(KILL_ROUNDS):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        said = "".join(process.stdout.readline() for _ in range(moments.randrange(20, 200)))
        process.send_signal(signal.SIGKILL)
        said += process.communicate()[0]
        for line in said[: said.rfind("\n") + 1].splitlines():
            name, committed, number = line.split()
            assert committed == number, "an acknowledged event of before was lost or doubled"
            acknowledged[name] = int(committed)
        async with opened(path, max_events=100_000) as engine:
            for name, offset in acknowledged.items():
                events = (await engine.replay(name, 0, limit=100_000)).events
                assert engine.offset(name) >= offset
                assert events[-1].offset == engine.offset(name)
                assert [int(event.data) for event in events] == [event.offset for event in events]
                assert (await engine.load("t"))[name] == events[-1].data, "state and event are one step"
    assert set(acknowledged) == {"a", "b", "c"}


class LocalMachine(EngineMachine):
    """The model beside the local engine, which may be closed and opened again at any moment."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        super().__init__()
        self.epoch = self.engine.epoch

    def make(self) -> LocalEngine:
        return LocalEngine(self.directory / "hub.sqlite3", clock=self.clock, **self.bounds)

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self.directory)

    @rule()
    def restart(self) -> None:
        self.runner.run(self.engine.close())
        self.engine = self.make()
        self.runner.run(self.engine.open())
        assert self.engine.epoch == self.epoch


class RoomyLocalMachine(LocalMachine):
    """No channel is ever forgotten: what is kept can be told exactly."""

    bounds: ClassVar[dict[str, Any]] = {"max_events": 4, "max_age": 10.0, "max_channels": 100}
    exact = True


class TightLocalMachine(LocalMachine):
    """Everything is freed and forgotten all the time: whatever is said must still be true."""

    bounds: ClassVar[dict[str, Any]] = {"max_events": 4, "max_age": 10.0, "max_channels": 1, "max_bytes": 1}
    exact = False


TestRoomyLocalEngine = RoomyLocalMachine.TestCase
TestRoomyLocalEngine.settings = settings(max_examples=25, stateful_step_count=30)
TestTightLocalEngine = TightLocalMachine.TestCase
TestTightLocalEngine.settings = settings(max_examples=25, stateful_step_count=30)
