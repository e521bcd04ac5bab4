"""Who may use a console in a browser: whoever opened a link that works once, from then on by a cookie.

Kept out are other users of the machine, whoever can reach the port, pages of other origins, and pages whose
name was re-pointed at this address (DNS rebinding). Not kept out are programs of the same user, and other web
servers under the same host name that this browser visits: browsers show a cookie to all ports of a host.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

MAX_SESSIONS: Final = 32
"""Browsers that may be let in; one more, and the one that came first has to come again."""

_BYTES: Final = 32


class Refusal(NamedTuple):
    """Why a request is not answered."""

    status: int
    sentence: str


class Gate:
    """The rules. Knows no socket.

    Args:
        url: Where browsers find the console, without a path: ``http://127.0.0.1:8080``.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._host = parts.netloc
        self.is_secure = parts.scheme == "https"
        self.cookie = f"qubix_web_{parts.port or parts.scheme}"
        """Name of the cookie: two consoles of one host do not take each other's."""
        self._code = ""
        self._sessions: dict[bytes, None] = {}
        self.renew()

    @property
    def link(self) -> str:
        """The link that lets the next browser in."""
        return f"{self._origin}/?code={self._code}"

    def renew(self) -> None:
        """Make another link; the one before works no longer."""
        self._code = secrets.token_urlsafe(_BYTES)

    def redeem(self, code: str) -> str | None:
        """Give the cookie for who shows the code of the link, once; None for any other code."""
        if not hmac.compare_digest(code.encode(errors="replace"), self._code.encode()):
            return None
        self.renew()
        session = secrets.token_urlsafe(_BYTES)
        self._sessions[_digest(session)] = None
        if len(self._sessions) > MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return session

    def refuse(self, headers: Mapping[str, str], session: str | None) -> Refusal | None:
        """Say why a request is not answered; None where it may be.

        Args:
            headers: Of the request.
            session: The value of the cookie; None without one.
        """
        return self.refuse_stranger(headers) or self._refuse_session(session)

    def refuse_stranger(self, headers: Mapping[str, str]) -> Refusal | None:
        """Say why a request is not even asked for its cookie: it names another host, or is another page's."""
        if headers.get("Host", "").lower() != self._host.lower():
            return Refusal(421, f"This console is at {self._origin} and answers under no other name.")
        origin = headers.get("Origin")
        if origin is not None and origin.lower() != self._origin.lower():
            return Refusal(403, "Pages of other origins may not use this console.")
        return None

    def _refuse_session(self, session: str | None) -> Refusal | None:
        if session is not None and _digest(session) in self._sessions:
            return None
        return Refusal(
            401,
            "This console needs the link that “qubix web” shows in its terminal. Each link works once; "
            "the terminal has the next one.",
        )


def _digest(session: str) -> bytes:
    return hashlib.sha256(session.encode(errors="replace")).digest()
