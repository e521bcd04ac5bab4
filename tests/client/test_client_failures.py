"""Each way to fail gives one plain sentence."""

import errno
import socket
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.datastructures import Headers
from websockets.exceptions import (
    InvalidMessage,
    InvalidProxyMessage,
    InvalidProxyStatus,
    InvalidStatus,
    InvalidUpgrade,
)
from websockets.http11 import Response

from qubix_tui.client import check_url
from qubix_tui.client.failures import Failure, Reaction, explain_close, explain_exception

ADDRESS = check_url("ws://hub.test:3001")


def explain(error: Exception, *, token: bool = False) -> Failure:
    """Explain an exception of an attempt at ``ADDRESS``."""
    return explain_exception(error, ADDRESS, token=token)


def status(code: int, body: bytes = b"") -> InvalidStatus:
    """A handshake answered with an HTTP status."""
    return InvalidStatus(Response(code, "", Headers(), body))


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "x"),
            "the proxy: nothing listens at proxy.test:3128 (connection refused)",
        ),
        (
            socket.gaierror(-2, "Name or service not known"),
            "the proxy: the host name proxy.test is not known (Name or service not known)",
        ),
        (TimeoutError(), "hub.test:3001 did not answer in time through the proxy"),
        (
            InvalidProxyStatus(Response(403, "", Headers(), b"")),
            "the proxy does not let through to hub.test:3001 (HTTP 403)",
        ),
        (InvalidProxyMessage("x"), "what answers at the proxy's address is no HTTP proxy"),
        (
            ssl.SSLCertVerificationError(1, "x"),
            "the certificate of hub.test:3001 is not trusted: ",
        ),
        (InvalidMessage("x"), "what answers at hub.test:3001 is not a WebSocket server"),
    ],
)
def test_a_proxy_is_told_from_the_hub(error: Exception, sentence: str) -> None:
    """What the proxy did is not said of the hub, and the other way round."""
    if isinstance(error, ssl.SSLCertVerificationError):
        error.verify_message = ""
    failure = explain_exception(error, ADDRESS, token=False, proxy="http://proxy.test:3128")
    assert (failure.sentence, failure.unreachable) == (sentence, True)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "x"),
            "nothing listens at hub.test:3001 (connection refused)",
        ),
        (
            OSError("Multiple exceptions: [Errno 111] Connect call failed, [Errno 111] Connect call failed"),
            "nothing listens at hub.test:3001 (connection refused)",
        ),
        (
            OSError("Multiple exceptions: [Errno 111] a, [Errno 101] b"),
            "can't connect to hub.test:3001: Multiple exceptions: [Errno 111] a, [Errno 101] b",
        ),
        (
            OSError(errno.ENETUNREACH, "Network is unreachable"),
            "can't connect to hub.test:3001: Network is unreachable",
        ),
        (TimeoutError(), "hub.test:3001 did not answer in time"),
        (
            socket.gaierror(-2, "Name or service not known"),
            "the host name hub.test is not known (Name or service not known)",
        ),
        (
            ssl.SSLError(1, "WRONG_VERSION_NUMBER"),
            "hub.test:3001 does not speak TLS (is it a ws:// address?)",
        ),
        (ConnectionResetError(), "hub.test:3001 broke the connection off before it was open"),
        (InvalidMessage("x"), "what answers at hub.test:3001 is not a WebSocket server"),
        (InvalidUpgrade("Upgrade", "h2c"), "what answers at hub.test:3001 is not a WebSocket server"),
        (EOFError(), "what answers at hub.test:3001 is not a WebSocket server"),
        (RuntimeError(), "can't connect to hub.test:3001: RuntimeError"),
    ],
)
def test_an_unreachable_hub_has_its_own_sentence(error: Exception, sentence: str) -> None:
    """Network, name, TLS and protocol failures are told apart, count as unreachable, and are tried again."""
    assert explain(error) == Failure(sentence, unreachable=True)


