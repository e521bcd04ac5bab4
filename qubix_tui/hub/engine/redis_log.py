"""The log of all commits, as it stands in Redis; and its end, as a hub keeps it.

Redis may be restarted, or replaced by a replica, without its last second or so. The hubs that had applied
that second still have it: it is written once more, as it was, before anything else.

An entry of the log is a head (MessagePack) and a body, each after its length. The head is a list: the mark
of the commit before, its own mark (the hub, and that hub's number of it), when Redis took it, when the hub
decided it (ms), the offset that a channel which nobody remembers starts after, the number of offsets, the
offsets, and the channels that were forgotten with it. In a body each text comes after its length (4 bytes,
big-endian), and so do its two lists, of changes (table, key, a byte of flags, value) and of events (channel,
type, data).
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from qubix_tui.hub.engine.base import Change, NewEvent, Precondition

JOURNAL_SECONDS: Final = 10.0
"""How long an entry is kept, in case that Redis loses it."""

JOURNAL_BYTES: Final = 8 * 1024 * 1024

_THERE: Final = 1
_BLIND: Final = 2


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One commit in the log.

    Attributes:
        seq: Its number.
        previous: The mark of the one before; empty for the first.
        mark: Its own mark.
        taken_at: When Redis took it (ms, Redis's clock).
        forgotten: The offset that a channel which nobody remembers starts after from here on.
        offsets: One for each of its events.
        names: The channels that were forgotten with it.
        raw: All of it.
        body: Where in that its body begins.
    """

    seq: int
    previous: str
    mark: str
    taken_at: int
    forgotten: int
    offsets: list[int]
    names: list[str]
    raw: bytes
    body: int

    @property
    def node(self) -> str:
        """Whose commit it is."""
        return self.mark.partition("/")[0]

    @property
    def number(self) -> int:
        """That hub's number of it."""
        return int(self.mark.partition("/")[2])

    def content(self) -> tuple[list[Change], list[NewEvent]]:
        """Read what was committed."""
        reader = _Reader(self.raw, self.body)
        changes = [_change(reader) for _ in range(reader.number())]
        events = [NewEvent(reader.text(), reader.text(), reader.string()) for _ in range(reader.number())]
        return changes, events


def parse_entry(identifier: bytes, raw: bytes) -> Entry:
    """Read an entry, as far as every hub needs it."""
    body = 4 + int.from_bytes(raw[:4])
    previous, mark, taken_at, _, forgotten, count, *rest = msgspec.msgpack.decode(raw[4:body])
    seq = int(identifier.partition(b"-")[0])
    return Entry(seq, previous, mark, taken_at, forgotten, rest[:count], rest[count:], raw, body)


def pack_conditions(conditions: Sequence[Precondition]) -> bytes:
    """Give the preconditions of a commit as its script reads them."""
    return b"".join((_length(conditions), *_rows(conditions)))


def pack_body(changes: Sequence[Change], events: Sequence[NewEvent]) -> bytes:
    """Give what is in a commit as it stands in the log.

    Raises:
        ValueError: It holds what no store takes, such as half a surrogate pair.
    """
    parts = [_length(changes), *_rows(changes), _length(events)]
    for event in events:
        for part in (event.channel.encode(), event.type.encode(), event.data):
            parts += (_length(part), part)
    return b"".join(parts)


def _length(sized: Sequence[object]) -> bytes:
    return len(sized).to_bytes(4)


def _rows(rows: Iterable[Change | Precondition]) -> Iterable[bytes]:
    for row in rows:
        table, key, value = row.table.encode(), row.key.encode(), row.value or b""
        flags = 0 if row.value is None else _THERE
        if isinstance(row, Change) and row.blind:
            flags |= _BLIND
        yield from (_length(table), table, _length(key), key, flags.to_bytes(), _length(value), value)


class _Reader:
    """Reads a body from an offset on."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at

    def number(self, size: int = 4) -> int:
        begin, self._at = self._at, self._at + size
        return int.from_bytes(self._data[begin : self._at])

    def string(self) -> bytes:
        length = self.number()
        begin, self._at = self._at, self._at + length
        return self._data[begin : self._at]

    def text(self) -> str:
        return self.string().decode()


def _change(reader: _Reader) -> Change:
    table, key, flags, value = reader.text(), reader.text(), reader.number(1), reader.string()
    return Change(table, key, value if flags & _THERE else None, bool(flags & _BLIND))


class Journal:
    """The newest entries of the log, oldest first.

    Args:
        floor: The last commit before them: a Redis without it has lost what can't be given back.
    """

    def __init__(self, floor: int) -> None:
        self.floor = floor
        self._kept: deque[tuple[float, Entry]] = deque()
        self._bytes = 0

    def add(self, entry: Entry, now: float) -> None:
        """Keep one more, the one that follows.

        Args:
            entry: Which.
            now: The time, by a clock that never goes back.
        """
        self._kept.append((now, entry))
        self._bytes += len(entry.raw)
        while self._kept and (self._bytes > JOURNAL_BYTES or now - self._kept[0][0] > JOURNAL_SECONDS):
            _, oldest = self._kept.popleft()
            self._bytes -= len(oldest.raw)
            self.floor = oldest.seq

    def after(self, seq: int) -> list[Entry]:
        """Give those that came after one of them."""
        return [entry for _, entry in self._kept if entry.seq > seq]
