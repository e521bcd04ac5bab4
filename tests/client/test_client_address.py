"""Which addresses are dialled, and with which token."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qubix_tui.client import BadUrl, InsecureToken, check_url
from qubix_tui.client.address import is_loopback

TOKEN = "qbx_v" + "0" * 72


@pytest.mark.parametrize(
    ("url", "host", "port", "secure"),
    [
        ("ws://localhost:3001", "localhost", 3001, False),
        ("ws://localhost:3001/", "localhost", 3001, False),
        ("ws://127.0.0.1", "127.0.0.1", 80, False),
        ("wss://hub.example.org", "hub.example.org", 443, True),
        ("wss://hub.example.org:8443/qubix", "hub.example.org", 8443, True),
        ("WS://[::1]:3001", "::1", 3001, False),
    ],
)
def test_an_address_has_a_scheme_a_host_and_a_port(url: str, host: str, port: int, secure: bool) -> None:
    """Both ws and wss are read, with the scheme's own port where none is given."""
    address = check_url(url)
    assert (address.host, address.port, address.secure) == (host, port, secure)


def test_a_place_shows_host_and_port() -> None:
    """Sentences show what was dialled, an IPv6 address in its brackets."""
    assert check_url("ws://localhost").place == "localhost:80"
    assert check_url("ws://[::1]:3001").place == "[::1]:3001"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:3001",
        "http://localhost:3001",
        "ws://",
        "ws://:3001",
        "ws://host:0",
        "ws://host:99999",
        "ws://host:port",
        "ws://ho st",
        "ws://[::1",
        "ws://host\x1b[31m",
        "ws://host\n",
        f"ws://{'a' * 70}.example",
        "ws://a..b",
    ],
)
def test_a_bad_address_says_what_is_expected(url: str) -> None:
    """Anything else is refused with a sentence that names what is expected and holds nothing unprintable."""
    with pytest.raises(BadUrl, match=r"expected ws://host\[:port\] or wss://host\[:port\]") as caught:
        check_url(url)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("url", ["ws://me:secret@host", "ws://host/?token=x", "ws://host/#x"])
def test_an_address_holds_no_credentials(url: str) -> None:
    """User, query and fragment are refused: a token in a URL ends in logs."""
    with pytest.raises(BadUrl, match="a token goes in a file") as caught:
        check_url(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["ws://127.0.0.1:1", "ws://localhost", "ws://[::1]", "wss://hub.example.org"])
def test_a_token_goes_to_this_machine_or_over_tls(url: str) -> None:
    """Loopback in the clear, and any host over TLS, may be shown a token."""
    assert check_url(url, token=TOKEN).url == url


@pytest.mark.parametrize(
    "url", ["ws://192.168.1.7:3001", "ws://hub.example.org", "ws://localhost.example.org"]
)
def test_a_token_does_not_cross_a_network_in_the_clear(url: str) -> None:
    """Beyond loopback plain ws:// with a token is refused unless allowed; without a token it is fine."""
    with pytest.raises(InsecureToken, match="in the clear"):
        check_url(url, token=TOKEN)
    assert check_url(url, token=TOKEN, insecure=True).url == url
    assert check_url(url).url == url


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_a_bad_one(text: str) -> None:
    """Whatever is written, only BadUrl is raised."""
    for url in (text, "ws://" + text):
        try:
            address = check_url(url)
        except BadUrl:
            continue
        assert address.host
        assert 0 < address.port < 65536


@pytest.mark.parametrize(
    ("host", "expected"), [("localhost", True), ("127.8.0.1", True), ("10.0.0.1", False)]
)
def test_loopback(host: str, expected: bool) -> None:
    """Loopback is localhost and the loopback networks."""
    assert is_loopback(host) is expected
