"""All providers that a hub knows, and whose they are to look after.

Hubs that share a store know of all providers, and each looks after its own: those that registered there. The
leader looks after those of hubs that are gone.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Final

from qubix_tui.hub.access import SIMULATED_PREFIX
from qubix_tui.hub.clock import Clock
from qubix_tui.hub.engine.cluster import Alone, Cluster
from qubix_tui.hub.provider_state import Entry, StoredProvider, identity_of, record_size
from qubix_tui.protocol import codec
from qubix_tui.protocol.records import Metrics, ProviderSpec

_NOT_SLUG: Final = re.compile(r"[^a-z0-9]+")
_SLUG_LENGTH: Final = 40


class Roster:
    """All providers.

    Args:
        clock: Wall time for timestamps, monotonic time for deadlines.
        cluster: The hubs that share the store.
    """

    def __init__(self, clock: Clock, cluster: Cluster | None = None) -> None:
        self._clock = clock
        self._cluster: Cluster = cluster or Alone()
        self._live_nodes: frozenset[str] = frozenset()
        self._entries: dict[str, Entry] = {}
        self._ids: dict[tuple[str, bool], str] = {}
        self._reserved: dict[str, str] = {}
        self._counted_from = clock.monotonic()
        self._samples = 0

    def load(self, rows: Iterable[bytes]) -> None:
        """Take over what was stored before the hub's start.

        Raises:
            ProtocolError: A row is not a stored provider.
        """
        for row in rows:
            stored = codec.decode_record(row, StoredProvider)
            self._put(stored.provider.id, stored, record_size(stored.provider))

    def follow(self, provider_id: str, row: bytes | None) -> Entry | None:
        """Know a provider as another hub has stored it; gives it as it was known before.

        Raises:
            ProtocolError: It is not a stored provider.
        """
        entry = self._entries.get(provider_id)
        stored = None if row is None else codec.decode_record(row, StoredProvider)
        size = 0 if stored is None else record_size(stored.provider)
        was = entry.stored.node if entry is not None else None
        self._put(provider_id, stored, size)
        if stored is not None and stored.node != self._cluster.node:
            entry = self._entries[provider_id]
            entry.session_open = entry.heard_here = entry.heard_there = False
            if stored.node != was:
                entry.watched_from = self._clock.monotonic()
        return entry

    def looks_after(self, entry: Entry) -> bool:
        """Whether this hub is the one that watches over a provider."""
        node, here = entry.stored.node, self._cluster.node
        return node == here or (self._cluster.leads and not self._cluster.is_live(node))

    def is_elsewhere(self, entry: Entry) -> bool:
        """Whether another hub has a provider's connection, and is alive."""
        node = entry.stored.node
        return node != self._cluster.node and self._cluster.is_live(node)

    def is_connected(self, entry: Entry) -> bool:
        """Whether a provider's agent can be told something, by this hub or by another one."""
        return entry.session_open or self.is_elsewhere(entry)

    def note_nodes(self) -> None:
        """See which hubs are gone: their providers' silence counts from now.

        A hub that is cut off from the others can't see that, nor what comes back meanwhile: for it all
        silence counts from when it is back.
        """
        if not self._cluster.may_renew:
            self.stalled()
        live = frozenset(node.id for node in self._cluster.nodes)
        gone, self._live_nodes = self._live_nodes - live, live
        if gone:
            now = self._clock.monotonic()
            for entry in self._entries.values():
                if entry.stored.node in gone:
                    entry.watched_from = now

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, provider_id: str) -> Entry | None:
        """Give a provider, None when it is not known."""
        return self._entries.get(provider_id)

    @property
    def newest_sample(self) -> int:
        """The number of samples received, or told of by other hubs, so far."""
        return self._samples

    def stalled(self) -> None:
        """The hub itself was held up until now: nobody's silence before now counts."""
        self._counted_from = self._clock.monotonic()

    def heard(self, entry: Entry) -> None:
        """Note a sign of life."""
        entry.heard = self._clock.monotonic()
        entry.heard_here = True

    def sampled(self, entry: Entry, metrics: Metrics) -> None:
        """Note a provider's newest sample."""
        self._samples += 1
        entry.metrics = metrics
        entry.metrics_at = self._clock.time()
        entry.sample = self._samples
        entry.told_by = None

    def heard_elsewhere(self, entry: Entry, age: float) -> None:
        """Note that another hub has heard a provider, so many seconds ago."""
        entry.heard = self._clock.monotonic() - age
        entry.heard_there = True

    def sampled_elsewhere(self, entry: Entry, node: str, headline: bytes, age: float) -> None:
        """Note the newest sample of a provider as another hub tells it.

        Args:
            entry: The provider.
            node: The hub.
            headline: The sample's line in a digest, as JSON.
            age: How many seconds ago it came.
        """
        self._samples += 1
        entry.metrics = None
        entry.metrics_at = self._clock.time() - age
        entry.sample = self._samples
        entry.headline = (entry.sample, headline)
        entry.told_by = node

    def provider_id(self, spec: ProviderSpec) -> str:
        """Give the id of the provider with this identity: the one it has, or the one it would get.

        It comes from the name and the ``workerId`` alone, so that a hub that lost its memory gives it again;
        a later change of the name changes nothing.
        """
        known = self._ids.get(identity_of(spec))
        if known is None and not spec.simulated:
            known = self._reserved.get(spec.worker_id)
        if known is not None:
            return known
        if spec.simulated:
            return f"{SIMULATED_PREFIX}{spec.worker_id.removeprefix(SIMULATED_PREFIX)}"[:64]
        slug = _NOT_SLUG.sub("-", (spec.name or "").lower()).strip("-")[:_SLUG_LENGTH].strip("-")
        if not slug or f"{slug}-".startswith(SIMULATED_PREFIX):
            slug = f"provider-{slug}".rstrip("-")
        return f"{slug}-{hashlib.sha256(spec.worker_id.encode()).hexdigest()[:6]}"

    def reserve(self, worker_id: str, provider_id: str) -> None:
        """Settle the id of a real provider that may not have registered yet: its token is for that id."""
        self._reserved[worker_id] = provider_id

    def _put(self, provider_id: str, stored: StoredProvider | None, encoded_size: int) -> None:
        entry = self._entries.get(provider_id)
        if stored is None:
            if entry is not None:
                del self._entries[provider_id]
                self._ids.pop(identity_of(entry.stored.provider), None)
        elif entry is None:
            self._entries[provider_id] = Entry(stored, encoded_size, self._clock)
            self._ids[identity_of(stored.provider)] = provider_id
        else:
            entry.stored = stored
            entry.encoded_size = encoded_size
