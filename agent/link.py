"""Says to the hub what the sampler reads, and survives the hub."""

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Final

from agent.backlog import Backlog
from agent.jobs.manager import JobManager
from agent.late import METRICS, LateSamples
from agent.sampler import Sample
from agent.target import Target
from qubix_tui import __version__
from qubix_tui.client import AGENT, ClientError, Connection, ConnectionState, Refused, RetryPolicy
from qubix_tui.protocol import events
from qubix_tui.protocol.errors import ErrorCode
from qubix_tui.protocol.events import Event
from qubix_tui.protocol.records import ProviderSpec
from qubix_tui.protocol.requests import PublishMetrics, Register, SetStatus

REGISTER: Final = "provider:register"
STATUS: Final = "provider:status"

REFUSED_SECONDS: Final = 60.0
"""How long the agent stays away from a hub that refused it: what has to change is changed by a person."""

LIMITED_SECONDS: Final = 5.0
"""How long a hub that takes no more is spared late samples, where it does not say."""

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
        backlog: What was sampled lately, also while another link was there (default: nothing yet).
        wish: Gives what the hub has to hear of its owner's wishes after a registration, None for nothing.
        told: Called with what the hub has heard.
        jobs: What holds this machine's jobs, and speaks of them over this link; None where it takes none.
        retry: When to dial again.

    Raises:
        qubix_tui.client.BadUrl: The address can't be dialled, or the token not sent there.
        agent.transport.TransportError: The authority to trust can't be read.
    """

    def __init__(
        self,
        target: Target,
        *,
        spec: Callable[[], ProviderSpec],
        registered: Callable[[str], None],
        complain: Callable[[str], None],
        instance: str,
        backlog: Backlog | None = None,
        wish: Callable[[], SetStatus | None] = lambda: None,
        told: Callable[[SetStatus], None] = lambda _: None,
        jobs: JobManager | None = None,
        retry: RetryPolicy = AGENT,
    ) -> None:
        self.target = target
        self._spec = spec
        self._registered = registered
        self._complain = complain
        self._instance = instance
        self._wish = wish
        self._told = told
        self._jobs = jobs
        self._connection = Connection(
            target.url,
            token=target.token,
            retry=retry,
            ssl_context=target.transport.ssl_context(),
            proxy=target.transport.proxy,
            insecure=target.transport.insecure,
            user_agent=f"qubix-agent/{__version__}",
        )
        self._connection.on_open(self._greet)
        self._connection.on(events.ERROR, self._take_error)
        self._connection.on(events.PROVIDER_BACKFILL, self._take_backfill)
        if jobs is not None:
            jobs.attach(self._connection)
        self._sent_spec: ProviderSpec | None = None
        self._said: str | None = None
        self._unsent: Sample | None = None
        self._update: asyncio.Task[None] | None = None
        self.sent = 0
        """How many samples were sent whole; late ones are headlines."""
        self._backlog = backlog if backlog is not None else Backlog()
        self._late = LateSamples(self._connection, self._backlog)

    @property
    def is_open(self) -> bool:
        """Whether the hub has registered this provider on the connection of now."""
        return self._connection.state is ConnectionState.OPEN

    @property
    def state(self) -> ConnectionState:
        """Where the connection is."""
        return self._connection.state

    @property
    def last_error(self) -> str | None:
        """Why it is not open, as one sentence."""
        return self._connection.last_error

    @property
    def next_attempt_seconds(self) -> float | None:
        """How long until it is dialled again; None unless that is waited for."""
        at = self._connection.next_attempt_at
        return None if at is None else max(0.0, at - time.monotonic())

    async def start(self) -> None:
        """Begin to dial; returns at once."""
        await self._connection.start()

    async def close(self) -> None:
        """Say goodbye: the hub then knows at once that this provider is gone."""
        if self._update is not None:
            self._update.cancel()
            await asyncio.wait({self._update})
        self._late.end()
        await self._connection.close()

    def send(self, sample: Sample) -> bool:
        """Send one sample, the sign of life; False where there is no connection to send it on.

        The newest that could not be sent follows the next registration: a hub that is back is soon current.
        Those before it, as far as the hub remembers, are then sent as late, between the new ones. A record
        that changed since it was registered (the driver was loaded, a GPU came) is registered again.
        """
        is_open = self.is_open
        sent = is_open and self._connection.send(METRICS, PublishMetrics(metrics=sample.metrics))
        self._backlog.keep(sample.metrics, is_owed=not sent)
        self._unsent = None if sent else sample
        if not is_open:
            self.say(self._connection.last_error)
            return False
        if sent:
            self.sent += 1
            self._late.begin()
        if self._spec() != self._sent_spec and (self._update is None or self._update.done()):
            self._update = asyncio.get_running_loop().create_task(self._register_again())
        return sent

    async def _greet(self) -> None:
        registered = await self._register()
        self._said = None
        self._backlog.owe_since(registered.last_sample_seconds_ago)
        await self.tell()
        if self._unsent is not None:
            self.sent += self._connection.send(METRICS, PublishMetrics(metrics=self._unsent.metrics))
            self._unsent = None
        self._registered(registered.provider_id)

    async def _register(self) -> events.Registered:
        """Send the record as it is now, and give what the hub makes of it.

        Raises:
            Refused: The hub says no; ``retry_after`` is how long to stay away.
        """
        # Whatever comes of it: a record that was refused is not sent again until it changes.
        self._sent_spec = spec = self._spec()
        fields = {name: getattr(spec, name) for name in spec.__struct_fields__}
        held = [] if self._jobs is None else self._jobs.held()
        try:
            reply = await self._connection.request(
                REGISTER, Register(**fields, instance=self._instance, jobs=held)
            )
        except Refused as error:
            if error.code in _PASSING:
                raise
            raise Refused(
                error.code,
                f"the hub refuses to register this provider: {error.message}",
                field=error.field,
                retry_after=max(REFUSED_SECONDS, error.retry_after or 0),
            ) from None
        registered: events.Registered = reply.data
        if self._jobs is not None:
            self._jobs.obey(registered.jobs)
        return registered

    async def tell(self) -> None:
        """Pass on what the owner wishes, where there is something that the hub has to hear.

        Raises:
            qubix_tui.client.ClientError: The connection is not open, or was lost.
        """
        wish = self._wish()
        if wish is None:
            return
        try:
            await self._connection.request(STATUS, wish)
        except Refused as error:
            self.say(f"the hub does not take the wish of this provider's owner: {error}")
        else:
            self._told(wish)

    async def _register_again(self) -> None:
        try:
            await self._register()
        except ClientError as error:
            self.say(str(error))

    def _take_backfill(self, event: Event) -> None:
        """Note what a hub lacks that was held up itself; the next sample takes it along."""
        self._backlog.owe_since(event.data.seconds_ago)

    def _take_error(self, event: Event) -> None:
        """Spare a hub that says it has enough: what is late can wait."""
        if event.data.code is ErrorCode.RATE_LIMITED:
            wait = LIMITED_SECONDS if event.data.retry_after is None else event.data.retry_after
            self._late.spare(wait)

    def say(self, sentence: str | None) -> None:
        """Complain, unless that is what was said last (or there is nothing to say)."""
        if sentence is not None and sentence != self._said:
            self._said = sentence
            self._complain(sentence)


def new_instance() -> str:
    """Make the random name of one agent start."""
    return secrets.token_hex(8)
