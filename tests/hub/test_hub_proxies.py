"""Whose word on a client's address is taken."""

import ipaddress

import hypothesis.strategies as st
import pytest
from hypothesis import given

from qubix_tui.hub.addresses import UNIX_PEER
from qubix_tui.hub.config import HubConfig
from qubix_tui.hub.limits import Limits
from qubix_tui.hub.proxies import MAX_HOPS, TrustedProxies
from tests.hub.wire import running

PROXIES = TrustedProxies(["10.0.0.0/8", "fd00::/64", "192.0.2.7"])


@pytest.mark.parametrize(
    ("peer", "headers", "client"),
    [
        ("203.0.113.9", ["1.2.3.4"], "203.0.113.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.4"], "198.51.100.4"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.4"], "198.51.100.4"),
        ("10.0.0.1", ["6.6.6.6", "198.51.100.4, 10.9.9.9"], "198.51.100.4"),
        ("10.0.0.1", ["10.2.2.2, 10.3.3.3"], "10.2.2.2"),
        ("192.0.2.7", ["[2001:db8::1]:4000"], "2001:db8::1"),
        ("192.0.2.7", ["198.51.100.4:4000"], "198.51.100.4"),
        ("fd00::5", ["2001:db8::1"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["198.51.100.4"], "198.51.100.4"),
        ("10.0.0.1", ["198.51.100.4, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.4,"], "10.0.0.1"),
        ("10.0.0.1", ["127.0.0.1\x1b[31m"], "10.0.0.1"),
        (UNIX_PEER, ["198.51.100.4"], UNIX_PEER),
    ],
)
def test_the_rightmost_address_that_is_no_proxys_counts(peer: str, headers: list[str], client: str) -> None:
    """What stands left of it anybody may have written; what can't be read leaves the peer's own address."""
    assert PROXIES.client_of(peer, headers) == client


def test_the_unix_socket_can_be_a_proxys() -> None:
    """``unix`` trusts whoever comes over it, and nobody else."""
    proxies = TrustedProxies([UNIX_PEER])
    assert proxies
    assert proxies.client_of(UNIX_PEER, ["198.51.100.4"]) == "198.51.100.4"
    assert proxies.client_of("127.0.0.1", ["198.51.100.4"]) == "127.0.0.1"


def test_without_any_nobody_is_believed() -> None:
    """The default."""
    assert not TrustedProxies()
    assert TrustedProxies().client_of("127.0.0.1", ["198.51.100.4"]) == "127.0.0.1"


@pytest.mark.parametrize("text", ["", "proxy.example", "10.0.0.1/8", "10.0.0.0/33", "a\nb"])
def test_what_is_no_network_is_refused(text: str) -> None:
    """In one sentence that says what is expected."""
    with pytest.raises(ValueError, match=r"is no address and no network.*expected 10\.0\.0\.7") as refused:
        TrustedProxies([text])
    assert "\n" not in str(refused.value)


HOPS = st.one_of(
    st.ip_addresses().map(str), st.text(max_size=20), st.sampled_from(["10.0.0.2", "fd00::9", ""])
)


@given(st.ip_addresses().map(str), st.lists(st.lists(HOPS, max_size=5).map(",".join), max_size=4))
def test_any_header_gives_the_peer_or_an_address_in_it(peer: str, headers: list[str]) -> None:
    """Nothing else, nothing raised; and the peer unless it is trusted."""
    client = PROXIES.client_of(peer, headers)
    if client != peer:
        assert PROXIES.trusts(peer)
        ipaddress.ip_address(client)


@given(st.integers(0, 200))
def test_a_long_chain_of_proxies_is_followed_so_far_only(length: int) -> None:
    """However long the header, a bounded number of entries is looked at."""
    hops = ["198.51.100.4", *["10.0.0.2"] * length]
    client = PROXIES.client_of("10.0.0.1", [",".join(hops)])
    assert client == ("198.51.100.4" if length < MAX_HOPS else "10.0.0.2")


async def test_limits_count_the_client_behind_a_proxy() -> None:
    """Two strangers behind one trusted proxy are two; a forged entry at the left changes nothing."""
    config = HubConfig(port=0, trusted_proxies=("127.0.0.1",), limits=Limits(strangers_per_address=1))
    async with (
        running(config) as hub,
        await hub.client(headers={"X-Forwarded-For": "198.51.100.4"}),
        await hub.client(headers={"X-Forwarded-For": "198.51.100.5"}),
    ):
        addresses = {getattr(client, "address", None) for client in hub.hub.caretaker.clients}
        assert addresses == {"198.51.100.4", "198.51.100.5"}
        with pytest.raises(Exception, match="429"):
            await hub.client(headers={"X-Forwarded-For": "9.9.9.9, 198.51.100.4"})


async def test_who_is_forwarded_is_nobody_and_who_is_not_trusted_is_not_believed() -> None:
    """A forged header makes nobody a local viewer, nor anybody else's address."""
    async with running() as hub, await hub.client(headers={"X-Forwarded-For": "198.51.100.4"}) as client:
        (session,) = hub.hub.caretaker.clients
        assert getattr(session, "address", None) == "127.0.0.1"
        reply = await client.ask("subscribe:marketplace")
        assert reply["data"]["code"] == "unauthenticated"
