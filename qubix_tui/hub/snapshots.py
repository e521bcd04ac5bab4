"""The present, in pages: of the fleet, of one provider, of one provider's past.

Pages are encoded one by one, when the socket can take them, so that readers that do not read cost no memory.
The fleet's snapshot shows what was true when it was asked for: records are immutable, and holding on to them
costs a reference each. One provider's shows its record as it is when its first page is made; the events that
follow it may then be older than it, and lead up to the same.
"""

from collections.abc import Iterator, Sequence
from itertools import islice

from qubix_tui.hub import framing
from qubix_tui.hub.provider_state import Entry
from qubix_tui.hub.registry import Registry
from qubix_tui.protocol import channels, codec, events, marketplace
from qubix_tui.protocol.records import HistoryPoint, Metrics, Provider
from qubix_tui.protocol.types import RequestId, Wire

HEARTBEAT_BYTES = 32
"""What the time of the last message may add to a record's encoded size, and a comma."""


def fleet(registry: Registry, channel: str) -> Iterator[bytes]:
    """Give all providers, as frames; at least one, however empty the fleet."""
    held = [(entry, entry.stored.provider) for entry in registry]
    counts = list(framing.cut(entry.encoded_size + HEARTBEAT_BYTES for entry in registry)) or [0]
    return _fleet_pages(held, counts, channel)


def _fleet_pages(held: list[tuple[Entry, Provider]], counts: list[int], channel: str) -> Iterator[bytes]:
    rest = iter(held)
    for page, count in enumerate(counts, 1):
        providers = [entry.with_heartbeat(provider) for entry, provider in islice(rest, count)]
        yield _page(channel, marketplace.FleetSnapshot(providers=providers, page=page, pages=len(counts)))


class Past(Wire, frozen=True, kw_only=True):
    """What a hub remembers of a provider."""

    last: events.MetricsUpdate | None = None
    """Its newest sample."""
    points: Sequence[HistoryPoint] = ()
    """Its history, oldest first."""


def provider(provider_id: str, entry: Entry | None, past: Past) -> Iterator[bytes]:
    """Give one provider's record, last sample and past, as frames.

    The sample is on the first page beside the record; only where the two are too long for one page it comes
    on the second. A provider that is not known (yet) gives one page that says so by its nulls.
    """
    channel = channels.provider_channel(provider_id)
    record = entry.record() if entry else None
    metrics = past.last.metrics if past.last else None
    leads: list[tuple[Provider | None, Metrics | None]] = [(record, metrics)]
    room = framing.MAX_ITEMS_BYTES - _size(record) - _size(metrics)
    if room < 0:
        leads = [(record, None), (None, metrics)]
        room = framing.MAX_ITEMS_BYTES - _size(metrics)
    history = _history_pages(past.points, room)
    pages = len(leads) - 1 + len(history)
    for page in range(1, pages + 1):
        lead, sample = leads[page - 1] if page <= len(leads) else (None, None)
        update = marketplace.ProviderSnapshot(
            provider_id=provider_id,
            provider=lead,
            metrics=sample,
            metrics_timestamp=past.last.timestamp if past.last and sample is not None else None,
            history=history[page - len(leads)] if page >= len(leads) else [],
            page=page,
            pages=pages,
        )
        yield _page(channel, update)


def history(
    provider_id: str, points: Sequence[HistoryPoint], request_id: RequestId | None
) -> Iterator[bytes]:
    """Give a provider's past as frames that answer a request; at least one, however empty the past."""
    pages = _history_pages(points, framing.MAX_ITEMS_BYTES)
    for page, some in enumerate(pages, 1):
        data = events.History(provider_id=provider_id, points=some, page=page, pages=len(pages))
        yield framing.reply_frame(events.HISTORY, data, request_id)


def _history_pages(points: Sequence[HistoryPoint], room: int) -> list[list[HistoryPoint]]:
    """Cut points into pages, at least one; the first has ``room`` bytes, and may have to stay empty."""
    sizes = [len(codec.encode_record(point)) + 1 for point in points]
    first = 0
    for size in sizes:
        room -= size
        if room < 0:
            break
        first += 1
    rest = iter(points[first:])
    return [list(points[:first]), *(list(islice(rest, count)) for count in framing.cut(sizes[first:]))]


def _page(channel: str, update: Wire) -> bytes:
    return framing.page_frame(channel, codec.encode_record(update))


def _size(record: Wire | None) -> int:
    return len(codec.encode_record(record)) if record is not None else 4
