"""Whose word is taken on where a request comes from.

A proxy that is trusted writes the address of its own client at the right end of ``X-Forwarded-For``. What
stands further left was there when the request reached the first trusted proxy: anybody may have written it.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final

from qubix_tui.hub.addresses import UNIX_PEER, parse_address, printable

MAX_HOPS: Final = 32
"""Entries that are looked at; no chain of proxies is so long."""


class TrustedProxies:
    """The proxies of one hub.

    Args:
        given: Addresses, networks, or ``unix`` for whoever comes over the Unix socket.

    Raises:
        ValueError: One of them is none of these.
    """

    def __init__(self, given: Iterable[str] = ()) -> None:
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        self._unix = False
        for text in given:
            if text == UNIX_PEER:
                self._unix = True
                continue
            try:
                self._networks.append(ipaddress.ip_network(text))
            except ValueError as error:
                raise ValueError(
                    f"“{printable(text)}” is no address and no network: {error}; "
                    f"expected 10.0.0.7, 10.0.0.0/24, fd00::/64 or {UNIX_PEER}"
                ) from None

    def __bool__(self) -> bool:
        return self._unix or bool(self._networks)

    def trusts(self, peer: str) -> bool:
        """Whether a peer is one of them."""
        if peer == UNIX_PEER:
            return self._unix
        address = parse_address(peer)
        return address is not None and any(address in network for network in self._networks)

    def client_of(self, peer: str, forwarded_for: Sequence[str]) -> str:
        """Give the address of whoever sent a request.

        Args:
            peer: The address at the other end of the socket.
            forwarded_for: The values of all its ``X-Forwarded-For`` headers, in their order.

        Returns:
            The rightmost address that is no trusted proxy's, where the peer is one; else, and where the
            header can't be read, the peer.
        """
        if not self.trusts(peer):
            return peer
        hops = [hop for value in forwarded_for for hop in value.split(",")]
        client = peer
        for hop in hops[: -MAX_HOPS - 1 : -1]:
            address = parse_address(_without_port(hop.strip()))
            if address is None:
                return peer
            client = str(address)
            if not self.trusts(client):
                break
        return client


def _without_port(text: str) -> str:
    """Give the address of ``192.0.2.1:5000`` or ``[2001:db8::1]:5000``; anything else as it is."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
