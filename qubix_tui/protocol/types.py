"""The constrained scalars that records and messages are made of."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec

ID_PATTERN: Final = r"^[A-Za-z0-9._-]{1,64}\Z"
LINE_PATTERN: Final = "^[^\\x00-\\x1f\\x7f-\\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]*\\Z"
TIMESTAMP_PATTERN: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?Z\Z"

MAX_SAFE_INTEGER: Final = 2**53
"""Integers beyond this do not survive a JavaScript client."""

MAX_SENTENCE: Final = 1024
"""Characters of a `Sentence`."""

Id = Annotated[str, msgspec.Meta(pattern=ID_PATTERN)]
"""A provider, job or worker id: 1 to 64 of ``A-Z a-z 0-9 . _ -``."""

Name = Annotated[str, msgspec.Meta(pattern=LINE_PATTERN, max_length=128)]
"""One line for people, without control or bidirectional characters."""

Sentence = Annotated[str, msgspec.Meta(pattern=LINE_PATTERN, max_length=MAX_SENTENCE)]
"""One longer line for people: a message, a reason, a description."""

Timestamp = Annotated[str, msgspec.Meta(pattern=TIMESTAMP_PATTERN)]
"""RFC 3339 in UTC, written with milliseconds: ``2026-01-31T12:00:00.000Z``."""

Integer = Annotated[int, msgspec.Meta(ge=-MAX_SAFE_INTEGER, le=MAX_SAFE_INTEGER)]
Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_SAFE_INTEGER)]
"""A whole number that can't be negative: bytes, MiB, sequence numbers, micro-units of money."""

Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
Amount = Annotated[float, msgspec.Meta(ge=0)]
"""A quantity that can't be negative: watts, bytes per second, a price."""

Celsius = Annotated[float, msgspec.Meta(ge=-273.15, le=1000)]

RequestId = int | float | str
"""What a client may number its messages with; echoed as it came (``3`` stays ``3``)."""

JsonObject = dict[str, Any]
"""Free-form JSON the contract does not look into (job parameters, requirements of an echo)."""


def to_timestamp(seconds: float) -> str:
    """Write seconds since the Unix epoch as a `Timestamp` (UTC, milliseconds, ``Z``)."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def from_timestamp(text: str) -> float:
    """Read a `Timestamp` as seconds since the Unix epoch.

    Raises:
        ValueError: ``text`` is not RFC 3339 in UTC.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone; RFC 3339 in UTC is expected")
    return moment.timestamp()


class Wire(msgspec.Struct, rename="camel", frozen=True):
    """Base of everything on the wire: camelCase member names, immutable.

    A member whose value is not known is ``None`` here and ``null`` on the wire, never 0. Unknown members of
    incoming objects are ignored.
    """
