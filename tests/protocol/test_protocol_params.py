"""A job's parameters against what a workload declares, and the words that reasons begin with."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qubix_tui.protocol.errors import ErrorCode, ProtocolError
from qubix_tui.protocol.params import MAX_PARAM_BYTES, check_params, param_text
from qubix_tui.protocol.reasons import JobReason, reason_word, with_detail
from qubix_tui.protocol.records import Workload, WorkloadParam

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def declared(**param: Any) -> Workload:
    """Declare a workload with the one parameter ``x``."""
    return Workload(name="train", params=[WorkloadParam(name="x", **param)])


def refusal(workload: Workload, params: dict[str, Any], **options: bool) -> ProtocolError:
    """Give what `check_params` raises."""
    with pytest.raises(ProtocolError) as caught:
        check_params(workload, params, **options)
    assert caught.value.code is ErrorCode.INVALID
    return caught.value


def decided(
    workload: Workload, params: dict[str, Any], foreign: bool
) -> tuple[ProtocolError | None, dict[str, Any]]:
    """Give what `check_params` raises, or gives."""
    try:
        return None, check_params(workload, params, foreign_patterns=foreign)
    except ProtocolError as error:
        return error, {}


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ({"type": "string"}, "resnet50"),
        ({"type": "string"}, ""),
        ({"type": "string"}, "x" * MAX_PARAM_BYTES),
        ({"type": "string", "pattern": "[a-z]+"}, "abc"),
        ({"type": "string", "pattern": "-?[0-9]+"}, "-5"),
        ({"type": "string", "pattern": r"^\-[a-z]"}, "-v"),
        ({"type": "string", "choices": ["-v", "-q"]}, "-v"),
        ({"type": "integer"}, 5),
        ({"type": "integer", "min": -5}, -5),
        ({"type": "integer", "choices": [-1, 1]}, -1),
        ({"type": "number", "min": 0, "max": 1}, 0.5),
        ({"type": "number"}, 3),
        ({"type": "boolean"}, False),
    ],
)
def test_what_is_declared_is_taken_as_it_is(param: dict[str, Any], value: object) -> None:
    """A value of the type, within its bounds, comes back unchanged."""
    checked = check_params(declared(**param), {"x": value})
    assert checked == {"x": value}
    assert type(checked["x"]) is type(value)


@pytest.mark.parametrize(
    ("param", "value", "words"),
    [
        ({"type": "string"}, None, "the parameter x is missing: give a text"),
        ({"type": "string"}, 5, "x: expected a text, not 5"),
        ({"type": "string"}, ["a"], "x: expected a text, not a list or an object"),
        ({"type": "string"}, "a\0b", "can't hold the character NUL"),
        ({"type": "string"}, "\ud800", "half of a surrogate pair"),
        ({"type": "string"}, "é" * (MAX_PARAM_BYTES // 2 + 1), "at most 4096 bytes"),
        ({"type": "string"}, "-rf", "can't begin with “-”"),
        ({"type": "string", "pattern": "[a-z-]+"}, "-rf", "can't begin with “-”"),
        ({"type": "string", "pattern": "[a-z]+"}, "abc\n", "“abc�” does not match the pattern [a-z]+"),
        ({"type": "string", "pattern": "[a-z]+"}, "abc def", "does not match"),
        ({"type": "string", "pattern": "("}, "abc", "no regular expression"),
        ({"type": "string", "choices": ["a", "b"]}, "c", "expected one of “a”, “b”, not “c”"),
        ({"type": "integer"}, 5.0, "expected a whole number, not 5.0"),
        ({"type": "integer"}, True, "expected a whole number, not true"),
        ({"type": "integer"}, 2**53 + 1, "expected a whole number"),
        ({"type": "integer", "choices": [1, 2]}, True, "expected a whole number"),
        ({"type": "boolean", "choices": [True]}, 1, "expected true or false, not 1"),
        ({"type": "integer", "min": 1000000}, 5, "expected at least 1000000, not 5"),
        ({"type": "integer"}, -5, "a negative number is taken only where the declaration has a min"),
        ({"type": "number", "max": 0.25}, 0.5, "expected at most 0.25, not 0.5"),
        ({"type": "number"}, float("nan"), "expected a number, not nan"),
        ({"type": "number"}, float("inf"), "expected a number, not inf"),
    ],
)
def test_what_is_not_declared_is_refused_in_a_sentence(
    param: dict[str, Any], value: object, words: str
) -> None:
    """The refusal names the parameter, what was expected, and what came, with nothing a terminal obeys."""
    error = refusal(declared(**param), {"x": value})
    assert words in error.message
    assert error.message.isprintable()
    assert error.field == "data.params.x"


def test_a_parameter_that_is_not_declared_is_refused() -> None:
    """A misspelled name is not passed over in silence; those that there are, are named."""
    assert "has no parameter y; it has x" in refusal(declared(type="string"), {"x": "a", "y": "b"}).message
    assert "it has none" in refusal(Workload(name="train"), {"y": "b"}).message


def test_defaults_stand_in_and_are_checked_alike() -> None:
    """Each declared parameter has a value, in the order of the declaration; an owner's slip is found, too."""
    workload = Workload(
        name="train",
        params=[
            WorkloadParam(name="epochs", type="integer", default=3),
            WorkloadParam(name="model", type="string"),
        ],
    )
    assert list(check_params(workload, {"model": "a"}).items()) == [("epochs", 3), ("model", "a")]
    refusal(declared(type="integer", default="three"), {})


