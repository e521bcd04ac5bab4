"""A hub's database as the source, or the target, of a move; see `qubix_tui.hub.engine.transfer`."""

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from qubix_tui.hub.clock import SystemClock
from qubix_tui.hub.engine.backup import sync_directory
from qubix_tui.hub.engine.database import Database, Limits, moved_name
from qubix_tui.hub.engine.transfer import BATCH, Channel, Event, Head, MoveFailed, Piece, Row

_ANY: Final = Limits(max_events=2**31, max_age=float(2**31), max_bytes=2**62, max_offsets=2**31)

_NUMBER: Final = (
    # Oldest first over all channels, and within each as they came, though its clock may have been set back.
    """CREATE TEMP TABLE places AS SELECT number, row_number() OVER (ORDER BY turn, number) AS place FROM (
        SELECT number, max(committed_at) OVER (PARTITION BY channel ORDER BY offset) AS turn FROM events
    )""",
    "CREATE UNIQUE INDEX temp.place_of ON places (number)",
    "UPDATE events SET number = -(SELECT place FROM places WHERE places.number = events.number)",
    "UPDATE events SET number = -number",
    # Those without events were used before all others.
    """UPDATE channels SET used = coalesce(
        (SELECT max(number) FROM events WHERE channel = channels.name),
        used - (SELECT count(*) FROM channels))""",
)


class DatabaseSource:
    """A database that is read, while nobody else uses it.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def head(self) -> Head:
        """Look the database over, and give what there is once; see `Source.head`.

        Raises:
            MoveFailed: There is none, or one that was moved stands where this one is to be put.
            EngineUnavailable: It is damaged, or another program's.
        """
        if not self._path.is_file():
            raise MoveFailed(f"there is no database {self._path}; name the hub's data directory with --data")
        if self.moved.exists():
            raise MoveFailed(f"{self.moved} is there from an earlier move: take it away first")
        database = Database(self._path, SystemClock(), _ANY)
        database.open()
        database.close()
        with _connected(self._path) as connection:
            meta = dict(connection.execute("SELECT name, value FROM meta").fetchall())
        return Head(meta["epoch"], meta["forgotten_offset"])

    async def pieces(self) -> AsyncIterator[Sequence[Piece]]:
        """Give everything; see `Source.pieces`."""
        with _connected(self._path) as connection:
            for batch in _batches(connection.execute("SELECT table_name, key, value FROM entries")):
                yield [Row(*row) for row in batch]
            for batch in _batches(connection.execute("SELECT name, offset FROM channels ORDER BY used")):
                yield [Channel(*row) for row in batch]
            events = connection.execute(
                "SELECT channel, offset, type, data, committed_at FROM events ORDER BY number"
            )
            for batch in _batches(events):
                yield [
                    Event(channel, offset, kind, data, round(at * 1000))
                    for channel, offset, kind, data, at in batch
                ]

    @property
    def moved(self) -> Path:
        """Where it is once it was moved."""
        return moved_name(self._path)

    async def leave(self) -> None:
        """Say that it was moved."""
        self._path.rename(self.moved)
        sync_directory(self._path.parent)


class DatabaseTarget(DatabaseSource):
    """A database that is written, under another name until it is whole.

    Args:
        path: The file, which is not there yet.
    """

    def __init__(self, path: Path) -> None:
        self._final = path
        self._channels = 0
        super().__init__(path.with_name(f".{path.name}.partial"))

    async def begin(self) -> None:
        """Make it; what an earlier move has left half done is dropped. See `Target.begin`.

        Raises:
            MoveFailed: There is a database.
            EngineUnavailable: It can't be written.
        """
        if self._final.exists():
            raise MoveFailed(f"there is a database {self._final}, which is not written over: move it away")
        self._drop()
        database = Database(self._path, SystemClock(), _ANY)
        database.open()
        database.close()
        self._channels = 0

    async def write(self, pieces: Sequence[Piece]) -> None:
        """Take some of it; see `Target.write`."""
        rows = [(one.table, one.key, one.value) for one in pieces if isinstance(one, Row)]
        channels = [(one.name, one.offset) for one in pieces if isinstance(one, Channel)]
        events = [
            (one.channel, one.offset, one.type, one.data, one.committed_at_ms / 1000)
            for one in pieces
            if isinstance(one, Event)
        ]
        with _connected(self._path) as connection, connection:
            connection.executemany("INSERT INTO entries VALUES (?, ?, ?)", rows)
            connection.executemany(
                "INSERT INTO channels VALUES (?, ?, ?)",
                [(*channel, number) for number, channel in enumerate(channels, self._channels)],
            )
            connection.executemany("INSERT INTO events VALUES (NULL, ?, ?, ?, ?, ?)", events)
        self._channels += len(channels)

    async def finish(self, head: Head) -> None:
        """Give it its name; see `Target.finish`.

        Raises:
            MoveFailed: Somebody else has put one there meanwhile.
        """
        with _connected(self._path) as connection, connection:
            connection.execute("UPDATE meta SET value = ? WHERE name = 'epoch'", (head.epoch,))
            connection.execute("UPDATE meta SET value = ? WHERE name = 'forgotten_offset'", (head.forgotten,))
            for statement in _NUMBER:
                connection.execute(statement)
        try:
            # Unlike a rename this never takes the place of anything.
            self._final.hardlink_to(self._path)
        except FileExistsError:
            raise MoveFailed(f"{self._final} has come to be meanwhile, and is not written over") from None
        self._drop()
        sync_directory(self._final.parent)

    def _drop(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(f"{self._path.name}{suffix}").unlink(missing_ok=True)


@contextlib.contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        yield connection


def _batches(cursor: sqlite3.Cursor) -> Iterator[list[Any]]:
    while batch := cursor.fetchmany(BATCH):
        yield batch
