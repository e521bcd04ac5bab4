"""What is looked at on the bytes of a message: a JSON decoder would let it through, or choke on it."""

import re
from typing import Final

from qubix_tui.protocol.errors import ErrorCode, ProtocolError
from qubix_tui.protocol.types import MAX_SAFE_INTEGER

INTEGER_WORDS: Final = "expected an integer within ±2^53"

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_NOT_MARKS: Final = bytes(set(range(256)) - set(b'[]{}"'))
_ONE_KIND: Final = bytes.maketrans(b"{}", b"[]")
_ONE_DIGIT: Final = bytes.maketrans(b"123456789", b"000000000")
_LONG_DIGITS: Final = b"0" * 16
"""2^53 has 16 digits; what is shorter can't be beyond it."""
_LONG_INTEGER: Final = re.compile(rb"(?<![0-9.eE+])[0-9]{16,}(?![0-9.eE])")
_HUGE_INTEGER: Final = re.compile(rb"(?<![0-9.eE+])[0-9]{400,}(?![0-9.eE])")
_STAND_IN: Final = b"9" * 20
_PAIR: Final = re.compile(rb"\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}", re.IGNORECASE)
_SURROGATE: Final = re.compile(rb"\\ud[89a-f]", re.IGNORECASE)


def check_size(raw: bytes, *, limit: int | None, depth: int) -> None:
    """Refuse a message for its length or its nesting, before anything decodes it.

    Args:
        raw: The message.
        limit: The most bytes it may have; None for any number.
        depth: How deep its arrays and objects may nest.

    Raises:
        ProtocolError: ``too_large`` or ``invalid``.
    """
    if limit is not None and len(raw) > limit:
        raise ProtocolError(
            ErrorCode.TOO_LARGE, f"a message has at most {limit} bytes; this one has {len(raw)}"
        )
    if raw.count(b"[") + raw.count(b"{") > depth and depth_exceeds(raw, depth):
        raise ProtocolError(ErrorCode.INVALID, f"nesting is deeper than {depth}")


def check_encoding(raw: bytes) -> None:
    """Refuse what is not UTF-8, in a member that nobody reads too: the decoder looks only at what it keeps.

    Raises:
        ProtocolError: ``bad_json``.
    """
    if raw.isascii():
        return
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        message = f"the message is not UTF-8: {error.reason} (byte {error.start})"
        raise ProtocolError(ErrorCode.BAD_JSON, message) from None


def depth_exceeds(raw: bytes, limit: int) -> bool:
    """Whether brackets outside strings nest deeper than ``limit``. No recursion, early exit."""
    # Of what is left once escapes are gone, every other piece between quotes lies outside strings.
    marks = raw.replace(rb"\\", b"").replace(rb"\"", b"").translate(_ONE_KIND, _NOT_MARKS)
    brackets = b"".join(marks.replace(b'""', b"").split(b'"')[::2])
    levels = 0
    while levels < limit:
        # So many in a row are too deep wherever they stand; to take levels off them is what costs time.
        if b"[" * (limit - levels + 1) in brackets:
            return True
        shorter = brackets.replace(b"[]", b"")
        if len(shorter) == len(brackets):
            break
        brackets = shorter
        levels += 1
    # What is left is deeper than the levels taken off, or unbalanced, which the decoder will say.
    depth = 0
    for bracket in brackets:
        depth += 1 if bracket == ord("[") else -1
        if depth + levels > limit:
            return True
        if depth < 0:
            return False
    return False


def may_hold_long_integer(raw: bytes) -> bool:
    """Whether a message may hold an integer of 16 digits or more; a string may look like one."""
    return _LONG_DIGITS in raw.translate(_ONE_DIGIT) and _LONG_INTEGER.search(raw) is not None


def shorten_integers(raw: bytes) -> bytes:
    """Write the integers that Python would refuse to read as others that are beyond ±2^53 just as well."""
    return _HUGE_INTEGER.sub(_STAND_IN, raw)


def check_integers(value: object, path: str) -> None:
    """Refuse integers beyond ±2^53 anywhere in a decoded value, however deep.

    Args:
        value: Plain JSON, nested no deeper than a message may be.
        path: Where in the message it stands; empty for all of it.

    Raises:
        ProtocolError: ``invalid``, with the path of the integer.
    """
    if isinstance(value, int):
        if abs(value) > MAX_SAFE_INTEGER:
            raise ProtocolError(ErrorCode.INVALID, INTEGER_WORDS, field=path or None)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            check_integers(item, f"{path}[{index}]")
    elif isinstance(value, dict):
        for name, item in value.items():
            member = printable(name, 64)
            check_integers(item, f"{path}.{member}" if path else member)


def why_not_json(raw: bytes, complaint: str) -> str:
    """Say why a message is no JSON, better than its decoder does where that is easy."""
    if raw.startswith(_BYTE_ORDER_MARK):
        return "the message is not JSON: it begins with a byte order mark"
    if _SURROGATE.search(_PAIR.sub(b"", raw.replace(rb"\\", b""))):
        return "the message is not JSON: an escape is half of a surrogate pair, which is no character"
    return f"the message is not JSON: {printable(complaint)}"


def printable(text: str, length: int = 200) -> str:
    """Give the beginning of a text from outside, with nothing in it that a terminal would obey."""
    return "".join(character if character.isprintable() else "�" for character in text[:length])
