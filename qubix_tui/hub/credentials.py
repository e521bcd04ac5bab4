"""How tokens come and go: issued, revoked, or traded for a code that an operator handed out.

Every change is on the store before it is acknowledged, and in the same commit as its entry in the audit. A
revocation alone takes effect before that: should the store fail, the token is refused and its connections are
gone all the same, and the operator is told to ask again.

What other hubs on the same store do is followed: what they issued works here, what they revoked is closed
here. Where two decide at once the store refuses one of them, which decides anew.
"""

import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Final, Protocol

import msgspec

from qubix_tui.hub.access import Identity
from qubix_tui.hub.audit import Actor, Audit
from qubix_tui.hub.clock import Clock
from qubix_tui.hub.engine.base import Change, Engine, EngineUnavailable, caught_up, settled
from qubix_tui.hub.enrolment import CODES_TABLE, Code, Codes, code_change, unknown
from qubix_tui.hub.keyed_locks import KeyedLocks
from qubix_tui.hub.registry import Registry
from qubix_tui.hub.tokens import (
    TOKENS_TABLE,
    KnownToken,
    Tokens,
    binding_marks,
    token_change,
    token_id_of,
)
from qubix_tui.protocol import codec, tokens
from qubix_tui.protocol.answers import Enrolled, Enrollment, Issued, TokenRecord
from qubix_tui.protocol.errors import CloseCode, ErrorCode, ProtocolError
from qubix_tui.protocol.requests import Enroll, IssueToken, Register
from qubix_tui.protocol.tokens import Role
from qubix_tui.protocol.types import Timestamp, to_timestamp

MAX_TOKENS: Final = 100_000
MAX_REVOKED: Final = 1_000
"""Revoked tokens that are still listed, and told that they were revoked; older ones are just not known."""


_logger = logging.getLogger("qubix.hub.credentials")


class TokenSession(Protocol):
    """What revoking needs of a connection."""

    identity: Identity
    opened: bool

    def end(self, code: int, reason: str) -> None:
        """Close it."""
        ...

    def cut(self) -> None:
        """End it at once."""
        ...


