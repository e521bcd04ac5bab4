"""The enrolment codes that a hub knows: each good once, for a quarter of an hour, for one agent.

Only their hashes are kept. A code is remembered for a day after it is over, so that who comes too late, or
second, is told so; the second may be the one it was meant for.
"""

from collections.abc import Callable, Mapping
from typing import Final

from qubix_tui.hub.access import Identity
from qubix_tui.hub.engine.base import Change
from qubix_tui.protocol import codec, tokens
from qubix_tui.protocol.errors import ErrorCode, ProtocolError
from qubix_tui.protocol.types import Id, Name, Timestamp, Wire

CODES_TABLE: Final = "enrollment_codes"

CODE_SECONDS: Final = 15 * 60.0
"""How long a code can be used."""

KEPT_SECONDS: Final = 24 * 3600.0
"""How long it is remembered after that."""

MAX_CODES: Final = 1_000


class Code(Wire, frozen=True, kw_only=True):
    """What is kept of an enrolment code, under its hash."""

    expires: float
    """Seconds since the epoch: it has to survive a restart."""
    created_by: Id | None
    """Id of the token that made it."""
    creator: Name | None
    """Name of that token, or its id."""
    name: Name | None
    """What the provider is to be called."""
    used_at: Timestamp | None = None


class Codes:
    """All codes of one hub, by their hashes."""

    def __init__(self) -> None:
        self._known: dict[str, Code] = {}

    def load(self, rows: Mapping[str, bytes]) -> None:
        """Take over what was stored before the hub's start.

        Raises:
            ProtocolError: A row is not a stored code.
        """
        self._known = {digest: codec.decode_record(row, Code) for digest, row in rows.items()}

    def make(self, creator: Identity, name: str | None, now: float) -> tuple[str, str, Code]:
        """Make a code; `put` has it known.

        Returns:
            The code, its hash, and what is to be kept.

        Raises:
            ProtocolError: ``conflict``: too many are open.
        """
        if sum(_is_open(code, now) for code in self._known.values()) >= MAX_CODES:
            raise ProtocolError(ErrorCode.CONFLICT, f"{MAX_CODES} codes are open; use some, or wait")
        code = tokens.new_code()
        kept = Code(
            expires=now + CODE_SECONDS,
            created_by=creator.token_id,
            creator=creator.subject or creator.token_id,
            name=name,
        )
        return code, tokens.hash_token(code), kept

    def put(self, digest: str, code: Code) -> None:
        """Know a code as it is now."""
        self._known[digest] = code

    def drop(self, digest: str) -> None:
        """Know a code no longer."""
        self._known.pop(digest, None)

    def is_news(self, text: str) -> bool:
        """Whether a code is whole, and not known: another hub may have made it just now."""
        code = tokens.read_code(text)
        return code is not None and tokens.hash_token(code) not in self._known

    def find(self, text: str, now: float) -> tuple[str, Code]:
        """Give the hash of a code that is good, and what is kept of it.

        Raises:
            ProtocolError: ``unauthenticated``; it is none, not known here, used, or too old.
        """
        code = tokens.read_code(text)
        if code is None:
            raise _refusal("this is not a whole enrollment code (four groups of four letters and digits)")
        digest = tokens.hash_token(code)
        known = self._known.get(digest)
        if known is None:
            raise unknown()
        if known.used_at is not None:
            raise used()
        if now >= known.expires:
            raise _refusal(
                f"this code was good for {CODE_SECONDS / 60:.0f} minutes, which are over; ask for a new one"
            )
        return digest, known

    def open_of(self, token_id: str, now: float) -> list[str]:
        """Give the hashes of the codes that a token made and that are still open."""
        return self._which(lambda code: code.created_by == token_id and _is_open(code, now))

    def old(self, now: float) -> list[str]:
        """Give the hashes of codes to forget: yesterday's; where there are too many all that are over."""
        kept = KEPT_SECONDS if len(self._known) < MAX_CODES else 0.0
        return self._which(lambda code: not _is_open(code, now) and now >= code.expires + kept)

    def _which(self, is_wanted: Callable[[Code], bool]) -> list[str]:
        return [digest for digest, code in self._known.items() if is_wanted(code)]


def code_change(digest: str, code: Code) -> Change:
    """Give what is to be written for a code."""
    return Change(CODES_TABLE, digest, codec.encode_record(code))


def used() -> ProtocolError:
    """Give the refusal of a code that somebody has used."""
    return _refusal(
        "this code was used already; ask for a new one, and have the token revoked that it gave "
        "if it was not you"
    )


def unknown() -> ProtocolError:
    """Give the refusal of a code that nobody made here, or that is void with the token that made it."""
    return _refusal("this hub does not know the code; ask its operator for one (qubix enroll new)")


def _is_open(code: Code, now: float) -> bool:
    return code.used_at is None and now < code.expires


def _refusal(message: str) -> ProtocolError:
    return ProtocolError(ErrorCode.UNAUTHENTICATED, message, field="data.code")
