"""What a token looks like: ``qbx_`` + role letter + 256 random bits + checksum.

The checksum lets a mistyped or cut token be told from a refused one before it is sent anywhere. Only the hash
is ever stored by a hub.
"""

import hashlib
import re
import secrets
import zlib
from enum import StrEnum
from typing import Final

_FORM: Final = re.compile(r"qbx_([vop])([0-9a-f]{64})([0-9a-f]{8})\Z")


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
    """SHA-256 of a token in hex: what a hub keeps in its place."""
    return hashlib.sha256(token.encode()).hexdigest()
