"""The tokens that a hub knows: whose they are, which provider each is for, and which are revoked.

Here are the rules and what is in memory; `qubix_tui.hub.credentials` keeps it on the store. Only hashes are
kept. Most tokens were issued, and are on the store. A *local* one is read from a file of the hub's machine at
each start: only what it was bound to is on the store, and once its file is gone neither the token nor its
binding is anything.

Where hubs on several machines share a store, each has local tokens of its own. Those of other machines open
nothing here, but the providers that they are for are not free.
"""

import contextlib
import hmac
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from qubix_tui.hub.engine.base import Change
from qubix_tui.protocol import codec, tokens
from qubix_tui.protocol.errors import ErrorCode, ProtocolError
from qubix_tui.protocol.tokens import Role
from qubix_tui.protocol.types import Id, Name, Timestamp, Wire

TOKENS_TABLE: Final = "tokens"

BINDINGS_TABLE: Final = "bindings"
"""Nothing is ever stored there. Whoever binds a token deletes the rows of its provider and its ``workerId``:
of two hubs that do so at once for the same one, one is refused by the store."""

ID_LENGTH: Final = 12
"""Characters of the hash that name a token in public: enough to tell tokens apart, too few to guess one."""

_NO_HASH: Final = "0" * 64


class KnownToken(Wire, frozen=True, kw_only=True):
    """What is kept of a token, under its hash.

    Attributes:
        role: What it lets its holder do.
        name: What people call it.
        created_at: None for a local one.
        created_by: The token that made it, by name or id.
        binding: The provider id and the ``workerId`` that it is for, once it has registered them.
        revoked_at: None while it is good.
        local: It comes from a file of the hub's machine.
    """

    role: Role
    name: Name | None = None
    created_at: Timestamp | None = None
    created_by: Name | None = None
    binding: tuple[Id, Id] | None = None
    revoked_at: Timestamp | None = None
    local: bool = False


