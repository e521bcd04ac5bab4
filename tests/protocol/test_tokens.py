"""Tokens: unlike each other, told from mistyped ones before they are sent, kept as a hash only."""

import hashlib
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qubix_tui.protocol.tokens import Role, hash_token, is_token, new_token

TOKEN = new_token(Role.OPERATOR)
ROLES = [Role.VIEWER, Role.OPERATOR, Role.PROVIDER]


@pytest.mark.parametrize("role", ROLES)
def test_a_new_token_is_one(role: Role) -> None:
    """It has the form, tells its role by a letter, and is never the same twice."""
    made = {new_token(role) for _ in range(50)}
    assert len(made) == 50
    for token in made:
        assert is_token(token)
        assert token.startswith(f"qbx_{role.value[0]}")
        assert len(token) == len("qbx_") + 1 + 64 + 8


def test_roles_have_letters_of_their_own() -> None:
    """The letter tells the role."""
    assert len({role.value[0] for role in ROLES}) == len(ROLES)


@pytest.mark.parametrize("position", range(len(TOKEN)))
def test_any_single_changed_character_is_caught(position: int) -> None:
    """Wherever it is and whatever it became."""
    for character in string.printable + "éО０":
        if character != TOKEN[position]:
            assert not is_token(TOKEN[:position] + character + TOKEN[position + 1 :])


@pytest.mark.parametrize("position", range(len(TOKEN) - 1))
def test_swapped_neighbours_are_caught(position: int) -> None:
    """The other common slip of a typist."""
    first, second = TOKEN[position], TOKEN[position + 1]
    swapped = TOKEN[:position] + second + first + TOKEN[position + 2 :]
    assert is_token(swapped) is (first == second)


@pytest.mark.parametrize("position", range(len(TOKEN)))
def test_cut_and_missing_characters_are_caught(position: int) -> None:
    """A token that was cut short, or lost one character."""
    assert not is_token(TOKEN[:position])
    assert not is_token(TOKEN[:position] + TOKEN[position + 1 :])


def test_what_stands_around_is_no_part_of_it() -> None:
    """Exactly the token: whoever reads a file takes the blanks off."""
    for text in (f"{TOKEN}\n", f" {TOKEN}", f"{TOKEN}0", TOKEN * 2, TOKEN.upper(), "qbx_"):
        assert not is_token(text)


@given(st.text(max_size=100))
def test_any_text_is_looked_at_without_an_error(text: str) -> None:
    """Nothing that a person pastes makes it raise; nor is it taken for a token."""
    assert not is_token(text)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_hash_is_sha_256(text: str) -> None:
    """What a hub keeps is the plain SHA-256 in hex, and says nothing of the token."""
    hashed = hash_token(text)
    assert hashed == hashlib.sha256(text.encode()).hexdigest()
    assert hash_token(TOKEN) != TOKEN
