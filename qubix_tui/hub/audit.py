"""What was done, or refused, about who may do what: kept on the store, bounded by count.

Refused logins have a table of their own and a rate: whoever knocks all night pushes nothing else out.

Entries are kept under the time when they were made, and a random tail: hubs that share a store count nothing
together, and each of them deletes the oldest that it knows of. What it knows of follows what was stored
(`Audit.follow`), by whichever hub.
"""

import secrets
from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import Final, NamedTuple

from qubix_tui.hub.access import Identity
from qubix_tui.hub.clock import Clock
from qubix_tui.hub.engine.base import Change, Engine
from qubix_tui.hub.limits import TokenBucket
from qubix_tui.protocol import codec
from qubix_tui.protocol.answers import AuditEntry
from qubix_tui.protocol.tokens import Role
from qubix_tui.protocol.types import to_timestamp

AUDIT_TABLE: Final = "audit"
REFUSED_TABLE: Final = "audit_refused"

MAX_ENTRIES: Final = 10_000
MAX_REFUSED: Final = 1_000

REFUSALS_PER_SECOND: Final = 0.2
REFUSALS_BURST: Final = 20

_LINE_LENGTH: Final = 128


class Actor(NamedTuple):
    """Who asks for something, and from where."""

    identity: Identity
    address: str


STRANGER: Final = Identity(Role.NOBODY)


class Audit:
    """The hub's audit.

    Args:
        engine: Where entries are kept.
        clock: When things happen.
    """

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._keys: dict[str, list[str]] = {AUDIT_TABLE: [], REFUSED_TABLE: []}
        self._newest = 0
        self._bucket = TokenBucket(REFUSALS_PER_SECOND, REFUSALS_BURST)
        self._unsaid = 0

    async def load(self) -> None:
        """Know of what the store holds.

        Raises:
            EngineUnavailable: It can't be read.
        """
        for table in self._keys:
            self._keys[table] = sorted(await self._engine.load(table))

    def follow(self, changes: Iterable[Change]) -> None:
        """Know of what was stored."""
        for change in changes:
            keys = self._keys.get(change.table)
            if keys is None:
                continue
            at = bisect_left(keys, change.key)
            known = at < len(keys) and keys[at] == change.key
            if change.value is None and known:
                del keys[at]
            elif change.value is not None and not known:
                insort(keys, change.key)

    def changes(
        self, action: str, actor: Actor, subject: str | None = None, detail: str | None = None
    ) -> list[Change]:
        """Give what is to be written for something that is done: in the very commit that does it.

        Once that is stored `follow` is to be told.

        Args:
            action: What; one of those that `AuditEntry` names.
            actor: Who does it.
            subject: What it is done to.
            detail: A word more for a person.
        """
        return self._append(AUDIT_TABLE, MAX_ENTRIES, self._entry(action, actor, subject, detail))

    def refused(self, address: str, reason: str) -> list[Change]:
        """Give what is to be written for a login that was refused; nothing where there were too many."""
        if self._bucket.take(self._clock.monotonic()):
            self._unsaid += 1
            return []
        unsaid, self._unsaid = self._unsaid, 0
        detail = f"{reason} ({unsaid} more refused before it)" if unsaid else reason
        entry = self._entry("login_refused", Actor(STRANGER, address), None, detail)
        return self._append(REFUSED_TABLE, MAX_REFUSED, entry)

    async def newest(self, limit: int) -> list[AuditEntry]:
        """Give the newest entries, the newest first.

        Raises:
            EngineUnavailable: The store can't be read.
            ProtocolError: It is not what a hub has written.
        """
        rows: list[bytes] = []
        for table, keys in self._keys.items():
            newest = keys[: -limit - 1 : -1]
            stored = await self._engine.read(table, newest)
            rows += [stored[key] for key in newest if key in stored]
        entries = [codec.decode_record(row, AuditEntry) for row in rows]
        # Stable: entries of one instant stay in the order in which their table has them.
        return sorted(entries, key=lambda entry: entry.at, reverse=True)[:limit]

    def _entry(self, action: str, actor: Actor, subject: str | None, detail: str | None) -> AuditEntry:
        identity = actor.identity
        return AuditEntry(
            at=to_timestamp(self._clock.time()),
            action=action,
            who=identity.subject,
            token_id=identity.token_id,
            address=actor.address[:_LINE_LENGTH] or None,
            subject=subject,
            detail=detail,
        )

    def _append(self, table: str, limit: int, entry: AuditEntry) -> list[Change]:
        # Whatever the clock does, what this hub says later stands later.
        self._newest = max(self._newest + 1, round(self._clock.time() * 1e6))
        key = f"{self._newest:016d}-{secrets.token_hex(4)}"
        keys = self._keys[table]
        oldest = keys[: max(0, len(keys) + 1 - limit)]
        return [
            Change(table, key, codec.encode_record(entry), blind=True),
            *(Change(table, old, None, blind=True) for old in oldest),
        ]
