"""Who may do what, and from where."""

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from qubix_tui.hub.access import Access, Identity, bearer_token, is_forwarded
from qubix_tui.hub.tokens import token_id_of
from qubix_tui.protocol.errors import ErrorCode, ProtocolError
from qubix_tui.protocol.requests import REQUESTS, Register, Request
from qubix_tui.protocol.tokens import Role, hash_token, new_token

READ = {
    "subscribe:marketplace",
    "subscribe:provider",
    "subscribe:job",
    "unsubscribe",
    "provider:history",
    "job:why",
    "hub:stats",
}
PUBLISH = {
    "provider:register",
    "provider:status",
    "GPU_METRICS_UPDATE",
    "JOB_PROGRESS",
    "JOB_LOGS",
    "JOB_COMPLETED",
    "job:accept",
    "job:refuse",
    "job:renew",
}
OPERATE = {
    "provider:remove",
    "job:submit",
    "job:cancel",
    "token:issue",
    "token:list",
    "token:revoke",
    "audit:list",
    "enroll:new",
}
ANYONE = {"ping", "auth"}
ENROLL = {"enroll"}

MAY = {
    Role.NOBODY: ANYONE | ENROLL,
    Role.VIEWER: ANYONE | READ | ENROLL,
    Role.OPERATOR: ANYONE | READ | OPERATE | PUBLISH,
    Role.PROVIDER: ANYONE | PUBLISH,
}


def request(kind: str, data: Any = None) -> Request:
    """A request of a type; its data does not matter to most rules."""
    return Request(type=kind, data=data)


def provider_access() -> tuple[Access, Identity, Identity]:
    """Access with two provider tokens, and who shows them."""
    access = Access()
    first, second = new_token(Role.PROVIDER), new_token(Role.PROVIDER)
    access.add_token(first, Role.PROVIDER, "first")
    access.add_token(second, Role.PROVIDER, "second")
    return access, access.authenticate(first), access.authenticate(second)


def bind(access: Access, identity: Identity, worker_id: str, provider_id: str) -> Identity:
    """Register a provider, and have that stored; gives who the connection is from then on."""
    with access.claim(identity, worker_id, provider_id) as (claimed, _):
        access.bind(claimed, worker_id)
    return claimed


def refused(code: ErrorCode, call: Any, *arguments: object) -> str:
    """Check that a call is refused with a code, and give the sentence that says why."""
    with pytest.raises(ProtocolError) as caught:
        call(*arguments)
    assert caught.value.code is code
    return caught.value.message


def test_the_table_of_this_test_names_every_request() -> None:
    """A new request type has to be given to somebody here as well."""
    assert set().union(*MAY.values()) == REQUESTS.keys()


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("kind", REQUESTS)
def test_each_role_may_do_its_own(kind: str, role: Role) -> None:
    """Every type of request, by every role: as the contract says, and the refusal names a role that may."""
    access = Access()
    if kind in MAY[role]:
        access.authorise(Identity(role), request(kind))
        return
    code = ErrorCode.UNAUTHENTICATED if role is Role.NOBODY else ErrorCode.FORBIDDEN
    message = refused(code, access.authorise, Identity(role), request(kind))
    assert kind in message
    helpful = [other.value for other in Role if kind in MAY[other]]
    assert any(f"role {name}" in message for name in helpful)
    assert ("showed no token" in message) is (role is not Role.NOBODY)
    if role is not Role.NOBODY:
        known = Identity(role, "somebody", "3f9a1c07b2d4")
        assert "showed no token" not in refused(code, access.authorise, known, request(kind))


@pytest.mark.parametrize(
    ("role", "simulated", "allowed"),
    [
        (Role.OPERATOR, True, True),
        (Role.OPERATOR, False, False),
        (Role.PROVIDER, False, True),
        (Role.PROVIDER, True, False),
    ],
)
def test_simulated_providers_come_through_an_operator_alone(
    role: Role, simulated: bool, allowed: bool
) -> None:
    """An operator registers made-up providers and no real ones; a provider's token the reverse."""
    registration = request("provider:register", Register(worker_id="w", instance="i", simulated=simulated))
    if allowed:
        Access().authorise(Identity(role), registration)
    else:
        assert "simulated" in refused(ErrorCode.FORBIDDEN, Access().authorise, Identity(role), registration)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, Role.PROVIDER])
