"""Frames and pages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Opcode
from websockets.protocol import CLIENT, Protocol

from qubix_tui.hub import framing
from qubix_tui.protocol import MAX_FRAME_BYTES, events
from qubix_tui.protocol.channels import MARKETPLACE
from tests.hub.frames import messages


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65535, 65536])
def test_a_frame_of_any_length_is_read_back_by_the_library(length: int) -> None:
    """Headers of 2, 4 and 10 bytes, at their edges: one whole text frame that holds the payload."""
    payload = b"x" * length
    protocol = Protocol(CLIENT, max_size=MAX_FRAME_BYTES)
    protocol.receive_data(framing.frame(payload))
    (frame,) = protocol.events_received()
    assert frame.opcode is Opcode.TEXT  # type: ignore[union-attr]
    assert frame.fin  # type: ignore[union-attr]
    assert bytes(frame.data) == payload  # type: ignore[union-attr]


def test_no_frame_is_longer_than_the_contract_allows() -> None:
    """A longer message is refused where it is made."""
    with pytest.raises(ValueError, match="at most 65536 bytes; this one has 65537"):
        framing.frame(b"x" * (MAX_FRAME_BYTES + 1))


def test_an_event_carries_its_channel_offset_and_data() -> None:
    """Already encoded data is put in as it is."""
    frame = framing.event_frame("PROVIDER_REGISTERED", b'{"id":"a"}', MARKETPLACE, 7)
    assert messages(frame) == [
        {"type": "PROVIDER_REGISTERED", "channel": MARKETPLACE, "offset": 7, "data": {"id": "a"}}
    ]


def test_a_page_has_no_offset() -> None:
    """Snapshots and digests are MARKETPLACE_UPDATEs outside of the order."""
    assert messages(framing.page_frame("provider:a", b'{"kind":"snapshot"}')) == [
        {"type": events.MARKETPLACE_UPDATE, "channel": "provider:a", "data": {"kind": "snapshot"}}
    ]


def test_a_reply_echoes_the_id_as_it_came() -> None:
    """Numbers stay numbers."""
    assert messages(framing.reply_frame(events.OK, events.Ok(), 3)) == [{"type": "ok", "id": 3, "data": {}}]


def test_a_full_page_fits_into_a_frame() -> None:
    """The room kept for the envelope is enough for the longest channel key and the greatest numbers."""
    data = b'{"kind":"provider_snapshot","page":9007199254740991,"pages":9007199254740991,"x":"%b"}'
    longest = data % (b"y" * framing.MAX_ITEMS_BYTES)
    frame = framing.page_frame("provider:" + "z" * 64, longest)
    assert len(frame) <= MAX_FRAME_BYTES


@given(st.lists(st.integers(1, 100)), st.integers(100, 300))
def test_pages_hold_everything_once_and_none_is_too_long(sizes: list[int], limit: int) -> None:
    """Pages are whole items in order, each as full as the next item lets it be."""
    counts = list(framing.cut(sizes, limit))
    assert sum(counts) == len(sizes)
    start = 0
    for count in counts:
        assert count >= 1
        page = sizes[start : start + count]
        assert sum(page) <= limit
        start += count
        if start < len(sizes):
            assert sum(page) + sizes[start] > limit
