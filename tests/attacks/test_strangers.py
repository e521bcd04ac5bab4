"""Who is not who they say: pages of others, names that were re-pointed, forged addresses, guessed tokens."""

import json
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from qubix_tui.protocol.tokens import Role, new_token
from tests.attacks.raw import SECONDS, TEXT, Message, RawClient, Refused, bearer, frame, message
from tests.attacks.stage import AttackedHub, attacked_hub


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttackedHub]:
    """A hub on loopback."""
    with attacked_hub(tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.fixture
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttackedHub]:
    """A hub behind a proxy on this machine that it trusts."""
    with attacked_hub(tmp_path_factory.mktemp("home"), "--trusted-proxy", "127.0.0.1") as running:
        yield running


def refused(hub: AttackedHub, *headers: str, host: str | None = "127.0.0.1") -> int:
    """Shake hands with some headers; give the status that it is refused with, 400 where it is hung up on."""
    with pytest.raises((Refused, ConnectionError)) as caught, RawClient(hub.port, *headers, host=host):
        pass
    if not isinstance(caught.value, Refused):
        return 400
    sentence = json.loads(caught.value.body)["error"]
    assert sentence.isprintable()
    return caught.value.status


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://evil.example:3001",
        "null",
        "file://",
        "",
        "http://localhost.evil.example",
        "http://localhost@evil.example",
        "http://evil.example#localhost",
        "http://127.0.0.1.evil.example",
        "http://2130706433",
        "http://localhost, http://evil.example",
        "http://localhost/..",
        "http://evil.example\x1b]0;x\x07",
    ],
)
def test_pages_of_others_are_refused(hub: AttackedHub, origin: str) -> None:
    """Whatever their Origin resembles."""
    assert refused(hub, f"Origin: {origin}") in {400, 403}


@pytest.mark.parametrize(
    "origins",
    [
        ("http://localhost", "http://evil.example"),
        ("http://evil.example", "http://localhost"),
        ("http://localhost", "http://localhost"),
    ],
)
def test_several_origins_are_none(hub: AttackedHub, origins: tuple[str, str]) -> None:
    """A good one does not excuse another, in either order."""
    assert refused(hub, *(f"Origin: {origin}" for origin in origins)) == 403
    assert refused(hub, *(f"oRiGiN:{origin}" for origin in origins)) == 403


def test_a_good_origin_is_no_token(hub: AttackedHub) -> None:
    """A program can forge any Origin: it gains nothing that it had not without."""
    with hub.client(None, "Origin: http://localhost") as client:
        assert client.ask("provider:remove", {"providerId": "x"})["data"]["code"] == "forbidden"


@pytest.mark.parametrize(
    "host",
    [
        "rebound.example",
        "rebound.example:3001",
        "localhost.rebound.example",
        "127.0.0.1.rebound.example",
        "localhost@rebound.example",
        "127.0.0.1, rebound.example",
        "",
        None,
        "rebound.example\x1b[2J",
    ],
)
def test_a_name_that_was_pointed_at_the_hub_reads_nothing(hub: AttackedHub, host: str | None) -> None:
    """DNS rebinding: to the browser the page and the hub are one site; the Host header tells them apart."""
    assert refused(hub, host=host) in {400, 421}
    assert refused(hub, "Origin: http://localhost", host=host) in {400, 421}


def test_a_second_host_is_no_excuse(hub: AttackedHub) -> None:
    """Two Host headers, one of them good."""
    assert refused(hub, "Host: rebound.example") in {400, 421}
    assert refused(hub, "Host: localhost", host="rebound.example") in {400, 421}


@pytest.mark.parametrize(
    "header",
    [
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-For: ::1",
        "X-Forwarded-Host: localhost",
        "Forwarded: for=127.0.0.1",
        "Via: 1.1 proxy",
        "X-Real-IP: 127.0.0.1",
    ],
)
def test_an_address_that_is_only_said_is_nobodys(hub: AttackedHub, header: str) -> None:
    """No proxy is trusted: who comes through one is not taken for this machine's own user."""
    with hub.client(None, header) as client:
        assert client.ask("subscribe:marketplace")["data"]["code"] == "unauthenticated"


@pytest.mark.parametrize(
    "forged", ["127.0.0.1", "127.0.0.1, 127.0.0.1", "::1", "localhost", "", "x" * 4_000, "1," * 2_000]
)
def test_behind_a_trusted_proxy_nobody_is_local(proxied: AttackedHub, forged: str) -> None:
    """Whatever the header says, a client without a token is nobody there."""
    with proxied.client(None, f"X-Forwarded-For: {forged}") as client:
        assert client.ask("subscribe:marketplace")["data"]["code"] == "unauthenticated"


def test_guesses_count_for_the_address_that_the_proxy_saw(proxied: AttackedHub) -> None:
    """A new forged address with each guess wins no new guesses; and another client is not locked out."""
    statuses = []
    for number in range(15):
        forged = f"X-Forwarded-For: 10.0.0.{number}, 203.0.113.9"
        statuses.append(refused(proxied, forged, bearer(new_token(Role.OPERATOR))))
    assert statuses == [401] * 10 + [429] * 5
    assert refused(proxied, "X-Forwarded-For: 203.0.113.10", bearer(new_token(Role.OPERATOR))) == 401


