"""Tokens and enrolment codes as text."""

import re

from hypothesis import given
from hypothesis import strategies as st

from qubix_tui.protocol.tokens import Role, hash_token, is_token, new_code, new_token, read_code

LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CODES = st.text(LETTERS, min_size=16, max_size=16)


def test_a_code_has_eighty_bits_in_four_groups() -> None:
    """Sixteen letters of base32, none of which can be taken for another, and no code comes twice."""
    codes = {new_code() for _ in range(200)}
    assert len(codes) == 200
    assert all(re.fullmatch(rf"([{LETTERS}]{{4}}-){{3}}[{LETTERS}]{{4}}", code) for code in codes)
    assert set("".join(codes)) >= set(LETTERS)


@given(CODES, st.data())
def test_a_code_is_read_however_it_is_typed(letters: str, data: st.DataObject) -> None:
    """Case, dashes, spaces, and the letters that look like digits make no difference."""
    wanted = "-".join(letters[start : start + 4] for start in range(0, 16, 4))
    typed = ""
    for letter in letters:
        alike = {"0": "0Oo", "1": "1IiLl"}.get(letter, letter + letter.lower())
        typed += data.draw(st.sampled_from(["", " ", "-", " - "])) + data.draw(st.sampled_from(list(alike)))
    assert read_code(typed) == wanted
    assert read_code(wanted) == wanted


@given(st.text())
def test_no_other_text_is_a_code(text: str) -> None:
    """Whatever is typed: a code in its one form, or None."""
    code = read_code(text)
    assert code is None or (len(code) == 19 and read_code(code) == code)


@given(CODES, st.integers(0, 15))
def test_a_code_that_was_cut_short_or_holds_another_letter_is_none(letters: str, place: int) -> None:
    """U is no letter of the alphabet; fifteen or seventeen letters are none either."""
    assert read_code(letters[:place] + letters[place + 1 :]) is None
    assert read_code(letters[:place] + "U" + letters[place + 1 :]) is None
    assert read_code(letters + "0") is None


@given(st.sampled_from([Role.VIEWER, Role.OPERATOR, Role.PROVIDER]), st.data())
def test_a_token_with_any_letter_changed_is_none(role: Role, data: st.DataObject) -> None:
    """The checksum finds every single wrong letter; what is no token hashes all the same."""
    token = new_token(role)
    assert is_token(token)
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters(codec="utf-8").filter(lambda letter: letter != token[place]))
    damaged = token[:place] + other + token[place + 1 :]
    assert not is_token(damaged)
    assert hash_token(damaged) != hash_token(token)