class Credentials:
    """The tokens and enrolment codes of one hub, on its store.

    Args:
        engine: Where they are kept.
        known: The tokens as they are now.
        registry: Which provider has which id.
        audit: What was done.
        clock: When; ``time`` alone, for it has to survive a restart.
        sessions: All connections, those in their handshake included.
        spawn: Runs something that nobody waits for.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        known: Tokens,
        registry: Registry,
        audit: Audit,
        clock: Clock,
        sessions: Callable[[], Iterable[TokenSession]],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self.audit = audit
        self._engine = engine
        self._known = known
        self._registry = registry
        self._clock = clock
        self._sessions = sessions
        self._spawn = spawn
        self._codes = Codes()
        self._turns = KeyedLocks()

    async def load(self) -> None:
        """Take over what the engine holds.

        Raises:
            EngineUnavailable: It can't be read.
            ProtocolError: It is not what a hub has written.
        """
        await self.audit.load()
        shared = self._engine.cluster.node is not None
        void = self._known.load(await self._engine.load(TOKENS_TABLE), shared=shared)
        if void:
            await self._commit(void)
        for provider_id, worker_id in self._known.bindings():
            self._registry.reserve(worker_id, provider_id)
        self._codes.load(await self._engine.load(CODES_TABLE))

    def follow(self, changes: Sequence[Change]) -> None:
        """Know what another hub has written; connections of a token that it revoked are ended.

        Raises:
            ProtocolError: It is not what a hub has written.
        """
        self.audit.follow(changes)
        for change in changes:
            if change.table == TOKENS_TABLE:
                self._follow_token(change)
            elif change.table == CODES_TABLE and change.value is None:
                self._codes.drop(change.key)
            elif change.table == CODES_TABLE and change.value is not None:
                self._codes.put(change.key, codec.decode_record(change.value, Code))

    def _follow_token(self, change: Change) -> None:
        token_id = token_id_of(change.key)
        if change.value is None:
            self._known.forget(token_id)
            self._end_sessions(token_id)
            return
        known = codec.decode_record(change.value, KnownToken)
        self._known.add(change.key, known)
        if known.revoked_at is not None:
            self._end_sessions(token_id)
        elif known.binding is not None:
            provider_id, worker_id = known.binding
            self._registry.reserve(worker_id, provider_id)

    def listing(self) -> list[TokenRecord]:
        """Give all tokens, as they are listed: those in use first, then the revoked ones."""
        shown = Counter(session.identity.token_id for session in self._sessions())
        records = [_record(token_id, known, shown[token_id]) for token_id, known in self._known]
        return sorted(records, key=lambda record: (record.revoked_at is not None, record.created_at or ""))

    async def issue(self, actor: Actor, request: IssueToken) -> Issued:
        """Make a token.

        Raises:
            ProtocolError: ``conflict``: there are too many.
            EngineUnavailable: The store did not take it.
        """
        creator = actor.identity.subject or actor.identity.token_id
        token, digest = self._new_token(Role(request.role))
        known = KnownToken(
            role=Role(request.role), name=request.name, created_at=self._now(), created_by=creator
        )
        detail = f"{request.role} {request.name or ''}".rstrip()
        note = self.audit.changes("token_issued", actor, token_id_of(digest), detail)
        changes = [token_change(digest, known), *note]
        await settled(lambda: self._commit(changes, lambda: self._known.add(digest, known)))
        return Issued(token_id=token_id_of(digest), token=token)

    async def revoke(self, actor: Actor, token_id: str, *, last: TokenSession | None = None) -> None:
        """Make a token good for nothing and end its connections.

        Args:
            actor: Who wishes it.
            token_id: Which.
            last: A connection that is to be told before it is ended, by the caller.

        Raises:
            ProtocolError: ``not_found``; ``conflict`` for a local one of this machine.
            EngineUnavailable: The store did not take it; it holds here until the hub's next start.
        """
        await settled(lambda: self._revoke(actor, token_id, last))

    async def _revoke(self, actor: Actor, token_id: str, last: TokenSession | None) -> None:
        known = self._revocable(token_id)
        if known.local:
            # Another machine's: only its hold on a provider can be ended from here.
            changes, forgotten = [self._known.removal(token_id)], [token_id]
        else:
            changes = [self._known.revoke(token_id, self._now())]
            forgotten = self._oldest_revoked()
            changes += [msgspec.structs.replace(self._known.removal(old), blind=True) for old in forgotten]
        self._end_sessions(token_id, but=last)
        void = self._codes.open_of(token_id, self._clock.time())
        changes += [Change(CODES_TABLE, digest, None) for digest in void]
        note = self.audit.changes("token_revoked", actor, token_id, known.name)

        def apply() -> None:
            for old in forgotten:
                self._known.forget(old)
            for digest in void:
                self._codes.drop(digest)

        await self._commit([*changes, *note], apply)

    def _revocable(self, token_id: str) -> KnownToken:
        known = self._known.get(token_id)
        if known is None:
            raise ProtocolError(
                ErrorCode.NOT_FOUND, f"there is no token {token_id}; see token:list", field="data.tokenId"
            )
        if known.local and self._known.is_here(token_id):
            raise ProtocolError(
                ErrorCode.CONFLICT,
                f"{known.name} is a token that this hub finds on its own machine: to be rid of it delete "
                f"the file tokens/{known.role.value} in its QUBIX_HOME and restart the hub",
                field="data.tokenId",
            )
        return known

    def _end_sessions(self, token_id: str, *, but: TokenSession | None = None) -> None:
        for session in tuple(self._sessions()):
            if session.identity.token_id == token_id and session is not but:
                if session.opened:
                    session.end(CloseCode.REVOKED, "the token was revoked")
                else:
                    session.cut()

    async def new_code(self, actor: Actor, name: str | None) -> Enrollment:
        """Make a code that lets one agent enrol.

        Raises:
            ProtocolError: ``conflict``: too many are open.
            EngineUnavailable: The store did not take it.
        """
        now = self._clock.time()
        old = self._codes.old(now)
        code, digest, made = self._codes.make(actor.identity, name, now)
        note = self.audit.changes("code_made", actor, None, name)

        def apply() -> None:
            for gone in old:
                self._codes.drop(gone)
            self._codes.put(digest, made)

        removals = [Change(CODES_TABLE, gone, None, blind=True) for gone in old]
        changes = [*removals, code_change(digest, made), *note]
        await settled(lambda: self._commit(changes, apply))
        return Enrollment(code=code, expires_at=to_timestamp(made.expires))

    async def enroll(self, actor: Actor, request: Enroll) -> Enrolled:
        """Trade a code for a provider's token, bound to its provider.

        Raises:
            ProtocolError: ``unauthenticated``: it is no code, or no good one (any more). ``conflict``: the
                provider has a token.
            EngineUnavailable: The store did not take it; the code is still good.
        """
        if self._codes.is_news(request.code):
            await caught_up(self._engine)
        digest, _ = self._find_code(request.code)
        async with self._turns.of(digest):
            return await settled(lambda: self._enroll(actor, request))

    async def _enroll(self, actor: Actor, request: Enroll) -> Enrolled:
        code_digest, code = self._find_code(request.code)
        provider_id = self._free_provider(request.worker_id, code.name)
        token, digest = self._new_token(Role.PROVIDER)
        now = self._now()
        known = KnownToken(
            role=Role.PROVIDER,
            name=code.name or provider_id,
            created_at=now,
            created_by=code.creator,
            binding=(provider_id, request.worker_id),
        )
        taken = msgspec.structs.replace(code, used_at=now)
        changes = [
            code_change(code_digest, taken),
            token_change(digest, known),
            *binding_marks(provider_id, request.worker_id),
            *self.audit.changes("enrolled", actor, provider_id, f"token {token_id_of(digest)}"),
        ]

        def apply() -> None:
            self._codes.put(code_digest, taken)
            self._known.add(digest, known)
            self._registry.reserve(request.worker_id, provider_id)

        with self._known.held(provider_id, token_id_of(digest)):
            await self._commit(changes, apply)
        return Enrolled(token=token, provider_id=provider_id)

    def _find_code(self, text: str) -> tuple[str, Code]:
        """Give the hash of a code that is good, and what is kept of it."""
        digest, code = self._codes.find(text, self._clock.time())
        creator = self._known.get(code.created_by) if code.created_by else None
        if creator is not None and creator.revoked_at is not None:
            raise unknown()
        return digest, code

    def provider_bound(self, actor: Actor, provider_id: str) -> None:
        """Note in the audit, when there is time, which provider a token is for from now on."""
        self._spawn(self._note(self.audit.changes("provider_bound", actor, provider_id)))

    def login_refused(self, address: str, reason: str) -> None:
        """Note in the audit, when there is time, that somebody was not let in."""
        changes = self.audit.refused(address, reason)
        if changes:
            self._spawn(self._note(changes))

    def _new_token(self, role: Role) -> tuple[str, str]:
        """Make a token that nobody knows yet; gives it and its hash."""
        if len(self._known) >= MAX_TOKENS:
            raise ProtocolError(ErrorCode.CONFLICT, f"there are {MAX_TOKENS} tokens; revoke some first")
        token = tokens.new_token(role)
        while self._known.get(token_id_of(tokens.hash_token(token))) is not None:
            token = tokens.new_token(role)
        return token, tokens.hash_token(token)

    def _free_provider(self, worker_id: str, name: str | None) -> str:
        """Give the id of the provider that an agent is, or would become, if no token has it."""
        provider_id = self._registry.provider_id(Register(worker_id=worker_id, name=name, instance="-"))
        entry = self._registry.get(provider_id)
        if entry is not None and entry.stored.provider.worker_id != worker_id:
            raise ProtocolError(
                ErrorCode.CONFLICT,
                f"the id {provider_id} is another provider's; ask for a code by another name",
            )
        owner = self._known.owner(provider_id)
        if owner is not None:
            raise ProtocolError(
                ErrorCode.CONFLICT,
                f"{provider_id} has a token already; its operator can revoke that one "
                f"(qubix token revoke {owner}), then enroll again with the same code",
                field="data.workerId",
            )
        return provider_id

    def _oldest_revoked(self) -> list[str]:
        revoked = sorted((known.revoked_at, token_id) for token_id, known in self._known if known.revoked_at)
        return [token_id for _, token_id in revoked[:-MAX_REVOKED]]

    def _now(self) -> Timestamp:
        return to_timestamp(self._clock.time())

    async def _note(self, changes: Sequence[Change]) -> None:
        try:
            await self._commit(changes)
        except EngineUnavailable as error:
            _logger.error("the audit was not written: %s", error)

    async def _commit(self, changes: Sequence[Change], apply: Callable[[], object] | None = None) -> None:
        def applied() -> None:
            self.audit.follow(changes)
            if apply is not None:
                apply()

        await self._engine.commit((), changes, (), applied)


def _record(token_id: str, known: KnownToken, connections: int) -> TokenRecord:
    provider_id, worker_id = known.binding or (None, None)
    return TokenRecord(
        token_id=token_id,
        role=known.role,
        name=known.name,
        provider_id=provider_id,
        worker_id=worker_id,
        created_at=known.created_at,
        created_by=known.created_by,
        revoked_at=known.revoked_at,
        local=known.local,
        connections=connections,
    )
