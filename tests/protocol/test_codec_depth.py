"""The depth of a message is told from its bytes, before anything recurses into it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qubix_tui.protocol.checks import depth_exceeds

awkward = st.text(alphabet='[]{}"\\a,:\n', max_size=8)
documents = st.recursive(
    awkward,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(awkward, inner, max_size=3),
    max_leaves=12,
)


def depth(value: Any) -> int:
    """How deep arrays and objects nest."""
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(documents, st.booleans())
def test_depth_is_exact_for_any_document(document: Any, ascii_only: bool) -> None:
    """Brackets, quotes and backslashes inside strings count for nothing; those outside count exactly."""
    raw = json.dumps(document, ensure_ascii=ascii_only).encode()
    actual = depth(document)
    assert not depth_exceeds(raw, actual)
    if actual:
        assert depth_exceeds(raw, actual - 1)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
def test_depth_of_every_kind_of_nest(opening: bytes) -> None:
    """Arrays, objects and both in turn count alike, closed or cut off."""
    levels = opening.count(b"[") + opening.count(b"{")
    closing = b"".join({b"[": b"]", b"{": b"}"}[bytes([byte])] for byte in reversed(opening) if byte in b"[{")
    for times in (31, 32, 33):
        nested = opening * times + b"0" + closing * times
        assert depth_exceeds(nested, 32) is (times * levels > 32)
    assert depth_exceeds(opening * 40, 32)
    assert not depth_exceeds(closing * 40, 32)
