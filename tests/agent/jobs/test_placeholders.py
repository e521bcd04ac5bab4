"""A parameter stays in the one argument that its place is in, whatever it holds."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.jobs.placeholders import PlaceholderError, fill, names

TEXTS = st.text(max_size=20)
HOSTILE = st.one_of(
    TEXTS, st.sampled_from(["{other}", "{{", "}", "a b", "; rm -rf /", "$(id)", "`id`", "\n", '"'])
)


def test_a_place_is_filled_where_it_is() -> None:
    """Inside an argument, more than once, beside braces that stand for themselves."""
    assert fill("--x={a}:{b}:{a}", {"a": "1", "b": 2.5}) == "--x=1:2.5:1"
    assert fill("{{{a}}} {{}}", {"a": True}) == "{true} {}"
    assert names("{b}{{c}}{a.b-c_d}{b}") == ["b", "a.b-c_d", "b"]


@pytest.mark.parametrize("text", ["{", "}", "{a", "a}", "{a b}", "{}", "{{a}", "{é}", "{" + "a" * 65 + "}"])
def test_a_stray_brace_is_an_error(text: str) -> None:
    """A brace that is none of a place and not doubled is named, for it is a slip."""
    with pytest.raises(PlaceholderError, match="is no place for a parameter"):
        names(text)


@given(st.lists(st.tuples(TEXTS, HOSTILE), min_size=1, max_size=4), TEXTS)
def test_what_fills_a_place_is_never_read(pieces: list[tuple[str, str]], tail: str) -> None:
    """The result is the owner's text with each value in its place, byte for byte, braces and all."""
    params = {f"p{index}": value for index, (_, value) in enumerate(pieces)}
    template = "".join(f"{_doubled(text)}{{p{index}}}" for index, (text, _) in enumerate(pieces)) + _doubled(
        tail
    )
    assert names(template) == list(params)
    assert fill(template, params) == "".join(text + value for text, value in pieces) + tail


@given(TEXTS)
def test_every_text_is_read_or_refused(text: str) -> None:
    """Whatever an owner writes, it is either refused or has exactly the places that it shows."""
    try:
        found = names(text)
    except PlaceholderError:
        return
    single = re.sub(r"\{\{|\}\}", "", text)
    assert found == re.findall(r"\{([^{}]*)\}", single) or "{{" in text or "}}" in text
    assert fill(_doubled(text), {}) == text


def _doubled(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
