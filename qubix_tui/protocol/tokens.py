"""What a token looks like: ``qbx_`` + role letter + 256 random bits + checksum.

The checksum lets a mistyped or cut token be told from a refused one before it is sent anywhere. Only the hash
is ever stored by a hub.

An enrolment code is for a person to type, once, within minutes: Crockford's base32, whose letters can't be
taken for one another.
"""

import hashlib
import re
import secrets
import zlib
from enum import StrEnum
from typing import Final

_FORM: Final = re.compile(r"qbx_([vop])([0-9a-f]{64})([0-9a-f]{8})\Z")
_CODE_LETTERS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CODE_LENGTH: Final = 16
_CODE_MEANT: Final = str.maketrans("ILO", "110", " -")


class Role(StrEnum):
    """What a connection may do."""

    NOBODY = "nobody"
    VIEWER = "viewer"
    OPERATOR = "operator"
    PROVIDER = "provider"


def new_token(role: Role) -> str:
    """Make a token with 256 random bits."""
    body = f"qbx_{role.value[0]}{secrets.token_hex(32)}"
    return f"{body}{zlib.crc32(body.encode()):08x}"


def is_token(text: str) -> bool:
    """Whether ``text`` has a token's form and its checksum holds."""
    return _FORM.match(text) is not None and int(text[-8:], 16) == zlib.crc32(text[:-8].encode())


def hash_token(token: str) -> str:
    """SHA-256 of a token, or of a code, in hex: what a hub keeps in its place."""
    return hashlib.sha256(token.encode()).hexdigest()


def new_code() -> str:
    """Make an enrolment code: 80 random bits that a person can type (``7KQ2-M0XA-9D4T-VR8C``)."""
    letters = "".join(secrets.choice(_CODE_LETTERS) for _ in range(_CODE_LENGTH))
    return "-".join(letters[start : start + 4] for start in range(0, _CODE_LENGTH, 4))


def read_code(text: str) -> str | None:
    """Give the code that a person meant, None where it can be none.

    Case, spaces and dashes don't matter; I and L are read as 1, and O as 0.
    """
    letters = text.upper().translate(_CODE_MEANT)
    if len(letters) != _CODE_LENGTH or not set(letters) <= set(_CODE_LETTERS):
        return None
    return "-".join(letters[start : start + 4] for start in range(0, _CODE_LENGTH, 4))