def test_values_as_text() -> None:
    """What an argument gets: booleans in lower case, numbers as they were written."""
    assert [param_text(value) for value in (True, False, 5, 0.5, "a b")] == [
        "true",
        "false",
        "5",
        "0.5",
        "a b",
    ]


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|aa)*b", "a*a*a*a*a*b", "a{1,99}a{1,99}a{1,99}b"])
def test_a_foreign_pattern_can_not_hold_up_the_hub(pattern: str) -> None:
    """A pattern that might take hours is passed over by who did not write it; all else is still checked."""
    workload = declared(type="string", pattern=pattern)
    began = time.process_time()
    assert check_params(workload, {"x": "a" * MAX_PARAM_BYTES}, foreign_patterns=True)
    assert time.process_time() - began < 5
    refusal(workload, {"x": 5}, foreign_patterns=True)
    refusal(workload, {"x": "-a"}, foreign_patterns=True)
    refusal(declared(type="string", pattern="[a-z]+-[0-9]+"), {"x": "a-b"}, foreign_patterns=True)


@given(
    st.sampled_from(["string", "integer", "number", "boolean"]),
    JSON_VALUES,
    st.none() | st.text(max_size=8),
    st.none() | st.lists(JSON_VALUES, max_size=3),
    st.booleans(),
)
def test_any_declaration_and_any_value_are_decided(
    kind: Any, value: object, pattern: str | None, choices: list[Any] | None, foreign: bool
) -> None:
    """Whatever is declared and given: a checked value that fits into an argument, or a refusal."""
    workload = declared(type=kind, pattern=pattern, choices=choices, default="d")
    error, checked = decided(workload, {"x": value}, foreign)
    if error is not None:
        assert error.code is ErrorCode.INVALID
        assert error.message.isprintable()
        return
    text = param_text(checked["x"])
    assert "\0" not in text
    assert len(text.encode()) <= MAX_PARAM_BYTES
    if text.startswith("-"):
        assert choices or (pattern or "").lstrip("^\\").startswith("-")


def test_reasons_begin_with_a_word_of_the_list() -> None:
    """The word is found with and without more behind it; other words are no reason of ours."""
    for word in JobReason:
        assert reason_word(word.value) is word
        assert reason_word(with_detail(word, "more: of it")) is word
    assert with_detail(JobReason.EXIT_CODE, "3") == "exit_code: 3"
    assert len(with_detail(JobReason.REFUSED, "x" * 1024)) == 1024
    assert reason_word(None) is None
    assert reason_word("exit code") is None


def test_what_another_attempt_can_not_mend_is_not_tried_again() -> None:
    """Its own time limit, a wish to end it, and a machine that can't end it are final."""
    final = {reason for reason in JobReason if not reason.allows_retry}
    assert final == {JobReason.TIMEOUT, JobReason.CANCELLED_BY, JobReason.UNKILLABLE}