def test_a_known_token_tells_who_shows_it(role: Role) -> None:
    """The identity has the token's role and name, and an id that is not the token."""
    access = Access()
    token = new_token(role)
    token_id = access.add_token(token, role, "lab")
    assert access.authenticate(token) == Identity(role, "lab", token_id)
    assert token_id not in token


def test_only_hashes_of_tokens_are_kept() -> None:
    """Nothing in the store, nor in an identity, would let a reader in."""
    access = Access()
    token = new_token(Role.OPERATOR)
    access.add_token(token, Role.OPERATOR, "lab")
    assert token not in repr(vars(access.tokens))
    assert hash_token(token) in repr(vars(access.tokens))
    assert hash_token(token) not in repr(access.authenticate(token))


def test_a_token_that_is_not_known_is_refused() -> None:
    """Also one whose public id equals a known token's, which only the whole comparison can tell."""
    access = Access()
    token, stranger = new_token(Role.VIEWER), new_token(Role.VIEWER)
    token_id = access.add_token(token, Role.VIEWER, "lab")
    assert "does not know" in refused(ErrorCode.UNAUTHENTICATED, access.authenticate, stranger)
    tokens = access.tokens
    tokens._hashes[token_id_of(hash_token(stranger))] = tokens._hashes[token_id]
    refused(ErrorCode.UNAUTHENTICATED, access.authenticate, stranger)


@pytest.mark.parametrize(
    "damage", [lambda t: t[:-1], lambda t: t + "0", lambda t: t[:10] + "x" + t[11:], lambda _: ""]
)
def test_a_damaged_token_is_called_that(damage: Any) -> None:
    """A mistyped or cut token is told apart from one that is refused."""
    access = Access()
    token = new_token(Role.VIEWER)
    access.add_token(token, Role.VIEWER, "lab")
    assert "mistyped" in refused(ErrorCode.UNAUTHENTICATED, access.authenticate, damage(token))


@given(st.text())
def test_no_text_is_a_token(text: str) -> None:
    """Whatever is shown, it is refused as unauthenticated and raises nothing else."""
    access = Access()
    access.add_token(new_token(Role.OPERATOR), Role.OPERATOR, "lab")
    refused(ErrorCode.UNAUTHENTICATED, access.authenticate, text)


def test_a_token_is_added_for_its_own_role_only() -> None:
    """A caller that mixes tokens up is told so, not obeyed."""
    with pytest.raises(ValueError, match="not one of the role operator"):
        Access().add_token(new_token(Role.VIEWER), Role.OPERATOR, "lab")
    with pytest.raises(ValueError, match="mistyped"):
        Access().add_token("secret", Role.OPERATOR, "lab")


def test_adding_a_token_again_keeps_its_binding() -> None:
    """Reading the same token file twice does not free the token for another provider."""
    access = Access()
    token = new_token(Role.PROVIDER)
    access.add_token(token, Role.PROVIDER, "lab")
    bind(access, access.authenticate(token), "w1", "rig-1")
    access.add_token(token, Role.PROVIDER, "lab")
    refused(ErrorCode.FORBIDDEN, bind, access, access.authenticate(token), "w2", "rig-2")


def test_a_provider_token_is_bound_to_the_first_it_registers() -> None:
    """The same (id, workerId) may come again; another id or another workerId may not."""
    access, identity, _ = provider_access()
    bound = bind(access, identity, "w1", "rig-1")
    assert bound == Identity(Role.PROVIDER, "rig-1", identity.token_id)
    assert bind(access, bound, "w1", "rig-1") == bound
    refused(ErrorCode.FORBIDDEN, bind, access, bound, "w1", "rig-2")
    refused(ErrorCode.FORBIDDEN, bind, access, bound, "w2", "rig-1")


def test_a_bound_token_authenticates_as_its_provider() -> None:
    """On the next connection the token says which provider it is for."""
    access = Access()
    token = new_token(Role.PROVIDER)
    access.add_token(token, Role.PROVIDER, "lab")
    bind(access, access.authenticate(token), "w1", "rig-1")
    assert access.authenticate(token).subject == "rig-1"


def test_a_provider_can_not_register_as_another() -> None:
    """A workerId is public: another token that names it is refused, and is not bound by the attempt."""
    access, first, second = provider_access()
    bind(access, first, "w1", "rig-1")
    refused(ErrorCode.FORBIDDEN, bind, access, second, "w1", "rig-1")
    assert bind(access, second, "w2", "rig-2").subject == "rig-2"


