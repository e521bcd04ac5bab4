"""Who may do what: tokens and roles, and from where: ``Origin``, ``Host``, loopback."""

from collections.abc import Iterable, Sequence

import msgspec

from qubix_tui.protocol.requests import Request
from qubix_tui.protocol.tokens import Role


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
        raise NotImplementedError

    def add_token(self, token: str, role: Role, name: str) -> str:
        """Know a token from now on (its hash is kept), and give its id.

        Raises:
            ValueError: It has not a token's form, or is not one of that role.
        """
        raise NotImplementedError

    def authenticate(self, token: str) -> Identity:
        """Tell who shows a token.

        Raises:
            ProtocolError: ``unauthenticated``; it is mistyped, or not known here.
        """
        raise NotImplementedError

    def anonymous_identity(self, peer_host: str, forwarded: bool) -> Identity:
        """Tell who comes without a token: a viewer, or nobody.

        Args:
            peer_host: The peer's address.
            forwarded: Whether `is_forwarded` its request.
        """
        raise NotImplementedError

    def check_origin(self, origins: Sequence[str]) -> Refusal | None:
        """Judge all values of the ``Origin`` headers: absent, loopback or allowed; else 403."""
        raise NotImplementedError

    def check_host(self, hosts: Sequence[str]) -> Refusal | None:
        """Judge all values of the ``Host`` headers: a loopback name, an IP literal or a public name; else 421."""
        raise NotImplementedError

    def authorise(self, identity: Identity, request: Request) -> None:
        """Check that an identity may make a request.

        Raises:
            ProtocolError: ``unauthenticated`` for nobody, else ``forbidden``; says which role is needed.
        """
        raise NotImplementedError

    def bind_provider(self, identity: Identity, worker_id: str, provider_id: str) -> Identity:
        """Bind a provider's token to the first (id, workerId) that it registers.

        Returns:
            The identity whose ``subject`` is the provider id (an operator's comes back as it is).

        Raises:
            ProtocolError: ``forbidden``; the token is bound to another provider, or another token to this one.
        """
        raise NotImplementedError


def is_forwarded(header_names: Iterable[str]) -> bool:
    """Whether a request says that it came through a proxy (Forwarded, X-Forwarded-*, Via, X-Real-IP)."""
    raise NotImplementedError


def bearer_token(authorizations: Sequence[str]) -> str | None:
    """Give the token of the ``Authorization`` headers' values, None where there are none.

    Raises:
        ProtocolError: ``unauthenticated``; there are several, or it is not ``Bearer``.
    """
    raise NotImplementedError
