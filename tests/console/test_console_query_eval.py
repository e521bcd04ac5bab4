"""What a query asks of the fleet's rows, held against a plain model of it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qubix_tui.console.fleet import Row
from qubix_tui.console.query_complete import proposals
from qubix_tui.console.query_eval import FIELDS, NUMBERS, TEXTS, WORD_FIELDS, compiled, read, values_of
from qubix_tui.console.query_syntax import Compare, Either, Every, Known, Match, Node, Not, Word, parse
from qubix_tui.protocol.records import ProviderState
from tests.console.records import headline, provider
from tests.console.test_console_query_syntax import trees


def rows() -> list[Row]:
    """A hot one at work, a simulated one at rest, one that is gone, and one of which little is known."""
    hot = Row(provider("rig-41", ProviderState.BUSY, current_job_id="train-7f", location="New York"))
    hot.measure(headline("rig-41", gpu_temp=91.0, power_w=1620.0, gpu_mem_used_mb=81920, throttle=["power"]))
    calm = Row(provider("lab-2", gpu_model="NVIDIA A100", price_per_hour=1.1, simulated=True))
    calm.measure(headline("lab-2", gpu_percent=0.0, gpu_temp=38.0, gpus_lost=0))
    gone = Row(provider("barn-7", ProviderState.OFFLINE, gpu_mem_total_mb=24576, location="Lisbon"))
    bare = Row(provider("x", gpu_model=None, gpu_count=None, gpu_mem_total_mb=None, price_per_hour=None))
    return [hot, calm, gone, bare]


def names(text: str) -> list[str]:
    """The rows that a query leaves."""
    holds = compiled(parse(text, FIELDS))
    return [row.name for row in rows() if holds(row)]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("", ["rig-41", "lab-2", "barn-7", "x"]),
        ("4090", ["rig-41", "barn-7"]),
        ("lab", ["lab-2"]),
        ("york", ["rig-41"]),
        ("offline", ["barn-7"]),
        ("temp>85", ["rig-41"]),
        ("temp<=38", ["lab-2"]),
        ("use=0", ["lab-2"]),
        ("-temp>85", ["lab-2", "barn-7", "x"]),
        ("-temp>85 temp:*", ["lab-2"]),
        ("state:busy", ["rig-41"]),
        ("trouble:*", ["rig-41", "barn-7"]),
        ("trouble:hot", ["rig-41"]),
        ("job:*", ["rig-41"]),
        ("-job:*", ["lab-2", "barn-7", "x"]),
        ("sim:yes", ["lab-2"]),
        ("vram>=24 vram<25", ["barn-7"]),
        ("used>79G", ["rig-41"]),
        ("lost<1", ["lab-2"]),
        ("price<0.5", ["rig-41", "barn-7"]),
        ("state:busy or state:offline", ["rig-41", "barn-7"]),
        ("4090 -(state:busy or state:offline)", []),
        ('location:"new york" or name:x', ["rig-41", "x"]),
    ],
)
def test_what_is_left(text: str, left: list[str]) -> None:
    """Each query leaves exactly these; what is not known fulfils no comparison, in either direction."""
    assert names(text) == left


def model(node: Node, row: Row) -> bool:
    """Say whether a row is shown, as plainly as it can be said."""
    match node:
        case Word(text):
            found = any(text in str(TEXTS[name][1](row) or "").lower() for name in WORD_FIELDS)
            return found or row.record.state.value.startswith(text)
        case Match(field, text):
            value = TEXTS[field][1](row)
            return value is not None and text in value.lower()
        case Known(field):
            return ({**TEXTS, **NUMBERS}[field][1])(row) is not None
        case Compare(field, operator, number):
            known = NUMBERS[field][1](row)
            return (
                known is not None
                and {
                    ">": known > number,
                    ">=": known >= number,
                    "<": known < number,
                    "<=": known <= number,
                    "=": known == number,
                }[operator]
            )
        case Not(term):
            return not model(term, row)
        case Every(terms):
            return not [term for term in terms if not model(term, row)]
        case Either(terms):
            return bool([term for term in terms if model(term, row)])


numbers = st.one_of(st.none(), st.integers(0, 100).map(float))
made_rows = st.builds(
    lambda state, record, sample: _row(state, record, sample),
    st.sampled_from(list(ProviderState)),
    st.fixed_dictionaries(
        {
            "gpu_model": st.sampled_from([None, "NVIDIA A100", "NVIDIA GeForce RTX 4090"]),
            "gpu_count": st.sampled_from([None, 0, 1, 8]),
            "price_per_hour": numbers,
            "current_job_id": st.sampled_from([None, "train-7f"]),
            "simulated": st.booleans(),
        }
    ),
    st.one_of(
        st.none(),
        st.fixed_dictionaries({"gpu_percent": numbers, "gpu_temp": numbers, "power_w": numbers}),
    ),
)


def _row(state: ProviderState, record: dict[str, Any], sample: dict[str, Any] | None) -> Row:
    row = Row(provider("rig-41", state, **record))
    if sample is not None:
        row.measure(headline("rig-41", **sample))
    return row


@given(trees, made_rows)
def test_it_is_what_the_model_says(node: Node, row: Row) -> None:
    """What a query is compiled to decides as the plain model does, for any tree and any row."""
    assert compiled(node)(row) == model(node, row)


def test_what_is_right_holds_while_the_rest_is_typed() -> None:
    """A term at fault is left out and spoken of; the others filter already."""
    for text in ("temp>85 heat>", "temp>85 or", "(temp>85", 'temp>85 "', "temp>85 and (", "temp>85 -"):
        reading = read(text)
        assert reading.error is not None, text
        assert reading.predicate is not None, text
        assert [row.name for row in rows() if reading.predicate(row)] == ["rig-41"], text
    assert read("heat>1").predicate is None


@given(st.text(alphabet='abt>:"()- ortemp85', max_size=30))
def test_reading_always_ends(text: str) -> None:
    """Whatever is typed, there is something to show."""
    reading = read(text)
    for row in rows():
        assert reading.predicate is None or reading.predicate(row) in {True, False}


@pytest.mark.parametrize(
    ("text", "proposed"),
    [
        ("", []),
        ("te", ["temp>"]),
        ("temp>85 st", ["state:"]),
        ("(lo", ["location:", "lost>"]),
        ("-na", ["name:"]),
        ("state:", ["available", "busy", "paused", "unreachable", "offline"]),
        ("state:un", ["unreachable"]),
        ("location:new", ['"new york"']),
        ("gpu:4090", ['"nvidia geforce rtx 4090"']),
        ("temp>", []),
        ("temp:", []),
        ("nothing:", []),
        ("rig-4", []),
    ],
)
def test_what_could_come_next(text: str, proposed: list[str]) -> None:
    """At the end of what is typed the fields that begin so are proposed, or what a field can be."""
    found = proposals(text, len(text), FIELDS, lambda field: values_of(rows(), field))
    assert [proposal.text for proposal in found] == proposed


def test_a_proposal_replaces_what_was_begun() -> None:
    """What is proposed stands in the place of the letters before the cursor, not of those behind it."""
    first = proposals("a te lab", 4, FIELDS, lambda _: [])[0]
    assert (first.text, first.start) == ("temp>", 2)
