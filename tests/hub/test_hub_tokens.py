"""The tokens that a hub knows: what is stored of them, and what a stored one is worth after a restart."""

import pytest

from qubix_tui.hub.engine.base import Change
from qubix_tui.hub.tokens import (
    BINDINGS_TABLE,
    TOKENS_TABLE,
    KnownToken,
    Tokens,
    token_change,
    token_id_of,
)
from qubix_tui.protocol.errors import ErrorCode, ProtocolError
from qubix_tui.protocol.tokens import Role, hash_token, new_token

NOW = "2026-01-31T12:00:00.000Z"


def known(role: Role = Role.PROVIDER, **members: object) -> tuple[Tokens, str, str]:
    """Tokens with one that was issued: they, it, and its id."""
    tokens, token = Tokens(), new_token(role)
    return tokens, token, tokens.add(hash_token(token), KnownToken(role=role, name="lab", **members))  # type: ignore[arg-type]


def claimed(tokens: Tokens, token_id: str, provider_id: str, worker_id: str) -> list[Change]:
    """What is to be written when a token registers a provider."""
    with tokens.claim(token_id, provider_id, worker_id) as changes:
        return changes


def rows(*changes: Change) -> dict[str, bytes]:
    """What a store holds after some changes."""
    assert all(change.table == TOKENS_TABLE for change in changes)
    return {change.key: change.value for change in changes if change.value is not None}


def refusal(code: ErrorCode, tokens: Tokens, token: str) -> str:
    """Check that a token is refused, and give the sentence."""
    with pytest.raises(ProtocolError) as caught:
        tokens.find(token)
    assert caught.value.code is code
    return caught.value.message


def test_a_stored_token_is_the_same_after_a_restart() -> None:
    """Role, name, who made it, when, and its binding come back; the token itself is nowhere in the store."""
    tokens, token, token_id = known(created_at=NOW, created_by="ops")
    tokens.bind(token_id, "rig-1", "w1")
    stored = rows(tokens.change(token_id))
    assert token not in repr(stored)
    again = Tokens()
    assert again.load(stored) == []
    assert again.find(token) == (token_id, tokens.get(token_id))
    assert again.owner("rig-1") == token_id
    assert list(again.bindings()) == [("rig-1", "w1")]


def test_a_revoked_token_stays_revoked() -> None:
    """It is refused with a sentence that says so, after a restart too, and its provider is free."""
    tokens, token, token_id = known()
    tokens.bind(token_id, "rig-1", "w1")
    stored = rows(tokens.revoke(token_id, NOW))
    for some in (tokens, Tokens()):
        if some is not tokens:
            some.load(stored)
        assert "revoked" in refusal(ErrorCode.UNAUTHENTICATED, some, token)
        assert some.owner("rig-1") is None
        with pytest.raises(ProtocolError, match="revoked"):
            claimed(some, token_id, "rig-1", "w1")


def test_revoking_again_keeps_the_first_time() -> None:
    """When it happened is when it first happened."""
    tokens, _, token_id = known()
    tokens.revoke(token_id, NOW)
    tokens.revoke(token_id, "2027-01-01T00:00:00.000Z")
    found = tokens.get(token_id)
    assert found is not None
    assert found.revoked_at == NOW


def test_a_binding_is_stored_once() -> None:
    """With it go marks that two hubs can't both write; a provider that comes back writes nothing."""
    tokens, token, token_id = known()
    first, *marks = claimed(tokens, token_id, "rig-1", "w1")
    assert first == token_change(
        hash_token(token), KnownToken(role=Role.PROVIDER, name="lab", binding=("rig-1", "w1"))
    )
    assert [(mark.table, mark.key, mark.value, mark.blind) for mark in marks] == [
        (BINDINGS_TABLE, "provider:rig-1", None, False),
        (BINDINGS_TABLE, "worker:w1", None, False),
    ]
    tokens.bind(token_id, "rig-1", "w1")
    assert claimed(tokens, token_id, "rig-1", "w1") == []


def test_what_was_not_stored_binds_nothing() -> None:
    """The token may register another provider, and the provider be registered with another token."""
    tokens, _, first = known()
    second = tokens.add(hash_token(new_token(Role.PROVIDER)), KnownToken(role=Role.PROVIDER))
    claimed(tokens, first, "rig-1", "w1")
    assert tokens.owner("rig-1") is None
    assert claimed(tokens, second, "rig-1", "w1")
    assert claimed(tokens, first, "rig-2", "w2")


def test_while_it_is_stored_a_binding_is_nobody_elses() -> None:
    """Neither another token's, nor that of another provider with the same token."""
    tokens, _, first = known()
    second = tokens.add(hash_token(new_token(Role.PROVIDER)), KnownToken(role=Role.PROVIDER))
    with tokens.claim(first, "rig-1", "w1"):
        with pytest.raises(ProtocolError, match=first):
            claimed(tokens, second, "rig-1", "w1")
        with pytest.raises(ProtocolError, match="another provider"):
            claimed(tokens, first, "rig-2", "w2")


