"""Who is let in to a console in a browser: rules, without a socket."""

from urllib.parse import parse_qs, urlsplit

from hypothesis import given
from hypothesis import strategies as st

from qubix_tui.web.gate import MAX_SESSIONS, Gate

URL = "http://127.0.0.1:8080"
HERE = {"Host": "127.0.0.1:8080"}


def code_of(gate: Gate) -> str:
    """The code in the link."""
    return parse_qs(urlsplit(gate.link).query)["code"][0]


def let_in(gate: Gate) -> str:
    """Open the link."""
    session = gate.redeem(code_of(gate))
    assert session is not None
    return session


def test_a_link_works_once() -> None:
    """Its code gives a cookie, and then nothing; the next link is another one."""
    gate = Gate(URL)
    code = code_of(gate)
    session = gate.redeem(code)
    assert session
    assert gate.redeem(code) is None
    assert code_of(gate) != code
    assert gate.refuse(HERE, session) is None


def test_without_a_cookie_nothing_is_answered() -> None:
    """No cookie, a made-up one, or the code itself: all are told where the link is."""
    gate = Gate(URL)
    for session in (None, "", "x" * 43, code_of(gate)):
        refusal = gate.refuse(HERE, session)
        assert refusal is not None
        assert refusal.status == 401
        assert "terminal" in refusal.sentence


def test_the_code_and_the_cookie_can_not_be_guessed() -> None:
    """Both are 256 random bits, and none is another's."""
    gates = [Gate(URL) for _ in range(50)]
    secrets = {code_of(gate) for gate in gates} | {let_in(gate) for gate in gates}
    assert len(secrets) == 100
    assert all(len(secret) == 43 for secret in secrets)


def test_another_name_is_refused_before_all_else() -> None:
    """A page that had its name re-pointed at this address gets nothing, whatever it shows."""
    gate = Gate(URL)
    session = let_in(gate)
    for host in ("evil.example:8080", "localhost:8080", "127.0.0.1", "127.0.0.1:8081", ""):
        refusal = gate.refuse({"Host": host}, session)
        assert refusal is not None
        assert refusal.status == 421
    assert gate.refuse({}, session) is not None


def test_pages_of_other_origins_are_refused() -> None:
    """A page elsewhere can make a browser send its cookie, but not another origin."""
    gate = Gate(URL)
    session = let_in(gate)
    for origin in ("https://evil.example", "null", "http://127.0.0.1:8081", "https://127.0.0.1:8080"):
        refusal = gate.refuse({**HERE, "Origin": origin}, session)
        assert refusal is not None
        assert refusal.status == 403
    assert gate.refuse({**HERE, "Origin": URL}, session) is None


def test_the_public_address_is_the_one_that_counts() -> None:
    """Behind a proxy the name is the proxy's, and the cookie goes over TLS alone."""
    gate = Gate("https://console.example.org")
    assert gate.is_secure
    assert gate.link.startswith("https://console.example.org/?code=")
    session = let_in(gate)
    assert gate.refuse({"Host": "console.example.org"}, session) is None
    assert gate.refuse(HERE, session) is not None


def test_browsers_are_bounded() -> None:
    """One more than there may be, and the first has to come again; all others stay."""
    gate = Gate(URL)
    sessions = [let_in(gate) for _ in range(MAX_SESSIONS + 1)]
    assert gate.refuse(HERE, sessions[0]) is not None
    assert all(gate.refuse(HERE, session) is None for session in sessions[1:])


@given(st.text(max_size=60))
def test_no_other_code_is_taken(code: str) -> None:
    """Whatever is shown in its place, half characters included, is no code, and the link stays good."""
    gate = Gate(URL)
    link = gate.link
    assert gate.redeem(code) is None
    assert gate.refuse(HERE, code) is not None
    assert gate.link == link


def test_half_of_a_character_is_no_code() -> None:
    """A surrogate alone can't be encoded; it is refused like any other text."""
    gate = Gate(URL)
    assert gate.redeem("\ud800") is None
    assert gate.refuse(HERE, "\ud800") is not None
