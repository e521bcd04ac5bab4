"""What the hub answers to requests about tokens, enrolment and the audit."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Protocol, TypeVar

from qubix_tui.hub import framing
from qubix_tui.hub.access import Identity
from qubix_tui.hub.audit import Actor
from qubix_tui.hub.outbox import Slot
from qubix_tui.hub.services import Services
from qubix_tui.protocol import codec, events
from qubix_tui.protocol.answers import Audit, Tokens
from qubix_tui.protocol.errors import CloseCode, ErrorCode, ProtocolError
from qubix_tui.protocol.requests import Request
from qubix_tui.protocol.types import RequestId, Wire

Item = TypeVar("Item", bound=Wire)


class TokenConversation(Protocol):
    """What these handlers need of a session."""

    services: Services
    identity: Identity
    address: str
    opened: bool

    def reply(self, kind: str, data: Wire, request_id: RequestId | None) -> None:
        """Send a direct reply."""
        ...

    def reserve(self) -> Slot:
        """Take a place among the events for frames that come later."""
        ...

    def end(self, code: int, reason: str) -> None:
        """Close it."""
        ...

    def cut(self) -> None:
        """End it at once."""
        ...


async def issue_token(session: TokenConversation, request: Request) -> None:
    """Make a token and show it, once."""
    issued = await session.services.credentials.issue(actor(session), request.data)
    session.reply(events.ISSUED, issued, request.id)


def list_tokens(session: TokenConversation, request: Request) -> None:
    """Give all tokens, in pages."""
    records = session.services.credentials.listing()

    def pages() -> Iterator[bytes]:
        for page, pages, some in _cut(records):
            data = Tokens(tokens=some, page=page, pages=pages)
            yield framing.reply_frame(events.TOKENS, data, request.id)

    session.reserve().fill(pages())


async def revoke_token(session: TokenConversation, request: Request) -> None:
    """Revoke a token. Who revokes its own is answered before it is closed."""
    token_id = request.data.token_id
    await session.services.credentials.revoke(actor(session), token_id, last=session)
    session.reply(events.OK, events.Ok(), request.id)
    if session.identity.token_id == token_id:
        session.end(CloseCode.REVOKED, "the token was revoked")


async def new_code(session: TokenConversation, request: Request) -> None:
    """Make an enrolment code."""
    made = await session.services.credentials.new_code(actor(session), request.data.name)
    session.reply(events.ENROLLMENT, made, request.id)


async def enroll(session: TokenConversation, request: Request) -> None:
    """Trade a code for a token. A code that is no good is a failed login."""
    services = session.services
    try:
        enrolled = await services.credentials.enroll(actor(session), request.data)
    except ProtocolError as error:
        if error.code is ErrorCode.UNAUTHENTICATED:
            services.refuse_login(session.address, error)
        raise
    session.reply(events.ENROLLED, enrolled, request.id)


async def list_audit(session: TokenConversation, request: Request) -> None:
    """Give the newest entries of the audit, in pages."""
    slot = session.reserve()
    frames: Iterator[bytes] = iter(())
    try:
        entries = await session.services.credentials.audit.newest(request.data.limit)
        frames = (
            framing.reply_frame(events.AUDIT, Audit(entries=some, page=page, pages=pages), request.id)
            for page, pages, some in _cut(entries)
        )
    finally:
        slot.fill(frames)


def actor(session: TokenConversation) -> Actor:
    """Give who a session is, for the audit."""
    return Actor(session.identity, session.address)


def _cut(items: Sequence[Item]) -> Iterator[tuple[int, int, list[Item]]]:
    """Cut a list into pages, at least one: number, number of all, and items of each."""
    counts = list(framing.cut(len(codec.encode_record(item)) + 1 for item in items)) or [0]
    rest = iter(items)
    for page, count in enumerate(counts, 1):
        yield page, len(counts), list(islice(rest, count))
