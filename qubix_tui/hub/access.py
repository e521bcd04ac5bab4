"""Who may do what: tokens and roles, and from where: ``Origin``, ``Host``, loopback.

The ``Origin`` rule keeps web pages of others from using a browser's place inside the network. The ``Host``
rule keeps a page whose name was re-pointed at this hub (DNS rebinding) from reading it as its own. A program
sends no ``Origin`` and may name any address, so neither rule stands in for a token.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from qubix_tui.hub import addresses
from qubix_tui.hub.engine.base import Change
from qubix_tui.hub.tokens import Tokens
from qubix_tui.protocol import tokens
from qubix_tui.protocol.errors import ErrorCode, ProtocolError
from qubix_tui.protocol.requests import Register, Request
from qubix_tui.protocol.tokens import Role

_ANYONE: Final = frozenset(Role)
_READERS: Final = frozenset({Role.VIEWER, Role.OPERATOR})
_OPERATORS: Final = frozenset({Role.OPERATOR})
# Who has a token of more than a viewer has no use for a provider's.
_NEWCOMERS: Final = frozenset({Role.NOBODY, Role.VIEWER})
# An operator publishes for the simulated providers that its connection registered.
_PUBLISHERS: Final = frozenset({Role.PROVIDER, Role.OPERATOR})

PERMITTED: Final[dict[str, frozenset[Role]]] = {
    "ping": _ANYONE,
    "auth": _ANYONE,
    "enroll": _NEWCOMERS,
    "subscribe:marketplace": _READERS,
    "subscribe:provider": _READERS,
    "subscribe:job": _READERS,
    "unsubscribe": _READERS,
    "provider:history": _READERS,
    "job:why": _READERS,
    "hub:stats": _READERS,
    "provider:register": _PUBLISHERS,
    "provider:status": _PUBLISHERS,
    "GPU_METRICS_UPDATE": _PUBLISHERS,
    "JOB_PROGRESS": _PUBLISHERS,
    "JOB_LOGS": _PUBLISHERS,
    "JOB_COMPLETED": _PUBLISHERS,
    "job:accept": _PUBLISHERS,
    "job:refuse": _PUBLISHERS,
    "job:renew": _PUBLISHERS,
    "provider:remove": _OPERATORS,
    "job:submit": _OPERATORS,
    "job:cancel": _OPERATORS,
    "token:issue": _OPERATORS,
    "token:list": _OPERATORS,
    "token:revoke": _OPERATORS,
    "audit:list": _OPERATORS,
    "enroll:new": _OPERATORS,
}
"""Which roles may send each type of `REQUESTS`."""

_NEEDED: Final = {
    _READERS: "viewer or operator",
    _OPERATORS: "operator",
    _NEWCOMERS: "viewer or nobody (a connection that shows no token)",
    _PUBLISHERS: "provider (or, for simulated providers, operator)",
}

SIMULATED_PREFIX: Final = "sim-"
"""What the id of every simulated provider begins with."""

_FORWARDING_HEADERS: Final = frozenset({"forwarded", "via", "x-real-ip"})


class Identity(msgspec.Struct, frozen=True):
    """Who a connection is.

    Attributes:
        role: What it may do.
        subject: The token's name; for a provider that is bound, its provider id. None without a token.
        token_id: Which token it showed, None without one. Not a secret.
    """

    role: Role
    subject: str | None = None
    token_id: str | None = None


class Refusal(msgspec.Struct, frozen=True):
    """Why an HTTP request, or a handshake, is not answered: the status and a sentence for a person."""

    status: int
    message: str


class Access:
    """The access rules of one hub.

    Args:
        allowed_origins: Origins beside the loopback ones (``https://console.example``) whose pages may read.
        public_names: Names beside the loopback ones by which this hub is reached.
        anonymous: Whether a loopback peer without a token is a viewer.
        trusted_proxies: Whether requests come through a proxy; then no loopback peer is what it seems.

    Raises:
        ValueError: An origin or name has not the right form; the message says what was expected.
    """

    def __init__(
        self,
        *,
        allowed_origins: Iterable[str] = (),
        public_names: Iterable[str] = (),
        anonymous: bool = True,
        trusted_proxies: bool = False,
    ) -> None:
        self._allowed_origins = frozenset(addresses.parse_allowed_origin(text) for text in allowed_origins)
        self._public_names = frozenset(addresses.parse_public_name(text) for text in public_names)
        self._anonymous = anonymous and not trusted_proxies
        self.tokens = Tokens()

    def add_token(self, token: str, role: Role, name: str) -> str:
        """Know a token of this machine's own from now on (only its hash is kept), and give its id.

        Raises:
            ValueError: It has not a token's form, or is not one of that role.
        """
        if not tokens.is_token(token):
            raise ValueError(f"the {role.value} token “{name}” is mistyped or cut short")
        if token[4] != role.value[0]:
            raise ValueError(f"the token “{name}” is not one of the role {role.value}")
        return self.tokens.add_local(token, role, name)

    def authenticate(self, token: str) -> Identity:
        """Tell who shows a token.

        Raises:
            ProtocolError: ``unauthenticated``; it is mistyped, not known here, or revoked.
        """
        token_id, known = self.tokens.find(token)
        subject = known.binding[0] if known.binding else known.name
        return Identity(known.role, subject, token_id)

    def anonymous_identity(self, peer_host: str, forwarded: bool) -> Identity:
        """Tell who comes without a token: a viewer on this very machine, else nobody.

        Args:
            peer_host: The peer's address.
            forwarded: Whether `is_forwarded` its request: then the peer is a proxy, and its client unknown.
        """
        local = peer_host == addresses.UNIX_PEER or addresses.is_loopback(peer_host)
        if self._anonymous and not forwarded and local:
            return Identity(Role.VIEWER)
        return Identity(Role.NOBODY)

    def check_origin(self, origins: Sequence[str]) -> Refusal | None:
        """Judge the values of all ``Origin`` headers: absent, loopback or allowed; else 403."""
        if not origins:
            return None
        if len(origins) > 1:
            return Refusal(403, "refused: the request has several Origin headers; exactly one can be judged")
        origin = addresses.parse_origin(origins[0])
        if origin is not None:
            name = origin[1]
            if name in addresses.LOOPBACK_NAMES or origin in self._allowed_origins:
                return None
        shown = addresses.printable(origins[0])
        advice = "start it with --allow-origin and that origin" if origin else "no option can allow this one"
        return Refusal(403, f"refused: pages of the origin “{shown}” may not use this hub; {advice}")

    def check_host(self, hosts: Sequence[str]) -> Refusal | None:
        """Judge the values of all ``Host`` headers: a loopback or public name, or an IP literal; else 421."""
        if len(hosts) != 1:
            return Refusal(
                421, f"refused: the request has {len(hosts)} Host headers; exactly one is expected"
            )
        authority = addresses.parse_authority(hosts[0])
        if authority is not None:
            name = authority[0]
            if (
                name in addresses.LOOPBACK_NAMES
                or name in self._public_names
                or addresses.is_ip_literal(name)
            ):
                return None
        shown = addresses.printable(hosts[0])
        return Refusal(
            421,
            f"refused: this hub is not known as “{shown}”; start it with --public-name and that name, "
            "or use its address",
        )

    def authorise(self, identity: Identity, request: Request) -> None:
        """Check that an identity may make a request.

        Raises:
            ProtocolError: ``unauthenticated`` for nobody, else ``forbidden``; says which role is needed.
        """
        permitted = PERMITTED[request.type]
        if identity.role not in permitted:
            needed = f"{request.type} needs the role {_NEEDED[permitted]}"
            if identity.role is Role.NOBODY:
                raise ProtocolError(
                    ErrorCode.UNAUTHENTICATED,
                    f"{needed}; send auth with a token first, or Authorization: Bearer when connecting",
                )
            why = "" if identity.token_id else ", for it showed no token"
            raise ProtocolError(
                ErrorCode.FORBIDDEN, f"{needed}; this connection has the role {identity.role.value}{why}"
            )
        if isinstance(request.data, Register):
            _check_simulated(identity, request.data)

    @contextlib.contextmanager
    def claim(
        self, identity: Identity, worker_id: str, provider_id: str
    ) -> Iterator[tuple[Identity, list[Change]]]:
        """Have a provider for the token that registers it, while that is being stored (`Tokens.claim`).

        Gives the identity whose ``subject`` is the provider id (an operator's as it is), and what is to be
        written.

        Raises:
            ProtocolError: ``forbidden``; the token has another provider, or the provider another token.
                ``unauthenticated``; the token was revoked meanwhile.
        """
        if identity.role is Role.OPERATOR:
            if not provider_id.startswith(SIMULATED_PREFIX):
                raise ProtocolError(ErrorCode.FORBIDDEN, f"{provider_id} is not a simulated provider")
            yield identity, []
            return
        token_id = identity.token_id
        if identity.role is not Role.PROVIDER or token_id is None:
            raise ProtocolError(ErrorCode.FORBIDDEN, "registering needs a provider's token")
        with self.tokens.claim(token_id, provider_id, worker_id) as changes:
            yield Identity(Role.PROVIDER, provider_id, token_id), changes

    def bind(self, identity: Identity, worker_id: str) -> None:
        """Know that what `claim` gave was stored."""
        if identity.role is Role.PROVIDER and identity.token_id and identity.subject:
            self.tokens.bind(identity.token_id, identity.subject, worker_id)


def is_forwarded(header_names: Iterable[str]) -> bool:
    """Whether a request says that it came through a proxy (Forwarded, X-Forwarded-*, Via, X-Real-IP)."""
    return any(
        name in _FORWARDING_HEADERS or name.startswith("x-forwarded-")
        for name in map(str.lower, header_names)
    )


def bearer_token(authorizations: Sequence[str]) -> str | None:
    """Give the token of the ``Authorization`` headers' values, None where there are none.

    Raises:
        ProtocolError: ``unauthenticated``; there are several, or it is not ``Bearer``.
    """
    if not authorizations:
        return None
    scheme, _, token = authorizations[0].strip().partition(" ")
    if len(authorizations) > 1 or scheme.lower() != "bearer":
        raise ProtocolError(
            ErrorCode.UNAUTHENTICATED, "expected one Authorization header: Bearer and a token"
        )
    return token.strip()


def _check_simulated(identity: Identity, spec: Register) -> None:
    if identity.role is Role.OPERATOR and not spec.simulated:
        raise ProtocolError(
            ErrorCode.FORBIDDEN,
            "an operator registers simulated providers only; a real one needs a provider's token",
            field="data.simulated",
        )
    if identity.role is Role.PROVIDER and spec.simulated:
        raise ProtocolError(
            ErrorCode.FORBIDDEN,
            "a simulated provider is registered with an operator's token, not with a provider's",
            field="data.simulated",
        )
