"""What was done, or refused, about who may do what: kept on the store, bounded by count.

Refused logins have a table of their own and a rate: whoever knocks all night pushes nothing else out.
"""

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
        self._next = {AUDIT_TABLE: 0, REFUSED_TABLE: 0}
        self._bucket = TokenBucket(REFUSALS_PER_SECOND, REFUSALS_BURST)
        self._unsaid = 0

    async def load(self) -> None:
        """Go on where the store ends.

        Raises:
            EngineUnavailable: It can't be read.
        """
        for table in self._next:
            newest = max(await self._engine.load(table), default=None)
            self._next[table] = 0 if newest is None else int(newest) + 1

    def changes(
        self, action: str, actor: Actor, subject: str | None = None, detail: str | None = None
    ) -> list[Change]:
        """Give what is to be written for something that is done: in the very commit that does it.

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
        for table in self._next:
            stored = await self._engine.load(table)
            rows += [stored[key] for key in sorted(stored, reverse=True)[:limit]]
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
        number = self._next[table]
        self._next[table] = number + 1
        changes = [Change(table, _key(number), codec.encode_record(entry))]
        if number >= limit:
            changes.append(Change(table, _key(number - limit), None))
        return changes


def _key(number: int) -> str:
    return f"{number:012d}"
