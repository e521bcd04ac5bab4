"""How tests look at a refusal."""

import pytest

from qubix_tui.protocol import codec
from qubix_tui.protocol.errors import ProtocolError

SAFE = 2**53
"""The last integer that a JavaScript client does not round."""


def refused(raw: bytes | str) -> ProtocolError:
    """Give the error that a request is refused with."""
    with pytest.raises(ProtocolError) as caught:
        codec.decode_request(raw.encode() if isinstance(raw, str) else raw)
    assert caught.value.message == str(caught.value)
    assert caught.value.message.isprintable()
    return caught.value


def summary(error: ProtocolError) -> tuple[str, str | None, str]:
    """What a client is told."""
    return error.code.value, error.field, error.message
