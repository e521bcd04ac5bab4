"""What hubs say to one another, as bytes."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qubix_tui.hub.peer_messages import (
    MAX_PIECES,
    VERSION,
    Answer,
    Batch,
    Filled,
    ForeignMessage,
    Headlines,
    Message,
    Question,
    Wants,
    Word,
    decode,
    encode,
)

ids = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)
counts = st.integers(0, 2**53)
pieces = st.integers(0, MAX_PIECES - 1)

messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Wants, st.booleans(), st.booleans(), st.lists(ids), st.lists(ids)),
    st.builds(Batch, st.lists(st.tuples(ids, st.binary()))),
    st.builds(Headlines, st.lists(st.builds(Word, ids, counts, st.none() | counts, st.binary()))),
    st.builds(Question, counts, ids, st.booleans()),
    st.builds(Answer, counts, pieces, pieces.map(lambda piece: piece + 1), st.binary()),
    st.builds(Filled, ids),
)


@given(messages)
def test_what_was_written_is_read(message: Message) -> None:
    """Every message comes out as it went in."""
    assert decode(encode(message)) == message


@given(messages, st.data())
def test_bytes_that_are_no_message_are_refused_in_one_way(message: Message, data: st.DataObject) -> None:
    """Changed, cut, made longer: it is another message, or `ForeignMessage`; never anything else."""
    raw = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(raw)))
        raw[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    with contextlib.suppress(ForeignMessage):
        read = decode(bytes(raw))
        assert decode(encode(read)) == read


@given(st.binary())
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    """With the right version before them, or without."""
    for form in (raw, bytes((VERSION,)) + raw):
        with contextlib.suppress(ForeignMessage):
            decode(form)


@pytest.mark.parametrize("raw", [b"", b"\x00", b"\x02" + encode(Filled("rig-7"))[1:]])
def test_another_version_is_refused_unread(raw: bytes) -> None:
    """Whatever follows."""
    with pytest.raises(ForeignMessage, match="version 1"):
        decode(raw)


@pytest.mark.parametrize(
    "message", [Filled("no id"), Question(2**53 + 1, "x", True), Answer(1, MAX_PIECES, 1, b"")]
)
def test_a_message_beyond_the_bounds_is_refused(message: Message) -> None:
    """An id that is none, a number that is too large."""
    with pytest.raises(ForeignMessage):
        decode(bytes((VERSION,)) + msgspec.msgpack.encode(message))
