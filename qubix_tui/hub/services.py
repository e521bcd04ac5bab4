"""The parts of a hub that its conversations share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from qubix_tui.hub.access import Access
from qubix_tui.hub.clock import Clock
from qubix_tui.hub.credentials import Credentials
from qubix_tui.hub.digest import Digests
from qubix_tui.hub.engine.base import Change, Engine, EngineUnavailable, caught_up
from qubix_tui.hub.fanout import Fanout
from qubix_tui.hub.jobs import Jobs
from qubix_tui.hub.limits import Admission, Limits, LoginLimiter
from qubix_tui.hub.nodes import Nodes
from qubix_tui.hub.providers import Providers
from qubix_tui.hub.publisher import Publisher
from qubix_tui.hub.store_watch import StoreWatch
from qubix_tui.hub.telemetry import Telemetry
from qubix_tui.protocol.errors import ErrorCode, ProtocolError

JUDGED_SECONDS: Final = 2.0
"""When to show a token again that could not be judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What a session needs to answer its client."""

    clock: Clock
    started_at: float
    """When the hub started, by the monotonic clock."""
    engine: Engine
    access: Access
    credentials: Credentials
    limits: Limits
    admission: Admission
    logins: LoginLimiter
    telemetry: Telemetry
    fanout: Fanout
    publisher: Publisher
    providers: Providers
    jobs: Jobs
    digests: Digests
    nodes: Nodes
    store_watch: StoreWatch
    outbox_bytes: int
    """Bytes that may wait for one client."""

    def follow(self, changes: Sequence[Change]) -> None:
        """Know what another hub has written: first providers, for jobs look at these."""
        self.credentials.follow(changes)
        self.providers.follow(changes)
        self.jobs.follow(changes)

    def is_news(self, token: str) -> bool:
        """Whether another hub may have handed out a token of which this one has not heard."""
        return self.engine.cluster.node is not None and self.access.tokens.is_news(token)

    async def catch_up(self) -> None:
        """Hear of what other hubs have handed out by now.

        Raises:
            ProtocolError: ``unavailable``; the store can't be asked.
        """
        try:
            await caught_up(self.engine)
        except EngineUnavailable:
            # Why is not for somebody who may be anybody.
            raise ProtocolError(
                ErrorCode.UNAVAILABLE,
                "this hub can't tell now whether the token is good; show it again in a moment",
                retry_after=JUDGED_SECONDS,
            ) from None

    def refuse_login(self, address: str, error: ProtocolError) -> None:
        """Count and note a login that is refused.

        Raises:
            ProtocolError: ``rate_limited``, to be answered in place of ``error``.
        """
        self.telemetry.auth_failures += 1
        self.logins.failed(address)
        self.credentials.login_refused(address, error.message)
