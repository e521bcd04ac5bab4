"""The hub's SQLite database: tables, events and offsets in one file, written in transactions that last.

Write-ahead log with ``synchronous=FULL``: what `Database.write` has returned is on the disk, whatever happens
to the process or the machine. Nothing is written before the file has shown that it is a hub's, whole, and not
newer than this program; a file that is not is left as it is.

A `Database` blocks, and belongs to the thread that opened it; `qubix_tui.hub.engine.local` runs it on one of
its own.
"""

import contextlib
import os
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from qubix_tui.hub.clock import Clock
from qubix_tui.hub.engine.base import (
    Change,
    Conflict,
    EngineUnavailable,
    NewEvent,
    Precondition,
    Replay,
    StoredEvent,
)
from qubix_tui.hub.engine.schema import APPLICATION_ID, MIGRATIONS

LOCK_SECONDS = 2.0
"""How long another program may hold the file before a commit fails."""

TRIM_EVENTS = 1_000
"""Events that one transaction frees at most because of age or size: no commit waits long for it."""

MAX_LOG_BYTES = 16 * 1024 * 1024
"""What the write-ahead log is cut back to."""

_ADVICE = {
    sqlite3.SQLITE_CORRUPT: "is damaged: move it away, or put a backup in its place, and start the hub again",
    sqlite3.SQLITE_NOTADB: "is no database, or is damaged: move it away, or put a backup in its place, "
    "and start the hub again",
    sqlite3.SQLITE_READONLY: "can't be written: make the file and its directory writable for the hub's user",
    sqlite3.SQLITE_PERM: "can't be opened: make the file and its directory writable for the hub's user",
    sqlite3.SQLITE_CANTOPEN: "can't be opened: make the file and its directory writable for the hub's user",
    sqlite3.SQLITE_FULL: "can't grow, its disk is full: free some space there",
    sqlite3.SQLITE_BUSY: "is locked by another program: end that program, and try again",
    sqlite3.SQLITE_LOCKED: "is locked by another program: end that program, and try again",
    sqlite3.SQLITE_IOERR: "can't be read or written, its disk reports errors: check the disk",
}


