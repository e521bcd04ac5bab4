"""Says to the hub what the sampler reads, and survives the hub."""

import asyncio
import secrets
from collections.abc import Callable
from typing import Final

from agent.sampler import Sample
from agent.target import Target
from qubix_tui import __version__
from qubix_tui.client import AGENT, ClientError, Connection, ConnectionState, Refused, RetryPolicy
from qubix_tui.protocol.errors import ErrorCode
from qubix_tui.protocol.records import ProviderSpec
from qubix_tui.protocol.requests import PublishMetrics, Register

REGISTER: Final = "provider:register"
METRICS: Final = "GPU_METRICS_UPDATE"

REFUSED_SECONDS: Final = 60.0
"""How long the agent stays away from a hub that refused it: what has to change is changed by a person."""

_PASSING: Final = frozenset({ErrorCode.RATE_LIMITED, ErrorCode.UNAVAILABLE, ErrorCode.INTERNAL})
"""Refusals that have nothing to do with who asks."""


class Link:
    """One agent's tie to a hub: registers on every open, sends each sample, never gives up.

    Everything happens in the event loop that called `start`.

    Args:
        target: The hub and the token.
        spec: Gives the record to register with, as it is now.
        registered: Called with the provider's id after each registration.
        complain: Called with one sentence each time there is a new reason why it is not registered.
        instance: Random per agent start, so that the hub tells a reconnect from a second agent.
        retry: When to dial again.
        insecure: Whether the token may cross a network in the clear.

    Raises:
        qubix_tui.client.BadUrl: The address can't be dialled, or the token not sent there.
    """

    def __init__(
        self,
        target: Target,
        *,
        spec: Callable[[], ProviderSpec],
        registered: Callable[[str], None],
        complain: Callable[[str], None],
        instance: str,
        retry: RetryPolicy = AGENT,
        insecure: bool = False,
    ) -> None:
        self.target = target
        self._spec = spec
        self._registered = registered
        self._complain = complain
        self._instance = instance
        self._connection = Connection(
            target.url,
            token=target.token,
            retry=retry,
            insecure=insecure,
            user_agent=f"qubix-agent/{__version__}",
        )
        self._connection.on_open(self._greet)
        self._sent_spec: ProviderSpec | None = None
        self._said: str | None = None
        self._unsent: Sample | None = None
        self._update: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the hub has registered this provider on the connection of now."""
        return self._connection.state is ConnectionState.OPEN

    async def start(self) -> None:
        """Begin to dial; returns at once."""
        await self._connection.start()

    async def close(self) -> None:
        """Say goodbye: the hub then knows at once that this provider is gone."""
        if self._update is not None:
            self._update.cancel()
            await asyncio.wait({self._update})
        await self._connection.close()

    def send(self, sample: Sample) -> bool:
        """Send one sample, the sign of life; False where there is no connection to send it on.

        The newest that could not be sent follows the next registration: a hub that is back is soon current.
        A record that changed since it was registered (the driver was loaded, a GPU came) is registered again.
        """
        if not self.is_open:
            self._unsent = sample
            self.say(self._connection.last_error)
            return False
        sent = self._connection.send(METRICS, PublishMetrics(metrics=sample.metrics))
        self._unsent = None if sent else sample
        if self._spec() != self._sent_spec and (self._update is None or self._update.done()):
            self._update = asyncio.get_running_loop().create_task(self._register_again())
        return sent

    async def _greet(self) -> None:
        provider_id = await self._register()
        self._said = None
        if self._unsent is not None:
            self._connection.send(METRICS, PublishMetrics(metrics=self._unsent.metrics))
            self._unsent = None
        self._registered(provider_id)

    async def _register(self) -> str:
        """Send the record as it is now, and give the id that the hub knows it by.

        Raises:
            Refused: The hub says no; ``retry_after`` is how long to stay away.
        """
        # Whatever comes of it: a record that was refused is not sent again until it changes.
        self._sent_spec = spec = self._spec()
        fields = {name: getattr(spec, name) for name in spec.__struct_fields__}
        try:
            reply = await self._connection.request(REGISTER, Register(**fields, instance=self._instance))
        except Refused as error:
            if error.code in _PASSING:
                raise
            raise Refused(
                error.code,
                f"the hub refuses to register this provider: {error.message}",
                field=error.field,
                retry_after=max(REFUSED_SECONDS, error.retry_after or 0),
            ) from None
        provider_id: str = reply.data.provider_id
        return provider_id

    async def _register_again(self) -> None:
        try:
            await self._register()
        except ClientError as error:
            self.say(str(error))

    def say(self, sentence: str | None) -> None:
        """Complain, unless that is what was said last (or there is nothing to say)."""
        if sentence is not None and sentence != self._said:
            self._said = sentence
            self._complain(sentence)


def new_instance() -> str:
    """Make the random name of one agent start."""
    return secrets.token_hex(8)