@pytest.mark.parametrize(
    "guess",
    [
        "",
        " ",
        "operator",
        "null",
        "*",
        "qbx_",
        "' OR 1=1 --",
        "x" * 7_000,
        "\x1b[31m",
        "é",
        "qbx_o_" + "A" * 43,
    ],
)
def test_what_is_no_token_is_none(hub: AttackedHub, guess: str) -> None:
    """Refused in words, and its text is neither echoed nor logged."""
    with hub.client() as client:
        answer = client.ask("auth", {"token": guess})
        assert answer["data"]["code"] in {"unauthenticated", "rate_limited"}
        assert client.ask("provider:remove", {"providerId": "x"})["data"]["code"] == "forbidden"
    if len(guess.strip()) > 4:
        assert guess not in json.dumps(answer)
        assert guess not in "".join(hub.log)


def test_a_token_that_is_nearly_right_is_wrong(hub: AttackedHub) -> None:
    """One character off, another role's letter, a line break at the end."""
    token = hub.token(Role.OPERATOR)
    nearly = [
        token[:-1],
        token + "A",
        token[:-1] + ("A" if token[-1] != "A" else "B"),
        token[:4] + "v" + token[5:],
        token.swapcase(),
        token[:20] + "\x00" + token[20:],
    ]
    with hub.client() as client:
        for guess in nearly:
            assert client.ask("auth", {"token": guess})["data"]["code"] in {"unauthenticated", "rate_limited"}


def test_two_tokens_are_none(hub: AttackedHub) -> None:
    """Which of two Authorization headers counts is not left to chance."""
    good, bad = bearer(hub.token(Role.OPERATOR)), bearer(new_token(Role.OPERATOR))
    assert refused(hub, good, bad) in {401, 429}
    assert refused(hub, good, good) in {401, 429}


def test_a_provider_publishes_as_itself_alone(hub: AttackedHub) -> None:
    """No member of a message, and no identity that it registers with, makes it another."""
    with hub.agent() as victim, hub.agent() as impostor, hub.client() as reader:
        known = victim.ask("provider:register", {"workerId": "victim", "instance": "v"})["data"]["providerId"]
        early = impostor.ask("GPU_METRICS_UPDATE", {"metrics": {"cpuPercent": 66}, "providerId": known})
        assert early["data"]["code"] == "conflict"
        stolen = impostor.ask("provider:register", {"workerId": "victim", "instance": "i"})
        assert stolen["data"]["code"] in {"conflict", "forbidden"}, stolen
        own = impostor.ask("provider:register", {"workerId": "own", "instance": "i", "id": known})
        own_id = own["data"]["providerId"]
        assert own_id != known
        for channel in (known, own_id):
            reader.ask("subscribe:provider", subscriptionId=channel)
        forged = {"metrics": {"cpuPercent": 66}, "providerId": known, "channel": f"provider:{known}"}
        impostor.send(
            message("GPU_METRICS_UPDATE", forged, subscriptionId=known, channel=f"provider:{known}")
        )
        impostor.send(frame(TEXT, json.dumps({"type": "GPU_METRICS_UPDATE", "data": forged}).encode()))
        for kind in ("PROVIDER_STATUS_CHANGED", "PROVIDER_REGISTERED", "MARKETPLACE_UPDATE"):
            assert impostor.ask(kind, {"providerId": known, "id": known})["data"]["code"] == "unknown_type"
        status = impostor.ask("provider:status", {"paused": True, "providerId": known})
        assert status["type"] == "ok"
        victim.send(message("GPU_METRICS_UPDATE", {"metrics": {"cpuPercent": 11}}))
        seen: list[Message] = []
        while 11 not in [one["data"]["metrics"]["cpuPercent"] for one in seen]:
            seen.append(reader.until(lambda heard: heard["type"] == "GPU_METRICS_UPDATE"))
        of_victim = [one for one in seen if one["channel"] == f"provider:{known}"]
        assert [one["data"]["metrics"]["cpuPercent"] for one in of_victim] == [11]
        assert all(one["data"]["providerId"] == own_id for one in seen if one not in of_victim)
    with hub.agent() as impostor:
        # Nor once the other is gone.
        stolen = impostor.ask("provider:register", {"workerId": "victim", "instance": "i"})
        assert stolen["data"]["code"] == "forbidden", stolen


def test_a_session_that_was_replaced_publishes_no_more(hub: AttackedHub) -> None:
    """The old one goes on sending: after the new one's first sample none of its own is heard."""
    token = hub.new_token(Role.PROVIDER)
    with RawClient(hub.port, bearer(token)) as old, hub.client() as reader:
        registered = old.ask("provider:register", {"workerId": "twins", "instance": "same"})
        reader.ask("subscribe:provider", subscriptionId=registered["data"]["providerId"])
        gone = threading.Event()

        def go_on() -> None:
            with suppress(OSError):
                while not gone.is_set():
                    old.send(message("GPU_METRICS_UPDATE", {"metrics": {"cpuPercent": 1}}))
                    gone.wait(0.005)

        publishing = threading.Thread(target=go_on)
        publishing.start()
        try:
            reader.until(lambda heard: heard["type"] == "GPU_METRICS_UPDATE")
            with RawClient(hub.port, bearer(token)) as new:
                again = new.ask("provider:register", {"workerId": "twins", "instance": "same"})
                assert again["data"]["providerId"] == registered["data"]["providerId"]
                for _ in range(50):
                    new.send(message("GPU_METRICS_UPDATE", {"metrics": {"cpuPercent": 2}}))
                    gone.wait(0.005)
                new.ask("ping")
        finally:
            assert old.closed() == 4009
            gone.set()
            publishing.join(SECONDS)
        order: list[int] = []
        while order.count(2) < 50:
            heard = reader.until(lambda one: one["type"] == "GPU_METRICS_UPDATE")
            order.append(heard["data"]["metrics"]["cpuPercent"])
        assert 1 not in order[order.index(2) :]
