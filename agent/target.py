"""Which hub, and which token to show there."""

import os
from pathlib import Path
from typing import NamedTuple

from agent import enrolment
from agent.transport import SYSTEM_TRUST, Transport
from qubix_tui import home
from qubix_tui.protocol import DEFAULT_PORT
from qubix_tui.protocol.tokens import Role, is_token

DEFAULT_URL = f"ws://localhost:{DEFAULT_PORT}"


class TargetError(Exception):
    """The token given can't be used; the message says why."""


class Target(NamedTuple):
    """The hub to dial, the token to show there, and how."""

    url: str
    token: str | None
    transport: Transport = SYSTEM_TRUST

    def __repr__(self) -> str:
        """Without the token: it must never reach a log."""
        return f"Target(url={self.url!r}, token={'None' if self.token is None else '…'}, {self.transport})"


class TargetFinder:
    """Settles the target; asked again whenever the agent is refused, since all of it may change.

    The hub of this machine may be started after the agent, on another port, with a token that was not there
    before; a token file may get a new token; the agent may be enrolled while it runs.

    Args:
        hub: The address that was set.
        token_file: The file that was set; it goes before ``QUBIX_TOKEN``.
        directory: QUBIX_HOME.
        transport: How to reach the hub.
    """

    def __init__(
        self,
        hub: str | None,
        token_file: Path | None,
        directory: Path,
        transport: Transport = SYSTEM_TRUST,
    ) -> None:
        self._hub = hub
        self._token_file = token_file
        self._directory = directory
        self._transport = transport

    def find(self) -> Target:
        """Give the hub and the token as they are now.

        Raises:
            TargetError: The token given can't be used.
            agent.state.StateError: What was kept of an enrollment can't be read.
            qubix_tui.home.HomeError: The local token, or the file given, can't be read.
        """
        enrolled = enrolment.kept(self._directory / "agent")
        asked = self._hub or (enrolled.hub if enrolled else None)
        url = asked or home.running_hub(home=self._directory) or DEFAULT_URL
        own = enrolled.token if enrolled and enrolled.is_for(url) else None
        url, local = home.credentials_for(url, Role.PROVIDER, home=self._directory)
        return Target(url, self._given_token() or own or local, self._transport)

    def token_origin(self) -> str | None:
        """Say where the token comes from that `find` gives, in words; None where there is none.

        Raises as `find` does.
        """
        if self._token_file is not None:
            return str(self._token_file)
        if os.environ.get("QUBIX_TOKEN"):
            return "QUBIX_TOKEN"
        token, enrolled = self.find().token, enrolment.kept(self._directory / "agent")
        if token is None:
            return None
        return "the enrollment" if enrolled and enrolled.token == token else "the local hub's own"

    def _given_token(self) -> str | None:
        if self._token_file is not None:
            try:
                return home.read_token(self._token_file)
            except FileNotFoundError:
                raise TargetError(f"there is no token file {self._token_file}") from None
        token = os.environ.get("QUBIX_TOKEN") or None
        if token is not None and not is_token(token):
            raise TargetError("QUBIX_TOKEN holds no valid token (mistyped, or cut short)")
        return token