def test_a_binding_that_is_known_again_replaces_the_first() -> None:
    """What another hub has stored counts: the provider from before is free."""
    tokens, token, token_id = known()
    tokens.bind(token_id, "rig-1", "w1")
    tokens.add(hash_token(token), KnownToken(role=Role.PROVIDER, binding=("rig-2", "w2")))
    assert (tokens.owner("rig-1"), tokens.owner("rig-2")) == (None, token_id)


def test_a_revocation_is_never_taken_back() -> None:
    """Also where the store does not know of it yet, and another hub has written the token meanwhile."""
    tokens, token, token_id = known()
    tokens.revoke(token_id, NOW)
    tokens.add(hash_token(token), KnownToken(role=Role.PROVIDER, binding=("rig-1", "w1")))
    assert "revoked" in refusal(ErrorCode.UNAUTHENTICATED, tokens, token)
    assert tokens.owner("rig-1") is None


def test_a_local_token_keeps_its_binding_while_its_file_is_there() -> None:
    """What was stored of it counts when the same file is read again."""
    token = new_token(Role.PROVIDER)
    tokens, again = Tokens(), Tokens()
    token_id = tokens.add_local(token, Role.PROVIDER, "local-provider")
    tokens.bind(token_id, "rig-1", "w1")
    again.add_local(token, Role.PROVIDER, "local-provider")
    assert again.load(rows(tokens.change(token_id))) == []
    assert again.owner("rig-1") == token_id
    again.add_local(token, Role.PROVIDER, "local-provider")
    assert again.owner("rig-1") == token_id


def test_a_local_token_whose_file_is_gone_is_nothing() -> None:
    """It is not known, owns no provider, and what was stored of it is deleted."""
    token = new_token(Role.PROVIDER)
    tokens, again = Tokens(), Tokens()
    token_id = tokens.add_local(token, Role.PROVIDER, "local-provider")
    tokens.bind(token_id, "rig-1", "w1")
    void = again.load(rows(tokens.change(token_id)))
    assert void == [Change(TOKENS_TABLE, hash_token(token), None)]
    assert "does not know" in refusal(ErrorCode.UNAUTHENTICATED, again, token)
    assert again.owner("rig-1") is None


def test_a_local_token_of_another_machine_opens_nothing() -> None:
    """It is refused here, and its provider is not free."""
    token = new_token(Role.PROVIDER)
    there, here = Tokens(), Tokens()
    token_id = there.add_local(token, Role.PROVIDER, "local-provider")
    there.bind(token_id, "rig-1", "w1")
    assert here.load(rows(there.change(token_id)), shared=True) == []
    assert "does not know" in refusal(ErrorCode.UNAUTHENTICATED, here, token)
    assert here.owner("rig-1") == token_id
    assert not here.is_here(token_id)


def test_a_local_token_whose_row_is_gone_is_free_again() -> None:
    """Its file is still there: it may register a provider, and any."""
    tokens, token = Tokens(), new_token(Role.PROVIDER)
    token_id = tokens.add_local(token, Role.PROVIDER, "local-provider")
    tokens.bind(token_id, "rig-1", "w1")
    tokens.forget(token_id)
    assert tokens.owner("rig-1") is None
    assert tokens.find(token)[0] == token_id
    assert claimed(tokens, token_id, "rig-2", "w2")


def test_a_revoked_token_is_not_good_again_for_lying_in_a_file() -> None:
    """An issued token that somebody put where the local one is stays what it was: revoked."""
    tokens, token, token_id = known()
    stored = rows(tokens.revoke(token_id, NOW))
    again = Tokens()
    again.add_local(token, Role.PROVIDER, "local-provider")
    again.load(stored)
    assert "revoked" in refusal(ErrorCode.UNAUTHENTICATED, again, token)


def test_a_forgotten_token_leaves_nothing() -> None:
    """Neither itself nor its hold on a provider; forgetting it again is no error."""
    tokens, token, token_id = known()
    tokens.bind(token_id, "rig-1", "w1")
    assert tokens.removal(token_id) == Change(TOKENS_TABLE, hash_token(token), None)
    for _ in range(2):
        tokens.forget(token_id)
    assert len(tokens) == 0
    assert tokens.owner("rig-1") is None
    refusal(ErrorCode.UNAUTHENTICATED, tokens, token)
    tokens.bind(token_id, "rig-1", "w1")
    assert tokens.owner("rig-1") is None


def test_a_refused_binding_names_the_other_token() -> None:
    """An operator can see which one to revoke."""
    tokens, _, first = known()
    second = tokens.add(hash_token(new_token(Role.PROVIDER)), KnownToken(role=Role.PROVIDER))
    tokens.bind(first, "rig-1", "w1")
    with pytest.raises(ProtocolError, match=first):
        claimed(tokens, second, "rig-1", "w1")


def test_a_damaged_row_is_refused_whole() -> None:
    """A store that holds something else is not guessed at."""
    with pytest.raises(ProtocolError):
        Tokens().load({"0" * 64: b'{"role": "emperor"}'})


def test_an_id_is_the_beginning_of_the_hash() -> None:
    """Twelve hexadecimal digits."""
    _, token, token_id = known()
    assert token_id == token_id_of(hash_token(token)) == hash_token(token)[:12]
