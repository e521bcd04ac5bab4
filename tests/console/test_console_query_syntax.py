"""The query language as text: what it reads, what it says is wrong and where, and the way back."""

import string
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qubix_tui.console.query_eval import FIELDS
from qubix_tui.console.query_syntax import (
    EVERYTHING,
    MOST_NESTED,
    Compare,
    Either,
    Every,
    Known,
    Match,
    Node,
    Not,
    QueryError,
    Word,
    parse,
    to_text,
)

SIGNS = ["(", ")", "-", '"', "\\", ":", ">", ">=", "<", "<=", "=", "*", " ", "  ", "\t", "\u2003"]
WORDS = ["not", "and", "or", "temp", "state", "name", "heat", "busy", "é", "İ"]
NUMBERS = ["85", "0.5", ".5", "1e3", "-3", "24G", "85°C"]


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("", EVERYTHING),
        ("  ", EVERYTHING),
        ("Barn", Word("barn")),
        ("temp>85", Compare("temp", ">", 85)),
        ("TEMP>=85.5°C", Compare("temp", ">=", 85.5)),
        ("vram>=24G", Compare("vram", ">=", 24)),
        ("use<5%", Compare("use", "<", 5)),
        ("price<.5", Compare("price", "<", 0.5)),
        ("state:busy", Match("state", "busy")),
        ("job:*", Known("job")),
        ('job:"*"', Match("job", "*")),
        ("-name:lab", Not(Match("name", "lab"))),
        ("not name:lab", Not(Match("name", "lab"))),
        ("- lab", Not(Word("lab"))),
        ("rig-41", Word("rig-41")),
        ('"or"', Word("or")),
        ('location:"New York"', Match("location", "new york")),
        (r'"a \"b\" \\"', Word(r'a "b" \ '.strip())),
        ("a b", Every((Word("a"), Word("b")))),
        ("a and b", Every((Word("a"), Word("b")))),
        ("a b or c", Either((Every((Word("a"), Word("b"))), Word("c")))),
        ("a (b or c)", Every((Word("a"), Either((Word("b"), Word("c")))))),
        ("-(a b)", Not(Every((Word("a"), Word("b"))))),
        ("not not a", Not(Not(Word("a")))),
        ("((a))", Word("a")),
        (
            "temp>85 state:busy gpu:4090 price<0.5 vram>=24 -name:lab",
            Every(
                (
                    Compare("temp", ">", 85),
                    Match("state", "busy"),
                    Match("gpu", "4090"),
                    Compare("price", "<", 0.5),
                    Compare("vram", ">=", 24),
                    Not(Match("name", "lab")),
                )
            ),
        ),
    ],
)
def test_what_is_read(text: str, node: Node) -> None:
    """Each construct gives its tree; ``and`` binds tighter than ``or``; case does not matter."""
    assert parse(text, FIELDS) == node


@pytest.mark.parametrize(
    ("text", "fault", "words"),
    [
        ("a heat>1", "heat", "no field heat"),
        ("tmp>1", "tmp", "did you mean temp?"),
        ("temp>hot", "temp>hot", "needs a number (°C)"),
        ("temp>", "temp>", "needs a number"),
        ("temp>1e999", "temp>1e999", "needs a number"),
        ("temp:85", "temp:85", "temp is a number: temp>85"),
        ("name>7", "name>7", "name is a text: name:7"),
        ("name:", "name:", "needs a text, or *"),
        ("state:bsy", "state:bsy", "there are available, busy"),
        ("a or", "or", "or needs a term behind it"),
        ("or a", "or", 'as a word: "or"'),
        ("a and or b", "or", "or needs a term before it"),
        ("(a", "(", "not closed"),
        ("(a b", "(", "not closed"),
        ("a (", "(", "( needs a term behind it"),
        ("a)", ")", "nothing was opened"),
        (")", ")", "nothing was opened"),
        ("()", "()", "nothing in these parentheses"),
        ("a -", "-", "- needs a term behind it"),
        ("not", "not", "not needs a term behind it"),
        ('a "b c', '"b c', "no end"),
        ('""', '""', "no text in these quotes"),
    ],
)
def test_what_is_wrong_is_pointed_at(text: str, fault: str, words: str) -> None:
    """The error names what was expected, and its place is exactly the part at fault."""
    with pytest.raises(QueryError) as caught:
        parse(text, FIELDS)
    assert words in str(caught.value)
    assert text[caught.value.start : caught.value.end] == fault


def test_there_is_an_end_to_nesting() -> None:
    """As deep as a person nests is read; a depth that would exhaust the stack is refused with a sentence."""
    assert parse("(" * (MOST_NESTED - 1) + "a" + ")" * (MOST_NESTED - 1), FIELDS) == Word("a")
    for text in ("(" * 100_000, "-" * 100_000 + "a", "not " * 100_000 + "a"):
        with pytest.raises(QueryError, match="in each other"):
            parse(text, FIELDS)


@given(st.one_of(st.text(), st.lists(st.sampled_from(SIGNS + WORDS + NUMBERS)).map("".join)))
@example("a\x00b")
def test_nothing_but_its_own_error(text: str) -> None:
    """Whatever is typed gives a tree, or an error whose place lies in the text."""
    with suppress(QueryError):
        parse(text, FIELDS)
        return
    with pytest.raises(QueryError) as caught:
        parse(text, FIELDS)
    assert 0 <= caught.value.start < caught.value.end <= len(text)
    assert str(caught.value)


TEXT_FIELDS = [name for name, kind in FIELDS.items() if not kind.is_number and not kind.values]
NUMBER_FIELDS = [name for name, kind in FIELDS.items() if kind.is_number]
texts = st.text(st.one_of(st.sampled_from(string.printable), st.characters()), min_size=1).map(str.lower)
leaves = st.one_of(
    st.builds(Word, texts),
    st.builds(Match, st.sampled_from(TEXT_FIELDS), texts),
    st.builds(Known, st.sampled_from(list(FIELDS))),
    st.builds(
        Compare,
        st.sampled_from(NUMBER_FIELDS),
        st.sampled_from([">", ">=", "<", "<=", "="]),
        st.floats(allow_nan=False, allow_infinity=False),
    ),
)


def _branches(children: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    several = st.lists(children, min_size=2, max_size=4).map(tuple)
    return st.one_of(st.builds(Not, children), st.builds(Every, several), st.builds(Either, several))


trees = st.recursive(leaves, _branches, max_leaves=12)


@given(trees)
def test_what_is_written_is_read_the_same(node: Node) -> None:
    """Written as text and read again, every tree is what it was; written once more, the text is too."""
    text = to_text(node)
    assert parse(text, FIELDS) == node
    assert to_text(parse(text, FIELDS)) == text
