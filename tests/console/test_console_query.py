"""The filter language."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qubix_tui.console.fleet import Row
from qubix_tui.console.query import NUMBERS, TEXTS, QueryError, parse
from qubix_tui.protocol.records import ProviderState
from tests.console.records import headline, provider

ROW = Row(provider("barn-7", ProviderState.BUSY, location="Lisbon", current_job_id="train-7f"))
ROW.measure(headline("barn-7", gpu_temp=87.0))
SILENT = Row(provider("lab-2"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "barn",
        "BARN",
        "4090",
        "lisbon",
        "busy",
        "temp>80",
        "temp>=87 temp<=87 temp=87",
        "state:busy gpu:4090 price<0.5",
        "vram>=24 gpus=4",
        "-name:lab",
        "-lab barn",
        "job:train",
        "sim:no",
        "use>80.5",
        "-temp<80",
    ],
)
def test_what_holds(text: str) -> None:
    """Words, keys and comparisons find the row they describe."""
    assert parse(text)(ROW)


@pytest.mark.parametrize(
    "text", ["lab", "-barn", "temp>87", "state:paused", "barn temp<80", "price>0.45", "sim:yes", "-temp>80"]
)
def test_what_does_not_hold(text: str) -> None:
    """All terms must hold."""
    assert not parse(text)(ROW)


@pytest.mark.parametrize("text", ["temp>0", "temp<1000", "use=0", "use<1", "cpu>=0"])
def test_unknown_fulfils_no_comparison(text: str) -> None:
    """A provider without a sample is not taken for one at zero."""
    assert not parse(text)(SILENT)


@pytest.mark.parametrize(
    ("text", "start", "end", "says"),
    [
        ("barn heat>80", 5, 12, "no heat"),
        ("temp>hot", 0, 8, "needs a number"),
        ("temp:80", 0, 7, "temp>80"),
        ("name>3", 0, 6, "name:3"),
        ("state:", 0, 6, "needs a word"),
        ("barn -", 5, 6, "needs a word"),
    ],
)
def test_errors_point_at_the_term(text: str, start: int, end: int, says: str) -> None:
    """An error names the term at fault and what would be right."""
    with pytest.raises(QueryError, match=says) as caught:
        parse(text)
    assert (caught.value.start, caught.value.end) == (start, end)


@given(st.text())
def test_any_text_is_a_filter_or_a_clear_error(text: str) -> None:
    """Whatever is typed either filters or raises our error, one sentence within the text."""
    error: QueryError | None = None
    try:
        assert parse(text)(ROW) in {True, False}
    except QueryError as raised:
        error = raised
    if error is not None:
        assert str(error)
        assert 0 <= error.start < error.end <= len(text.lower())


@given(st.sampled_from(sorted(NUMBERS)), st.sampled_from([">", ">=", "<", "<=", "="]), st.integers(0, 200))
def test_a_minus_turns_a_term_round(key: str, operator: str, number: int) -> None:
    """A term and its opposite never agree."""
    term = f"{key}{operator}{number}"
    assert parse(term)(ROW) is not parse(f"-{term}")(ROW)


@given(st.sampled_from(sorted(TEXTS)), st.from_regex(r"[a-z0-9-]+", fullmatch=True))
def test_a_key_looks_only_in_its_own_place(key: str, word: str) -> None:
    """``key:word`` holds exactly where that text has the word."""
    assert parse(f"{key}:{word}")(ROW) is (word in (TEXTS[key](ROW) or "").lower())
