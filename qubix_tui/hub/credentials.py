"""How tokens come and go: issued, revoked, or traded for a code that an operator handed out.

Every change is on the store before it is acknowledged, and in the same commit as its entry in the audit. A
revocation alone takes effect before that: should the store fail, the token is refused and its connections are
gone all the same, and the operator is told to ask again.
"""

import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Final, Protocol

from qubix_tui.hub.access import Identity
from qubix_tui.hub.audit import Actor, Audit
from qubix_tui.hub.clock import Clock
from qubix_tui.hub.engine.base import Change, Conflict, Engine, EngineUnavailable
from qubix_tui.hub.enrolment import CODES_TABLE, Codes, code_change, used
from qubix_tui.hub.registry import Registry
from qubix_tui.hub.tokens import TOKENS_TABLE, KnownToken, Tokens, token_id_of
from qubix_tui.protocol import tokens
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

    async def load(self) -> None:
        """Take over what the engine holds.

        Raises:
            EngineUnavailable: It can't be read.
            ProtocolError: It is not what a hub has written.
        """
        await self.audit.load()
        void = self._known.load(await self._engine.load(TOKENS_TABLE))
        if void:
            await self._commit(void)
        for provider_id, worker_id in self._known.bindings():
            self._registry.reserve(worker_id, provider_id)
        self._codes.load(await self._engine.load(CODES_TABLE))

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
        token, token_id = self._new_token(Role(request.role), request.name, creator)
        detail = f"{request.role} {request.name or ''}".rstrip()
        try:
            await self._commit(
                [self._known.change(token_id), *self.audit.changes("token_issued", actor, token_id, detail)]
            )
        except BaseException:
            self._known.discard(token_id)
            raise
        return Issued(token_id=token_id, token=token)

    async def revoke(self, actor: Actor, token_id: str, *, last: TokenSession | None = None) -> None:
        """Make a token good for nothing and end its connections.

        Args:
            actor: Who wishes it.
            token_id: Which.
            last: A connection that is to be told before it is ended, by the caller.

        Raises:
            ProtocolError: ``not_found``; ``conflict`` for a local one.
            EngineUnavailable: The store did not take it; it holds until the hub's next start.
        """
        known = self._known.get(token_id)
        if known is None:
            raise ProtocolError(
                ErrorCode.NOT_FOUND, f"there is no token {token_id}; see token:list", field="data.tokenId"
            )
        if known.local:
            raise ProtocolError(
                ErrorCode.CONFLICT,
                f"{known.name} is a token that this hub finds on its own machine: to be rid of it delete "
                f"the file tokens/{known.role.value} in its QUBIX_HOME and restart the hub",
                field="data.tokenId",
            )
        changes = [self._known.revoke(token_id, self._now())]
        for session in tuple(self._sessions()):
            if session.identity.token_id == token_id and session is not last:
                if session.opened:
                    session.end(CloseCode.REVOKED, "the token was revoked")
                else:
                    session.cut()
        changes += self._codes.void_of(token_id, self._clock.time())
        changes += self._forget_oldest_revoked()
        await self._commit([*changes, *self.audit.changes("token_revoked", actor, token_id, known.name)])

    async def new_code(self, actor: Actor, name: str | None) -> Enrollment:
        """Make a code that lets one agent enrol.

        Raises:
            ProtocolError: ``conflict``: too many are open.
            EngineUnavailable: The store did not take it.
        """
        now = self._clock.time()
        old = self._codes.forget_old(now)
        code, digest, made = self._codes.make(actor.identity, name, now)
        note = self.audit.changes("code_made", actor, None, name)
        # Known before it is stored: a revocation that comes meanwhile has to find it.
        self._codes.put(digest, made)
        try:
            await self._commit([*old, code_change(digest, made), *note])
        except BaseException:
            self._codes.drop(digest)
            raise
        return Enrollment(code=code, expires_at=to_timestamp(made.expires))

    async def enroll(self, actor: Actor, request: Enroll) -> Enrolled:
        """Trade a code for a provider's token, bound to its provider.

        Raises:
            ProtocolError: ``unauthenticated``: it is no code, or no good one (any more). ``conflict``: the
                provider has a token.
            EngineUnavailable: The store did not take it; the code is still good.
        """
        digest, code = self._codes.find(request.code, self._clock.time())
        provider_id = self._free_provider(request.worker_id, code.name)
        token, token_id = self._new_token(
            Role.PROVIDER, code.name or provider_id, code.creator, binding=(provider_id, request.worker_id)
        )
        expected, taken = self._codes.use(digest, self._now())
        note = self.audit.changes("enrolled", actor, provider_id, f"token {token_id}")
        try:
            await self._engine.commit([expected], [taken, self._known.change(token_id), *note], ())
        except BaseException as error:
            self._known.discard(token_id)
            if isinstance(error, Conflict):
                raise used() from None
            self._codes.put(digest, code)
            raise
        self._registry.reserve(request.worker_id, provider_id)
        return Enrolled(token=token, provider_id=provider_id)

    def provider_bound(self, actor: Actor, provider_id: str) -> None:
        """Note in the audit, when there is time, which provider a token is for from now on."""
        self._spawn(self._note(self.audit.changes("provider_bound", actor, provider_id)))

    def login_refused(self, address: str, reason: str) -> None:
        """Note in the audit, when there is time, that somebody was not let in."""
        changes = self.audit.refused(address, reason)
        if changes:
            self._spawn(self._note(changes))

    def _new_token(
        self, role: Role, name: str | None, creator: str | None, *, binding: tuple[str, str] | None = None
    ) -> tuple[str, str]:
        """Make a token and know it; gives it and its id."""
        if len(self._known) >= MAX_TOKENS:
            raise ProtocolError(ErrorCode.CONFLICT, f"there are {MAX_TOKENS} tokens; revoke some first")
        token = tokens.new_token(role)
        while self._known.get(token_id_of(tokens.hash_token(token))) is not None:
            token = tokens.new_token(role)
        known = KnownToken(
            role=role,
            name=name,
            created_at=self._now(),
            created_by=creator,
            binding=binding,
        )
        return token, self._known.add(tokens.hash_token(token), known)

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

    def _forget_oldest_revoked(self) -> list[Change]:
        revoked = sorted((known.revoked_at, token_id) for token_id, known in self._known if known.revoked_at)
        return [self._known.discard(token_id) for _, token_id in revoked[:-MAX_REVOKED]]

    def _now(self) -> Timestamp:
        return to_timestamp(self._clock.time())

    async def _note(self, changes: Sequence[Change]) -> None:
        try:
            await self._commit(changes)
        except EngineUnavailable as error:
            _logger.error("the audit was not written: %s", error)

    async def _commit(self, changes: Sequence[Change]) -> None:
        await self._engine.commit((), changes, ())


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
