"""The filter of the list of events."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qubix_tui.console.event_log import Entry, Kind
from qubix_tui.console.event_query import KEYS, EventQueryError, parse, parse_what_is_right

ENTRY = Entry(
    1, 0.0, Kind.JOB, "job train-7f failed on rig-41: exit code 1", "hot", "rig-41-3f", "train-7f", "rig-41"
)

WORDS = st.text(st.characters(exclude_categories=["Z", "C"], exclude_characters="-:"), min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("query", "fits"),
    [
        ("failed", True),
        ("FAILED exit", True),
        ("failed render", False),
        ("kind:job", True),
        ("kind:alert", False),
        ("provider:rig-41", True),
        ("provider:3f", True),
        ("provider:barn", False),
        ("job:train", True),
        ("-job:train", False),
        ("-render", True),
        ("-failed", False),
    ],
)
def test_terms(query: str, fits: bool) -> None:
    """Words look in the text, keys in their own; a minus turns a term round; all must hold."""
    chosen = parse(query)
    assert chosen is not None
    assert chosen(ENTRY) is fits


def test_nothing_chooses_everything() -> None:
    """An empty filter is none."""
    assert parse("  ") is None


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("kind:", "kind: needs a word"),
        ("kind:nothing", "no kind nothing: there are state, provider, job, alert, hub"),
        ("heat:1", "no heat: there are kind, provider, job"),
        ("-", "- needs a word to leave out"),
    ],
)
def test_what_is_wrong_is_said(query: str, says: str) -> None:
    """A term that can't be understood is answered with what there is."""
    with pytest.raises(EventQueryError, match=says):
        parse(query)


@given(st.text(max_size=40))
def test_any_text_is_a_filter_or_is_refused_in_words(text: str) -> None:
    """Whatever is typed, there is a filter, none, or a refusal; nothing else is raised."""
    try:
        chosen = parse(text)
    except EventQueryError:
        return
    assert chosen is None or chosen(ENTRY) in {True, False}


@given(st.lists(WORDS, min_size=1, max_size=4), st.sampled_from(["", *KEYS]))
def test_more_terms_never_show_more(words: list[str], key: str) -> None:
    """Each further term leaves at most what was left; with a minus it leaves the rest."""
    for count in range(1, len(words)):
        shorter, longer = parse(" ".join(words[:count])), parse(" ".join(words[: count + 1]))
        assert shorter is not None
        assert longer is not None
        assert not longer(ENTRY) or shorter(ENTRY)
    term = f"{key}:{words[0]}" if key and key != "kind" else words[0]
    plain, turned = parse(term), parse(f"-{term}")
    assert plain is not None
    assert turned is not None
    assert plain(ENTRY) is not turned(ENTRY)


def test_what_is_right_of_a_filter_holds() -> None:
    """While one types, terms that can't be understood are passed over; the first of them is spoken of."""
    chosen, fault = parse_what_is_right("failed heat:1 kind: -render")
    assert chosen is not None
    assert chosen(ENTRY)
    assert str(fault) == "no heat: there are kind, provider, job"
    assert parse_what_is_right("") == (None, None)