def test_a_refused_binding_claims_nothing() -> None:
    """The id that a bound token may not have stays free for the token that it belongs to."""
    access, first, second = provider_access()
    bind(access, first, "w1", "rig-1")
    refused(ErrorCode.FORBIDDEN, bind, access, first, "w2", "rig-2")
    assert bind(access, second, "w2", "rig-2").subject == "rig-2"


def test_an_operator_binds_simulated_providers_only() -> None:
    """Any number of them, and stays what it is; a viewer binds none."""
    access = Access()
    operator = Identity(Role.OPERATOR, "lab", "t")
    assert bind(access, operator, "w1", "sim-w1") == operator
    assert bind(access, operator, "w2", "sim-w2") == operator
    refused(ErrorCode.FORBIDDEN, bind, access, operator, "w3", "rig-3")
    refused(ErrorCode.FORBIDDEN, bind, access, Identity(Role.VIEWER), "w1", "sim-w1")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
def test_a_loopback_peer_is_a_viewer(host: str) -> None:
    """Without a token, on this very machine, one may look."""
    assert Access().anonymous_identity(host, forwarded=False) == Identity(Role.VIEWER)


@pytest.mark.parametrize(
    "host", ["192.168.1.5", "0.0.0.0", "::", "::ffff:10.0.0.1", "fe80::1", "localhost", "", "127.0.0.1 "]
)
def test_any_other_peer_is_nobody(host: str) -> None:
    """Addresses of a network, and whatever is no address, get no role."""
    assert Access().anonymous_identity(host, forwarded=False) == Identity(Role.NOBODY)


def test_a_loopback_peer_may_be_nobody() -> None:
    """Behind a proxy, trusted or not, and where anonymous viewers are not wanted, loopback means nothing."""
    nobody = Identity(Role.NOBODY)
    assert Access().anonymous_identity("127.0.0.1", forwarded=True) == nobody
    assert Access(anonymous=False).anonymous_identity("127.0.0.1", forwarded=False) == nobody
    assert Access(trusted_proxies=True).anonymous_identity("127.0.0.1", forwarded=False) == nobody


@pytest.mark.parametrize(
    "name", ["Forwarded", "X-Forwarded-For", "x-forwarded-host", "X-FORWARDED-ANYTHING", "Via", "X-Real-IP"]
)
def test_forwarding_headers_are_recognised(name: str) -> None:
    """In any case of letters, among any others."""
    assert is_forwarded(["Host", name])
    assert not is_forwarded(["Host", "Origin", "X-Forwarded", "Viable"])


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost",
        "https://localhost:3000",
        "http://127.0.0.1:8080",
        "http://[::1]:5173",
        "http://localhost:1",
        "http://localhost:65535",
        "HTTP://LOCALHOST:3000",
    ],
)
def test_loopback_origins_may_read(origin: str) -> None:
    """A page served on this machine is the user's own, on any port."""
    assert Access().check_origin([origin]) is None


def test_a_program_has_no_origin() -> None:
    """Absent is fine: only browsers send one, and they always do."""
    assert Access().check_origin([]) is None


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "https://evil.example",
        "http://localhost.evil.example",
        "http://evil.example/http://localhost",
        "http://localhost@evil.example",
        "http://localhost:3000/",
        "http://localhost:0",
        "http://localhost:65536",
        "http://localhost:",
        "http://127.0.0.2",
        "http://[::1",
        "ftp://localhost",
        "file://localhost",
        "localhost",
        "//localhost",
        "http://localhost, http://localhost",
        "http://localhost\x00",
    ],
)
def test_any_other_origin_is_refused(origin: str) -> None:
    """403, with a sentence that repeats the origin harmlessly; ``null`` and near misses too."""
    refusal = Access().check_origin([origin])
    assert refusal is not None
    assert refusal.status == 403
    assert refusal.message.isprintable()
    assert origin.replace("\x00", "�") in refusal.message


def test_the_refusal_of_an_origin_says_how_to_allow_it() -> None:
    """Where an option helps it is named; where none does that is said."""
    refusal = Access().check_origin(["https://console.example"])
    assert refusal is not None
    assert "--allow-origin" in refusal.message
    refusal = Access().check_origin(["null"])
    assert refusal is not None
    assert "no option" in refusal.message


