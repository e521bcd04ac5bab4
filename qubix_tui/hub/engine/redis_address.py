"""Where a Redis is, and as whom to speak to it. Nothing of it that is secret is ever in a message."""

from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec

DEFAULT_PORT: Final = 6379
_SCHEMES: Final = ("redis", "rediss", "unix")
_FORMS: Final = "redis://HOST:6379/0, rediss://HOST:6379/0 (TLS) or unix:///run/redis/redis.sock"


class RedisAddress(msgspec.Struct, frozen=True, kw_only=True):
    """One Redis.

    Attributes:
        scheme: ``redis``, ``rediss`` (TLS) or ``unix``.
        host: Its name or address; the path of its socket with ``unix``.
        port: 0 with ``unix``.
        database: Which of its numbered databases.
        username: Who speaks; None for the default user.
        password: What that one shows.
    """

    scheme: str
    host: str
    port: int
    database: int
    username: str | None = None
    password: str | None = None

    def __str__(self) -> str:
        """What may be shown to anybody."""
        if self.scheme == "unix":
            return f"unix://{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}/{self.database}"

    def __repr__(self) -> str:
        return f"RedisAddress({str(self)!r})"


def parse_redis(text: str, password: str | None = None) -> RedisAddress:
    """Read the address of a Redis.

    Args:
        text: ``redis://[USER@]HOST[:PORT][/DATABASE]``, ``rediss://`` likewise, or ``unix:///PATH``.
        password: From a file or the environment; never part of ``text``, which others on the machine see.

    Raises:
        ValueError: It is none, or has a password in it; the message repeats nothing of that.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(f"an engine is sqlite, {_FORMS}") from None
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"an engine is sqlite, {_FORMS}")
    if parts.password is not None:
        raise ValueError(
            "a password in the engine's address can be read by others on this machine: put it in a file "
            "(storage.engine_password_file) or in QUBIX_ENGINE_PASSWORD"
        )
    if parts.query or parts.fragment:
        raise ValueError(f"an engine's address ends with its database: {_FORMS}")
    username = unquote(parts.username) if parts.username else None
    if parts.scheme == "unix":
        if parts.hostname or not parts.path.startswith("/"):
            raise ValueError("the path of a Unix socket is absolute: unix:///run/redis/redis.sock")
        return RedisAddress(
            scheme="unix", host=unquote(parts.path), port=0, database=0, username=username, password=password
        )
    database = parts.path.strip("/") or "0"
    if not parts.hostname or not (database.isascii() and database.isdigit() and len(database) < 6):
        raise ValueError(f"an engine's address names a host, and its database by number: {_FORMS}")
    return RedisAddress(
        scheme=parts.scheme,
        host=parts.hostname,
        port=port or DEFAULT_PORT,
        database=int(database),
        username=username,
        password=password,
    )