def test_a_plain_hub_dialled_with_tls_is_hinted_at() -> None:
    """A server that breaks off a TLS handshake may be one that speaks none."""
    failure = explain_exception(ConnectionResetError(), check_url("wss://hub.test:3001"), token=False)
    assert failure.sentence.endswith("before it was open (is it a ws:// address?)")


def test_an_untrusted_certificate_says_why() -> None:
    """The verifier's own words are in the sentence."""
    error = ssl.SSLCertVerificationError(1, "x")
    error.verify_message = "certificate has expired"
    assert (
        explain(error).sentence == "the certificate of hub.test:3001 is not trusted: certificate has expired"
    )


def test_http_401_stops_and_tells_a_missing_token_from_a_refused_one() -> None:
    """401 stops; the sentence depends on whether a token was shown, and gives the hub's own words."""
    with_token = explain(status(401, b'{"error": "unknown token"}'), token=True)
    assert with_token.sentence == "the hub at hub.test:3001 refused the token (HTTP 401): unknown token"
    assert with_token.reaction is Reaction.STOP
    assert not with_token.unreachable
    assert "asks for a token" in explain(status(401)).sentence


@pytest.mark.parametrize(
    ("code", "body", "sentence"),
    [
        (
            403,
            b"Origin null is not allowed\n",
            "the hub at hub.test:3001 refused this client (HTTP 403): Origin null is not allowed",
        ),
        (
            421,
            b"",
            "the hub does not answer to the name hub.test (HTTP 421); start it with --public-name hub.test",
        ),
        (503, b"", "the hub at hub.test:3001 takes no connections right now (HTTP 503)"),
        (429, b"<html>", "the hub at hub.test:3001 takes no connections right now (HTTP 429)"),
    ],
)
def test_http_refusals_are_tried_again(code: int, body: bytes, sentence: str) -> None:
    """403, 421, 429 and 503 come from a hub, and give its words where it has any."""
    assert explain(status(code, body)) == Failure(sentence)


def test_another_status_is_no_hub() -> None:
    """Any other status means that something else answers there."""
    failure = explain(status(404, b"<html>nginx</html>"))
    assert failure == Failure("what answers at hub.test:3001 is no QUBIX hub (HTTP 404)", unreachable=True)


@given(st.binary(max_size=80))
def test_no_body_breaks_the_sentence(body: bytes) -> None:
    """Whatever a server writes beside its status, the sentence is one printable line."""
    assert explain(status(403, body)).sentence.isprintable()


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (None, "the connection to the hub was lost"),
        (1006, "the connection to the hub was lost"),
        (1000, "the hub closed the connection: done"),
        (1001, "the hub closed the connection: done"),
        (1011, "the hub closed the connection (1011): done"),
        (1012, "the hub is restarting"),
        (4001, "the hub was shown no valid token (4001): done"),
        (4003, "the hub refused or revoked the token (4003): done"),
        (4008, "the hub heard nothing from this client for too long (4008)"),
        (4009, "replaced by a newer session of this provider (4009): done"),
        (4013, "this client did not read fast enough (4013): done"),
        (4029, "this client sent too much (4029): done"),
    ],
)
def test_each_close_code_has_its_sentence(code: int | None, sentence: str) -> None:
    """Every close code of the contract is explained, with the hub's reason."""
    assert explain_close(code, "done").sentence == sentence


def test_only_a_slow_reader_begins_afresh() -> None:
    """4013 alone asks the next connection not to catch up."""
    assert [
        code for code in (None, 1000, 1012, 4001, 4008, 4009, 4013, 4029) if explain_close(code, "").fresh
    ] == [4013]


@given(st.text(max_size=300))
def test_a_reason_cannot_reach_a_terminal_raw(reason: str) -> None:
    """Close reasons are made printable and short."""
    sentence = explain_close(4003, reason).sentence
    assert sentence.isprintable()
    assert len(sentence) < 300