@pytest.mark.parametrize("origins", [["http://localhost", "http://localhost"], ["null", "http://localhost"]])
def test_several_origins_are_refused(origins: list[str]) -> None:
    """Duplicated headers are a forgery, also where each of them would do."""
    refusal = Access().check_origin(origins)
    assert refusal is not None
    assert refusal.status == 403
    assert "several" in refusal.message


def test_an_allowed_origin_is_exact() -> None:
    """Scheme, name and port count; a default port may be written out."""
    access = Access(
        allowed_origins=["https://console.example", "http://lab.example:8080", "http://old.example:80"]
    )
    assert access.check_origin(["https://console.example"]) is None
    assert access.check_origin(["https://console.example:443"]) is None
    assert access.check_origin(["http://lab.example:8080"]) is None
    assert access.check_origin(["http://old.example"]) is None
    for other in (
        "http://console.example",
        "https://console.example:8443",
        "https://a.console.example",
        "http://lab.example",
    ):
        assert access.check_origin([other]) is not None


@pytest.mark.parametrize(
    "origin", ["*", "null", "console.example", "https://console.example/", "https://*.example", ""]
)
def test_an_origin_that_can_not_be_allowed_is_an_error(origin: str) -> None:
    """A wildcard, a path or a bare name would not mean what its author thinks."""
    with pytest.raises(ValueError, match="no origin"):
        Access(allowed_origins=[origin])


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:3001",
        "LocalHost.",
        "127.0.0.1:3001",
        "192.168.1.5:3001",
        "[::1]:3001",
        "[fe80::1]",
        "hub.example:443",
        "HUB.example",
    ],
)
def test_hosts_that_are_this_hub(host: str) -> None:
    """Loopback names, addresses (which nobody can re-point), and the names that it was given."""
    assert Access(public_names=["hub.example"]).check_host([host]) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:3001",
        "localhost.evil.example",
        "a.hub.example",
        "user@localhost",
        "localhost:3001/",
        "localhost:0",
        "localhost:70000",
        "127.0.0.1.evil.example",
        "127.1",
        "2130706433",
        "[::1",
        "::1",
        "[localhost]",
        "",
        " localhost",
    ],
)
def test_any_other_host_is_misdirected(host: str) -> None:
    """421 with a sentence: a name that was re-pointed at this machine can't be read as its own."""
    refusal = Access(public_names=["hub.example"]).check_host([host])
    assert refusal is not None
    assert refusal.status == 421
    assert "--public-name" in refusal.message


@pytest.mark.parametrize("hosts", [[], ["localhost", "localhost"], ["localhost", "evil.example"]])
def test_exactly_one_host_is_expected(hosts: list[str]) -> None:
    """None, or two, can't be judged."""
    refusal = Access().check_host(hosts)
    assert refusal is not None
    assert refusal.status == 421


@pytest.mark.parametrize("name", ["hub.example:443", "https://hub.example", "", "*", "hub example"])
def test_a_public_name_is_a_name_alone(name: str) -> None:
    """Ports, schemes and wildcards are refused when the hub is made."""
    with pytest.raises(ValueError, match="no host name"):
        Access(public_names=[name])


@given(st.text(), st.text())
def test_no_text_breaks_the_header_rules(origin: str, host: str) -> None:
    """Whatever the headers hold, they are judged, and the sentence is fit to be shown."""
    access = Access()
    for refusal in (access.check_origin([origin]), access.check_host([host])):
        assert refusal is None or (refusal.message.isprintable() and len(refusal.message) < 400)


@pytest.mark.parametrize(
    ("values", "token"),
    [([], None), (["Bearer qbx_v"], "qbx_v"), (["bearer   qbx_v "], "qbx_v"), (["Bearer"], "")],
)
def test_the_bearer_token_of_a_request(values: list[str], token: str | None) -> None:
    """The scheme is read in any case of letters; without the header there is no token."""
    assert bearer_token(values) == token


@pytest.mark.parametrize("values", [["Basic abc"], ["qbx_v"], [""], ["Bearer a", "Bearer a"]])
def test_other_authorizations_are_refused(values: list[str]) -> None:
    """Another scheme, or two headers, is an error and not an anonymous visit."""
    assert "Bearer" in refused(ErrorCode.UNAUTHENTICATED, bearer_token, values)
