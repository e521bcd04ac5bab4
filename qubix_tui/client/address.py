"""The address of a hub: checked once, before anything is dialled."""

import ipaddress
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from qubix_tui.client.errors import BadUrl, InsecureToken
from qubix_tui.protocol import DEFAULT_PORT

_EXPECTED: Final = f"expected ws://host[:port] or wss://host[:port], such as ws://localhost:{DEFAULT_PORT}"


class Address(NamedTuple):
    """A checked address."""

    url: str
    host: str
    port: int
    secure: bool
    """Whether it is dialled with TLS."""

    @property
    def place(self) -> str:
        """``host:port`` for sentences; what was dialled, with the port that the scheme implies."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def check_url(url: str, *, token: str | None = None, insecure: bool = False) -> Address:
    """Check the address of a hub, and that ``token`` may be sent there.

    Args:
        url: ``ws://`` or ``wss://``, a host, optionally a port (80 and 443 by default) and a path.
        token: The token that is to be shown there, if any.
        insecure: Whether the token may cross a network in the clear.

    Raises:
        BadUrl: It is no such address; the sentence says what is expected.
        InsecureToken: A token would go over plain ``ws://`` beyond this machine.
    """
    shown = "".join(character if character.isprintable() else "�" for character in url[:200])
    if not url or not url.isprintable() or " " in url:
        raise BadUrl(f"{shown!r} is no hub address; {_EXPECTED}")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise BadUrl(f"{shown!r} is no hub address; {_EXPECTED}") from None
    if parts.scheme not in {"ws", "wss"} or not host or port == 0:
        raise BadUrl(f"{shown!r} is no hub address; {_EXPECTED}")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise BadUrl(f"a hub address holds no user, query or fragment (a token goes in a file); {_EXPECTED}")
    try:
        host.encode("idna")
    except UnicodeError:
        raise BadUrl(f"{shown!r} has no valid host name; {_EXPECTED}") from None
    secure = parts.scheme == "wss"
    if token is not None and not secure and not insecure and not is_loopback(host):
        raise InsecureToken(
            f"a token is not sent in the clear to {host}; use wss://, or allow it with --insecure"
        )
    return Address(url, host, port or (443 if secure else 80), secure)


def is_loopback(host: str) -> bool:
    """Whether ``host`` (a name or an address, without brackets) can only mean this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
