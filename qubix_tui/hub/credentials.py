"""How tokens come and go: issued, revoked, or traded for a code that an operator handed out.

Every change is on the store before it is acknowledged, and in the same commit as its entry in the audit. A
revocation alone takes effect before that: should the store fail, the token is refused and its connections are
gone all the same, and the operator is told to ask again.
"""

from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Final, Protocol

import msgspec

from qubix_tui.hub.access import Identity
from qubix_tui.hub.audit import Actor, Audit
from qubix_tui.hub.clock import Clock
from qubix_tui.hub.engine.base import Change, Conflict, Engine, Precondition
from qubix_tui.hub.registry import Registry
from qubix_tui.hub.tokens import TOKENS_TABLE, KnownToken, Tokens, token_id_of
from qubix_tui.protocol import codec, tokens
from qubix_tui.protocol.answers import Enrolled, Enrollment, Issued, TokenRecord
from qubix_tui.protocol.errors import CloseCode, ErrorCode, ProtocolError
from qubix_tui.protocol.requests import Enroll, IssueToken, Register
from qubix_tui.protocol.tokens import Role
from qubix_tui.protocol.types import Id, Name, Timestamp, Wire, to_timestamp

CODES_TABLE: Final = "enrollment_codes"

CODE_SECONDS: Final = 15 * 60.0
"""How long a code can be used."""

CODE_KEPT_SECONDS: Final = 24 * 3600.0
"""How long a code is remembered: who comes too late, or second, is told so."""

MAX_CODES: Final = 1_000
MAX_TOKENS: Final = 100_000
MAX_REVOKED: Final = 1_000
"""Revoked tokens that are still listed, and told that they were revoked; older ones are just not known."""


class Code(Wire, frozen=True, kw_only=True):
    """What is kept of an enrolment code, under its hash."""

    expires: float
    """Seconds since the epoch."""
    created_by: Id | None
    creator: Name | None
    """Name of the token ``created_by``, or its id."""
    name: Name | None
    used_at: Timestamp | None = None


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
        self._codes: dict[str, Code] = {}

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
        for digest, row in (await self._engine.load(CODES_TABLE)).items():
            self._codes[digest] = codec.decode_record(row, Code)

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
        changes += self._void_codes(lambda code: code.created_by == token_id and code.used_at is None)
        changes += self._forget_oldest_revoked()
        await self._commit([*changes, *self.audit.changes("token_revoked", actor, token_id, known.name)])

    async def new_code(self, actor: Actor, name: str | None) -> Enrollment:
        """Make a code that lets one agent enrol.

        Raises:
            ProtocolError: ``conflict``: too many are open.
            EngineUnavailable: The store did not take it.
        """
        now = self._clock.time()
        changes = self._void_codes(lambda code: now >= code.expires + CODE_KEPT_SECONDS)
        if len(self._codes) >= MAX_CODES:
            changes += self._void_codes(lambda code: code.used_at is not None or now >= code.expires)
        if len(self._codes) >= MAX_CODES:
            raise ProtocolError(ErrorCode.CONFLICT, f"{MAX_CODES} codes are open; use some, or wait")
        code = tokens.new_code()
        digest = tokens.hash_token(code)
        identity = actor.identity
        made = Code(
            expires=now + CODE_SECONDS,
            created_by=identity.token_id,
            creator=identity.subject or identity.token_id,
            name=name,
        )
        changes.append(_code_change(digest, made))
        await self._commit([*changes, *self.audit.changes("code_made", actor, None, name)])
        self._codes[digest] = made
        return Enrollment(code=code, expires_at=to_timestamp(made.expires))

    async def enroll(self, actor: Actor, request: Enroll) -> Enrolled:
        """Trade a code for a provider's token, bound to its provider.

        Raises:
            ProtocolError: ``unauthenticated``: it is no code, or no good one (any more). ``conflict``: the
                provider has a token.
            EngineUnavailable: The store did not take it; the code is still good.
        """
        digest, code = self._open_code(request.code)
        provider_id = self._free_provider(request.worker_id, code.name)
        token, token_id = self._new_token(
            Role.PROVIDER, code.name or provider_id, code.creator, binding=(provider_id, request.worker_id)
        )
        used = msgspec.structs.replace(code, used_at=self._now())
        self._codes[digest] = used
        try:
            await self._engine.commit(
                [Precondition(CODES_TABLE, digest, codec.encode_record(code))],
                [
                    _code_change(digest, used),
                    self._known.change(token_id),
                    *self.audit.changes("enrolled", actor, provider_id, f"token {token_id}"),
                ],
                (),
            )
        except BaseException as error:
            self._known.discard(token_id)
            if isinstance(error, Conflict):
                raise _used() from None
            self._codes[digest] = code
            raise
        self._registry.reserve(request.worker_id, provider_id)
        return Enrolled(token=token, provider_id=provider_id)

    def provider_bound(self, actor: Actor, provider_id: str) -> None:
        """Note in the audit, when there is time, which provider a token is for from now on."""
        self._spawn(self._commit(self.audit.changes("provider_bound", actor, provider_id)))

    def login_refused(self, address: str, reason: str) -> None:
        """Note in the audit, when there is time, that somebody was not let in."""
        changes = self.audit.refused(address, reason)
        if changes:
            self._spawn(self._commit(changes))

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

    def _open_code(self, text: str) -> tuple[str, Code]:
        code = tokens.read_code(text)
        if code is None:
            raise ProtocolError(
                ErrorCode.UNAUTHENTICATED,
                "this is not a whole enrollment code (four groups of four letters and digits)",
                field="data.code",
            )
        digest = tokens.hash_token(code)
        known = self._codes.get(digest)
        if known is None:
            raise ProtocolError(
                ErrorCode.UNAUTHENTICATED,
                "this hub does not know the code; ask its operator for one (qubix enroll new)",
                field="data.code",
            )
        if known.used_at is not None:
            raise _used()
        if self._clock.time() >= known.expires:
            raise ProtocolError(
                ErrorCode.UNAUTHENTICATED,
                f"this code was good for {CODE_SECONDS / 60:.0f} minutes, which are over; ask for a new one",
                field="data.code",
            )
        return digest, known

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

    def _void_codes(self, is_void: Callable[[Code], bool]) -> list[Change]:
        void = [digest for digest, code in self._codes.items() if is_void(code)]
        for digest in void:
            del self._codes[digest]
        return [Change(CODES_TABLE, digest, None) for digest in void]

    def _forget_oldest_revoked(self) -> list[Change]:
        revoked = sorted((known.revoked_at, token_id) for token_id, known in self._known if known.revoked_at)
        return [self._known.discard(token_id) for _, token_id in revoked[:-MAX_REVOKED]]

    def _now(self) -> Timestamp:
        return to_timestamp(self._clock.time())

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


def _code_change(digest: str, code: Code) -> Change:
    return Change(CODES_TABLE, digest, codec.encode_record(code))


def _used() -> ProtocolError:
    return ProtocolError(
        ErrorCode.UNAUTHENTICATED,
        "this code was used already; ask for a new one, and have the token revoked that it gave "
        "if it was not you",
        field="data.code",
    )
