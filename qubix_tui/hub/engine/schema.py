"""The tables of the hub's database, as numbered migrations.

A database says in ``user_version`` how many of them it has been through. A migration that was released is
never changed: what has to be different comes as one more.
"""

from typing import Final

APPLICATION_ID: Final = 0x51425848
"""``QBXH`` in the file's header: what tells a hub's database from any other."""

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID",
        """CREATE TABLE entries (
            table_name TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,
            PRIMARY KEY (table_name, key)
        ) STRICT""",
        # `number` counts the events of all channels: what is oldest is found without an index of its own.
        """CREATE TABLE events (
            number INTEGER PRIMARY KEY, channel TEXT NOT NULL, offset INTEGER NOT NULL, type TEXT NOT NULL,
            data BLOB NOT NULL, committed_at REAL NOT NULL,
            UNIQUE (channel, offset)
        ) STRICT""",
        # Offsets outlive the events that they number; `used` is the number of a channel's newest event.
        """CREATE TABLE channels (
            name TEXT PRIMARY KEY, offset INTEGER NOT NULL, used INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID""",
        "INSERT INTO meta VALUES ('epoch', lower(hex(randomblob(8)))), ('forgotten_offset', 0)",
    ),
)
"""The statements that lead from each version to the next; the first begins with an empty file."""
