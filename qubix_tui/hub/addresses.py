"""Reading what the network says of hosts, origins and peers. Whatever the text, nothing is raised for it."""

import ipaddress
import re
from typing import Final

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})

UNIX_PEER: Final = "unix"
"""The address of whoever comes over the Unix socket, in logs and limits."""

_AUTHORITY: Final = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def parse_authority(text: str) -> tuple[str, int | None] | None:
    """Split ``name[:port]`` (lower case, without a final dot); None where it is anything else."""
    match = _AUTHORITY.fullmatch(text.lower())
    if match is None:
        return None
    port = int(match["port"]) if match["port"] else None
    if port is not None and not 0 < port < 65536:
        return None
    return match["name"].removesuffix("."), port


def parse_origin(text: str) -> tuple[str, str, int] | None:
    """Split an origin into scheme, name and port; None where it is no http(s) origin (``null``, a path)."""
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    authority = parse_authority(rest)
    if not separator or scheme not in _DEFAULT_PORTS or authority is None:
        return None
    name, port = authority
    return scheme, name, _DEFAULT_PORTS[scheme] if port is None else port


def parse_allowed_origin(text: str) -> tuple[str, str, int]:
    """Read an origin that an operator gave, as `parse_origin` does.

    Raises:
        ValueError: It is none; the message says what was expected.
    """
    origin = parse_origin(text)
    if origin is None:
        raise ValueError(
            f"“{printable(text)}” is no origin; expected http:// or https:// and a name, with a port where "
            "it is not the usual one: https://console.example (no path, no *: that would let every page in)"
        )
    return origin


def parse_public_name(text: str) -> str:
    """Read a host name that an operator gave.

    Raises:
        ValueError: It is none; the message says what was expected.
    """
    authority = parse_authority(text)
    if authority is None or authority[1] is not None:
        raise ValueError(
            f"“{printable(text)}” is no host name; expected a name alone, without a port: hub.example"
        )
    return authority[0]


def is_ip_literal(name: str) -> bool:
    """Whether the name of an authority is an address: nobody else's name can be re-pointed to it."""
    try:
        if name.startswith("["):
            ipaddress.IPv6Address(name[1:-1])
        else:
            ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether a peer's address is one of this machine's own loopback addresses."""
    address = parse_address(host)
    return address is not None and address.is_loopback


def network_of(host: str) -> str:
    """Give what stands for one customer of an address: itself, or the /64 of an IPv6 address."""
    address = parse_address(host)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((int(address), 64), strict=False))
    return host if address is None else str(address)


def printable(text: str) -> str:
    """Make text from outside fit for a sentence: short, and without control characters."""
    return "".join(character if character.isprintable() else "�" for character in text[:100])


def parse_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Read an address; None where it is none. An IPv4 address is one in IPv6's form too."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    # A socket that listens for both families shows IPv4 peers as ::ffff:127.0.0.1.
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