class Commit(msgspec.Struct, frozen=True):
    """What one call of `Engine.commit` asks for."""

    preconditions: Sequence[Precondition]
    changes: Sequence[Change]
    events: Sequence[NewEvent]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much history is kept.

    Attributes:
        max_events: Events per channel.
        max_age: Seconds that an event is kept.
        max_bytes: Size of the database, its tables included, beyond which the oldest events are freed.
        max_offsets: Channels whose offset is remembered.
    """

    max_events: int
    max_age: float
    max_bytes: int
    max_offsets: int


class Database:
    """One open database.

    Args:
        path: The file; made, for its owner alone, if it is missing.
        clock: Where ages come from (``time``: they go on while no hub runs).
        limits: How much history is kept.
    """

    def __init__(self, path: Path, clock: Clock, limits: Limits) -> None:
        self.epoch = ""
        """The random name of its history, once opened."""
        self._path = path
        self._clock = clock
        self._limits = limits
        self._connection: sqlite3.Connection | None = None
        # Both are also read from the event loop's thread: no offset may go back in between.
        self._offsets: dict[str, int] = {}
        self._forgotten_offset = 0
        self._number = 0
        """Of the newest event of all."""
        self._page_bytes = 0

    def offset(self, channel: str) -> int:
        """Give the offset of a channel's newest event. Callable from any thread."""
        return self._offsets.get(channel, self._forgotten_offset)

    def open(self) -> None:
        """Open the file, bring it to this version's form, and read the offsets.

        Raises:
            EngineUnavailable: It can't be used; the message names it and says what to do.
        """
        moved = moved_name(self._path)
        if moved.exists() and not self._path.exists():
            raise EngineUnavailable(
                f"{self._path} was moved to a Redis (qubix hub move): set storage.engine to that one, or "
                f"move it back; to begin anew with nothing, take {moved.name} away"
            )
        with self._explained():
            try:
                # SQLite gives its log and index files the mode of the database.
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            except OSError as error:
                raise EngineUnavailable(
                    f"{self._path} can't be opened for writing: {error.strerror}"
                ) from None
            self._connection = sqlite3.connect(self._path, timeout=LOCK_SECONDS, isolation_level=None)
            try:
                version = self._check()
                self._connection.execute("PRAGMA journal_mode=WAL")
                self._connection.execute("PRAGMA synchronous=FULL")
                self._connection.execute(f"PRAGMA journal_size_limit={MAX_LOG_BYTES}")
                self._migrate(version)
                self._read_state()
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Let go of the file. Again is no error."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def write(self, commits: Sequence[Commit]) -> list[list[int] | Exception]:
        """Write commits in their order and in one transaction, on the disk when this returns.

        Returns:
            For each commit the offsets of its events, or why nothing of it was written.

        Raises:
            EngineUnavailable: Nothing of any of them was written.
        """
        with self._explained():
            connection = self._opened()
            connection.execute("BEGIN IMMEDIATE")
            offsets: dict[str, int] = {}
            number = self._number
            try:
                results = [self._attempt(commit, offsets) for commit in commits]
                forgotten, forgotten_offset = self._trim(offsets)
                connection.execute("COMMIT")
            except BaseException as error:
                self._number = number
                # A full disk may have ended the transaction already.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                if not isinstance(error, ValueError):
                    raise
                # One of them holds what no database takes, such as half a surrogate pair.
                return [error] if len(commits) == 1 else [self.write([commit])[0] for commit in commits]
            self._forgotten_offset = forgotten_offset
            self._offsets.update(offsets)
            for channel in forgotten:
                del self._offsets[channel]
            return results

    def load(self, table: str, prefix: str) -> dict[str, bytes]:
        """Give the keys of a table that begin with a prefix, with their values.

        Raises:
            EngineUnavailable: It can't be read.
        """
        # By the order of the keys: the primary key finds a range, and not what LIKE or substr ask for.
        query, bounds = "SELECT key, value FROM entries WHERE table_name = ? AND key >= ?", [table, prefix]
        if (end := _after_prefix(prefix)) is not None:
            query, bounds = f"{query} AND key < ?", [*bounds, end]
        with self._explained():
            return dict(self._opened().execute(query, bounds).fetchall())

    def read(self, table: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Give the values of some keys of a table.

        Raises:
            EngineUnavailable: It can't be read.
        """
        query = "SELECT value FROM entries WHERE table_name = ? AND key = ?"
        with self._explained():
            connection = self._opened()
            rows = {key: connection.execute(query, (table, key)).fetchone() for key in keys}
        return {key: row[0] for key, row in rows.items() if row is not None}

    def replay(self, channel: str, since: int, limit: int) -> Replay:
        """Give what came on a channel after an offset; see `Engine.replay`.

        Raises:
            EngineUnavailable: It can't be read.
        """
        with self._explained():
            newest = self.offset(channel)
            kept = newest - self._last_dropped(channel, newest)
            missed = kept if since == 0 else newest - since
            if since and not 0 <= missed <= min(kept, limit):
                return Replay(events=[], complete=False)
            rows = self._opened().execute(
                "SELECT offset, type, data FROM events WHERE channel = ? AND offset > ? ORDER BY offset",
                (channel, newest - min(missed, limit)),
            )
            events = [StoredEvent(offset, channel, kind, data) for offset, kind, data in rows]
            return Replay(events=events, complete=True)

    def _last_dropped(self, channel: str, newest: int) -> int:
        """Give the highest offset of a channel that is not kept; what is kept has no gap."""
        connection = self._opened()
        first = connection.execute("SELECT min(offset) FROM events WHERE channel = ?", (channel,)).fetchone()[
            0
        ]
        if first is None:
            return newest
        # A clock that was set back leaves younger offsets with older times: all up to the last of these go.
        aged = connection.execute(
            "SELECT offset FROM events WHERE channel = ? AND committed_at < ? ORDER BY offset DESC LIMIT 1",
            (channel, self._clock.time() - self._limits.max_age),
        ).fetchone()
        dropped: int = max(first - 1, newest - self._limits.max_events, aged[0] if aged else 0)
        return dropped

    def _attempt(self, commit: Commit, offsets: dict[str, int]) -> list[int] | Exception:
        connection = self._opened()
        for condition in commit.preconditions:
            row = connection.execute(
                "SELECT value FROM entries WHERE table_name = ? AND key = ?", (condition.table, condition.key)
            ).fetchone()
            if (row and row[0]) != condition.value:
                return Conflict(condition.table, condition.key)
        for change in commit.changes:
            if change.value is None:
                connection.execute(
                    "DELETE FROM entries WHERE table_name = ? AND key = ?", (change.table, change.key)
                )
            else:
                connection.execute(
                    "INSERT INTO entries VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
                    (change.table, change.key, change.value),
                )
        return [self._append(event, offsets) for event in commit.events]

    def _append(self, event: NewEvent, offsets: dict[str, int]) -> int:
        connection, limits = self._opened(), self._limits
        channel = event.channel
        offset = offsets.get(channel, self.offset(channel)) + 1
        offsets[channel] = offset
        self._number += 1
        connection.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)",
            (self._number, channel, offset, event.type, event.data, self._clock.time()),
        )
        connection.execute(
            "INSERT INTO channels VALUES (?, ?, ?) "
            "ON CONFLICT DO UPDATE SET offset = excluded.offset, used = excluded.used",
            (channel, offset, self._number),
        )
        # A tenth over the bound is freed at a time; a replay keeps to the bound exactly.
        if offset > limits.max_events and offset % max(1, limits.max_events // 10) == 0:
            connection.execute(
                "DELETE FROM events WHERE channel = ? AND offset <= ?", (channel, offset - limits.max_events)
            )
        return offset

    def _trim(self, offsets: dict[str, int]) -> tuple[list[str], int]:
        """Free what is beyond the bounds; give the channels to forget, and the highest offset forgotten."""
        self._free_oldest()
        known = len(self._offsets) + sum(channel not in self._offsets for channel in offsets)
        excess = known - self._limits.max_offsets
        if excess <= 0:
            return [], self._forgotten_offset
        connection = self._opened()
        rows = connection.execute(
            "SELECT name, offset FROM channels ORDER BY used LIMIT ?",
            (excess + self._limits.max_offsets // 10,),
        ).fetchall()
        names = [name for name, _ in rows]
        highest = max(self._forgotten_offset, *(offset for _, offset in rows))
        # Without their events: the next ones of such a channel would not follow on these.
        connection.executemany("DELETE FROM events WHERE channel = ?", [(name,) for name in names])
        connection.executemany("DELETE FROM channels WHERE name = ?", [(name,) for name in names])
        connection.execute("UPDATE meta SET value = ? WHERE name = 'forgotten_offset'", (highest,))
        return names, highest

    def _free_oldest(self) -> None:
        """Free the oldest events of all, always from the first on: what is kept of a channel has no gap."""
        connection = self._opened()
        oldest_kept = self._clock.time() - self._limits.max_age
        first = connection.execute("SELECT committed_at FROM events ORDER BY number LIMIT 1").fetchone()
        oversize = self._used_bytes() > self._limits.max_bytes
        if first is None or (first[0] >= oldest_kept and not oversize):
            return
        last = None
        for number, committed_at in connection.execute(
            "SELECT number, committed_at FROM events ORDER BY number LIMIT ?", (TRIM_EVENTS,)
        ):
            if committed_at >= oldest_kept and not oversize:
                break
            last = number
        connection.execute("DELETE FROM events WHERE number <= ?", (last,))

    def _used_bytes(self) -> int:
        return (self._pragma("page_count") - self._pragma("freelist_count")) * self._page_bytes

    def _check(self) -> int:
        """Give the version of a database that is a hub's and whole; 0 for an empty one."""
        version = self._pragma("user_version")
        tables = self._opened().execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if not version and not tables:
            return 0
        if self._pragma("application_id") != APPLICATION_ID:
            raise EngineUnavailable(
                f"{self._path} is the database of another program: move it away, or give the hub another "
                "directory with --data"
            )
        if version > len(MIGRATIONS):
            raise EngineUnavailable(
                f"{self._path} was written by a newer version of the hub (form {version}; this one knows "
                f"{len(MIGRATIONS)}): run that version, or give this one another directory with --data"
            )
        (found,) = self._opened().execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            where = " ".join(found.split())
            raise EngineUnavailable(f"{self._path} {_ADVICE[sqlite3.SQLITE_CORRUPT]} ({where})")
        return version

    def _migrate(self, version: int) -> None:
        if version == len(MIGRATIONS):
            return
        connection = self._opened()
        connection.execute("BEGIN IMMEDIATE")
        try:
            for migration in MIGRATIONS[version:]:
                for statement in migration:
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={len(MIGRATIONS)}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _read_state(self) -> None:
        connection = self._opened()
        meta = dict(connection.execute("SELECT name, value FROM meta").fetchall())
        self.epoch = meta["epoch"]
        self._forgotten_offset = meta["forgotten_offset"]
        self._offsets = dict(connection.execute("SELECT name, offset FROM channels").fetchall())
        self._number = connection.execute("SELECT max(used) FROM channels").fetchone()[0] or 0
        self._page_bytes = self._pragma("page_size")

    def _pragma(self, name: str) -> int:
        value: int = self._opened().execute(f"PRAGMA {name}").fetchone()[0]
        return value

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise EngineUnavailable("the store is not open; the hub is starting or stopping, try again")
        return self._connection

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what SQLite raises into a sentence for a person."""
        try:
            yield
        except sqlite3.Error as error:
            # The low byte is the error; the rest says more of it than a person can use.
            advice = _ADVICE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "can't be used")
            raise EngineUnavailable(f"{self._path} {advice} ({error})") from error


def moved_name(path: Path) -> Path:
    """Give the name that a database has once it was moved to another engine."""
    return path.with_name(f"{path.name}.moved")


def _after_prefix(prefix: str) -> str | None:
    """Give the first text that sorts after all that begin with a prefix; None where there is none."""
    while prefix:
        following = ord(prefix[-1]) + 1
        prefix = prefix[:-1]
        if following <= sys.maxunicode:
            # Surrogates are no characters, and the database takes none.
            return prefix + chr(0xE000 if following == 0xD800 else following)
    return None
