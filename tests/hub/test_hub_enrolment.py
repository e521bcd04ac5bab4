"""Enrolment codes: good once, in time, and remembered for a while."""

import msgspec
import pytest

from qubix_tui.hub.access import Identity
from qubix_tui.hub.engine.base import Change
from qubix_tui.hub.enrolment import CODE_SECONDS, KEPT_SECONDS, MAX_CODES, Code, Codes, code_change
from qubix_tui.protocol.errors import ErrorCode, ProtocolError
from qubix_tui.protocol.tokens import Role, hash_token, new_code

NOW = 1_800_000_000.0
OPERATOR = Identity(Role.OPERATOR, "ops", "abc123")


def made(codes: Codes, now: float = NOW, creator: Identity = OPERATOR) -> str:
    """A code that the hub knows."""
    text, digest, code = codes.make(creator, "rig", now)
    codes.put(digest, code)
    return text


def use(codes: Codes, digest: str, code: Code) -> Change:
    """Have a code used; gives what is to be written."""
    taken = msgspec.structs.replace(code, used_at="2026-01-31T12:00:00.000Z")
    codes.put(digest, taken)
    return code_change(digest, taken)


def refusal(codes: Codes, text: str, now: float = NOW) -> str:
    """Check that a code is refused, and give the sentence."""
    with pytest.raises(ProtocolError) as caught:
        codes.find(text, now)
    assert (caught.value.code, caught.value.field) == (ErrorCode.UNAUTHENTICATED, "data.code")
    return caught.value.message


def test_a_code_is_found_however_it_is_typed() -> None:
    """And tells who made it, and for what."""
    codes = Codes()
    text = made(codes)
    digest, code = codes.find(text.lower().replace("-", " "), NOW)
    assert digest == hash_token(text)
    assert (code.created_by, code.creator, code.name) == ("abc123", "ops", "rig")


def test_a_code_is_over_after_a_quarter_of_an_hour() -> None:
    """Good up to then, not at that moment; who comes later is told."""
    codes = Codes()
    text = made(codes)
    codes.find(text, NOW + CODE_SECONDS - 0.001)
    assert "15 minutes" in refusal(codes, text, NOW + CODE_SECONDS)


def test_a_used_code_is_called_that() -> None:
    """The one it was meant for may come second, and has to know."""
    codes = Codes()
    text = made(codes)
    digest, code = codes.find(text, NOW)
    taken = use(codes, digest, code)
    assert taken.value is not None
    assert text not in repr(taken)
    assert "used already" in refusal(codes, text)
    assert "used already" in refusal(codes, text, NOW + CODE_SECONDS + 1)
    again = Codes()
    again.load({taken.key: taken.value})
    assert "used already" in refusal(again, text)


def test_what_is_no_code_of_this_hub() -> None:
    """A mistyped one and an unknown one are told apart."""
    codes = Codes()
    made(codes)
    assert "whole" in refusal(codes, "7KQ2-M0XA")
    assert "does not know" in refusal(codes, new_code())


def test_codes_are_forgotten_a_day_after_they_are_over() -> None:
    """Not before; and what is open stays."""
    codes = Codes()
    old = made(codes)
    assert codes.old(NOW + CODE_SECONDS + KEPT_SECONDS - 1) == []
    later = NOW + CODE_SECONDS + KEPT_SECONDS
    fresh = made(codes, later)
    assert codes.old(later) == [hash_token(old)]
    codes.drop(hash_token(old))
    assert "does not know" in refusal(codes, old, later)
    codes.find(fresh, later)


def test_there_are_only_so_many_open_codes() -> None:
    """One more is a conflict; those that are over make room at once."""
    codes = Codes()
    for _ in range(MAX_CODES):
        made(codes)
    with pytest.raises(ProtocolError) as caught:
        codes.make(OPERATOR, None, NOW)
    assert caught.value.code is ErrorCode.CONFLICT
    over = codes.old(NOW + CODE_SECONDS)
    assert len(over) == MAX_CODES
    made(codes, NOW + CODE_SECONDS)


def test_the_open_codes_of_a_token_are_told_apart() -> None:
    """From those of others, and from used ones: they are void once it is revoked."""
    codes = Codes()
    other = Identity(Role.OPERATOR, None, "def456")
    mine, spent, _ = made(codes), made(codes), made(codes, creator=other)
    use(codes, *codes.find(spent, NOW))
    assert codes.open_of("abc123", NOW) == [hash_token(mine)]