class Tokens:
    """All tokens of one hub, by their ids."""

    def __init__(self) -> None:
        self._hashes: dict[str, str] = {}
        self._known: dict[str, KnownToken] = {}
        self._owners: dict[str, str] = {}
        self._claims: dict[str, str] = {}
        self._here: set[str] = set()

    def __iter__(self) -> Iterator[tuple[str, KnownToken]]:
        return iter(self._known.items())

    def __len__(self) -> int:
        return len(self._known)

    def get(self, token_id: str) -> KnownToken | None:
        """Give a token by its id, None where there is none."""
        return self._known.get(token_id)

    def is_here(self, token_id: str) -> bool:
        """Whether a file of this hub's machine holds a token."""
        return token_id in self._here

    def load(self, rows: Mapping[str, bytes], *, shared: bool = False) -> list[Change]:
        """Take over what was stored before the hub's start; the local tokens are known by then.

        Args:
            rows: What was stored.
            shared: Hubs of other machines may use this store, with local tokens that this one can't know.

        Returns:
            What is to be written: local tokens whose file is gone are nothing any more.

        Raises:
            ProtocolError: A row is not a stored token.
        """
        void: list[Change] = []
        for digest, row in rows.items():
            stored = codec.decode_record(row, KnownToken)
            if stored.local and not shared and self._hashes.get(token_id_of(digest)) != digest:
                void.append(Change(TOKENS_TABLE, digest, None))
            else:
                self.add(digest, stored)
        return void

    def add(self, digest: str, known: KnownToken) -> str:
        """Know a token, as it is now, by its hash, and give its id. What was revoked stays so."""
        token_id = token_id_of(digest)
        before = self._known.get(token_id)
        if before is not None:
            self._release(token_id, before)
            if known.revoked_at is None:
                known = msgspec.structs.replace(known, revoked_at=before.revoked_at)
        self._hashes[token_id] = digest
        self._known[token_id] = known
        if known.binding is not None and known.revoked_at is None:
            self._owners[known.binding[0]] = token_id
        return token_id

    def add_local(self, token: str, role: Role, name: str) -> str:
        """Know a token that a file of the hub's machine holds, and give its id. What is known of it stays."""
        digest = tokens.hash_token(token)
        token_id = token_id_of(digest)
        self._here.add(token_id)
        if token_id not in self._known:
            self.add(digest, KnownToken(role=role, name=name, local=True))
        return token_id

    def forget(self, token_id: str) -> None:
        """Know nothing of a token any more but what a file of this machine says."""
        known = self._known.get(token_id)
        if known is None:
            return
        self._release(token_id, known)
        if token_id in self._here and known.local:
            self._known[token_id] = msgspec.structs.replace(known, binding=None)
        else:
            del self._known[token_id], self._hashes[token_id]

    def is_news(self, token: str) -> bool:
        """Whether a token is whole, and not known: another hub may have handed it out just now."""
        return tokens.is_token(token) and token_id_of(tokens.hash_token(token)) not in self._known

    def find(self, token: str) -> tuple[str, KnownToken]:
        """Give the id of a token that is shown, and what is known of it.

        Raises:
            ProtocolError: ``unauthenticated``; it is mistyped, not known here, or revoked.
        """
        if not tokens.is_token(token):
            raise ProtocolError(
                ErrorCode.UNAUTHENTICATED, "this is not a whole token (mistyped, or cut short)"
            )
        digest = tokens.hash_token(token)
        token_id = token_id_of(digest)
        known = self._known.get(token_id)
        # The id is public; what tells a token from a guess is compared in constant time.
        same = hmac.compare_digest(self._hashes.get(token_id, _NO_HASH), digest)
        if known is None or not same or (known.local and token_id not in self._here):
            raise ProtocolError(
                ErrorCode.UNAUTHENTICATED, "this hub does not know the token; ask its operator for one"
            )
        if known.revoked_at is not None:
            raise ProtocolError(
                ErrorCode.UNAUTHENTICATED, "this token was revoked; ask the hub's operator for another"
            )
        return token_id, known

    def owner(self, provider_id: str) -> str | None:
        """Give the id of the token that a provider is registered with, or being; None where it has none."""
        return self._owners.get(provider_id) or self._claims.get(provider_id)

    def bindings(self) -> Iterator[tuple[str, str]]:
        """Give the provider id and ``workerId`` of each token that is for one and good."""
        for token_id in self._owners.values():
            binding = self._known[token_id].binding
            assert binding is not None
            yield binding

    @contextlib.contextmanager
    def claim(self, token_id: str, provider_id: str, worker_id: str) -> Iterator[list[Change]]:
        """Have a provider for its token while that is being stored, and give what is to be written.

        A provider's token is bound to the first (id, workerId) that it registers; later there is nothing to
        write. The ``workerId`` is no secret (it is in the provider's record): what keeps one provider from
        registering as another is that an id has one token only.

        Raises:
            ProtocolError: ``forbidden``; the token has another provider, or the provider another token.
                ``unauthenticated``: the token was revoked meanwhile.
        """
        known = self._known.get(token_id)
        if known is None or known.revoked_at is not None:
            raise ProtocolError(ErrorCode.UNAUTHENTICATED, "this token was revoked")
        wanted = (provider_id, worker_id)
        if known.binding not in {None, wanted} or token_id in self._claims.values():
            raise ProtocolError(
                ErrorCode.FORBIDDEN,
                "this token belongs to another provider; each provider needs its own: "
                "ask the hub's operator for one",
            )
        owner = self.owner(provider_id)
        if owner not in {None, token_id}:
            raise ProtocolError(
                ErrorCode.FORBIDDEN,
                f"{provider_id} is registered with another token ({owner}); use that one, "
                "or have it revoked first",
            )
        if known.binding is not None:
            yield []
            return
        bound = msgspec.structs.replace(known, binding=wanted)
        with self.held(provider_id, token_id):
            yield [token_change(self._hashes[token_id], bound), *binding_marks(provider_id, worker_id)]

    @contextlib.contextmanager
    def held(self, provider_id: str, token_id: str) -> Iterator[None]:
        """Let nobody else have a provider while its token is being stored."""
        self._claims[provider_id] = token_id
        try:
            yield
        finally:
            del self._claims[provider_id]

    def bind(self, token_id: str, provider_id: str, worker_id: str) -> None:
        """Know that a token is for a provider: that was stored."""
        known = self._known.get(token_id)
        if known is not None and known.binding is None:
            bound = msgspec.structs.replace(known, binding=(provider_id, worker_id))
            self.add(self._hashes[token_id], bound)

    def revoke(self, token_id: str, at: Timestamp) -> Change:
        """Make a token good for nothing, and its provider free for another; gives what is to be written."""
        known = self._known[token_id]
        self._release(token_id, known)
        self._known[token_id] = msgspec.structs.replace(known, revoked_at=known.revoked_at or at)
        return self.change(token_id)

    def change(self, token_id: str) -> Change:
        """Give what is to be written for a token as it is now."""
        return token_change(self._hashes[token_id], self._known[token_id])

    def removal(self, token_id: str) -> Change:
        """Give what is to be written for a token that is to be forgotten."""
        return Change(TOKENS_TABLE, self._hashes[token_id], None)

    def _release(self, token_id: str, known: KnownToken) -> None:
        if known.binding is not None and self._owners.get(known.binding[0]) == token_id:
            del self._owners[known.binding[0]]


def token_id_of(digest: str) -> str:
    """Give the public id of the token with a hash."""
    return digest[:ID_LENGTH]


def token_change(digest: str, known: KnownToken) -> Change:
    """Give what is to be written for a token."""
    return Change(TOKENS_TABLE, digest, codec.encode_record(known))


def binding_marks(provider_id: str, worker_id: str) -> list[Change]:
    """Give what is to be written beside a token's binding; see `BINDINGS_TABLE`."""
    return [
        Change(BINDINGS_TABLE, f"provider:{provider_id}", None),
        Change(BINDINGS_TABLE, f"worker:{worker_id}", None),
    ]
