"""What a program that embeds a hub may tell its clients: the broadcasts of the guide's backend."""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

from qubix_tui.hub.engine.base import NewEvent
from qubix_tui.hub.services import Services
from qubix_tui.protocol import channels, codec, events, marketplace
from qubix_tui.protocol.job_records import JobProgress
from qubix_tui.protocol.records import Metrics, Provider, ProviderState, ProviderStatus
from qubix_tui.protocol.types import to_timestamp

Data = Mapping[str, Any]


class Broadcasts:
    """The broadcasts. To be called on the hub's event loop.

    Each takes a record, or a mapping with the members' names on the wire, of which those in the guide's
    examples are enough: what else a reader of the contract relies on follows from them. All but metrics are
    stored before they are published, in the order of the calls; they return the task that does it, to be
    awaited by whoever wants to know that it is done, and its exception: `ValueError` for an event that is too
    long for a frame.
    """

    @property
    def services(self) -> Services:
        """The hub's parts."""
        raise NotImplementedError

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something; what it raises is logged where nobody awaits it."""
        raise NotImplementedError

    def broadcast_provider_registered(self, provider: Provider | Data) -> asyncio.Task[None]:
        """Tell ``marketplace`` of a new provider: online and available, unless it says otherwise."""
        if isinstance(provider, Mapping):
            status = {"isOnline": True, "isAvailable": True, **provider}
            provider = {"registeredAt": self._now(), **_with_state(status)}
        return self._broadcast(events.PROVIDER_REGISTERED, provider, channels.MARKETPLACE)

    def broadcast_provider_status_changed(
        self, provider_id: str, status: ProviderStatus | Data
    ) -> asyncio.Task[None]:
        """Tell ``marketplace`` and the provider's channel of a provider's new status.

        Raises:
            KeyError: ``isOnline`` or ``isAvailable`` is missing.
        """
        if isinstance(status, Mapping):
            status = _with_state(status)
        data = {"providerId": provider_id, "status": status, "timestamp": self._now()}
        channel = channels.provider_channel(provider_id)
        return self._broadcast(events.PROVIDER_STATUS_CHANGED, data, channels.MARKETPLACE, channel)

    def broadcast_gpu_metrics(self, provider_id: str, metrics: Metrics | Data) -> None:
        """Tell the provider's channel of a sample, at once; a slow reader may get only the newest.

        Raises:
            ValueError: It is too long for a frame.
        """
        services = self.services
        services.providers.samples.fan_out(
            channels.provider_channel(provider_id), provider_id, metrics, services.clock.time()
        )

    def broadcast_job_progress(
        self, job_id: str, progress: JobProgress | Data, *, provider_id: str | None = None
    ) -> asyncio.Task[None]:
        """Tell the job's channel how far a job is."""
        data = {"jobId": job_id, "providerId": provider_id, "progress": progress, "timestamp": self._now()}
        return self._broadcast(events.JOB_PROGRESS, data, channels.job_channel(job_id))

    def broadcast_job_completed(
        self, job_id: str, outcome: Data, *, provider_id: str | None = None
    ) -> asyncio.Task[None]:
        """Tell the job's channel that a job is over.

        Args:
            job_id: The job.
            outcome: ``status`` (completed, failed or cancelled), and what there is of ``reason``, ``result``
                and ``costMicros``.
            provider_id: Who ran it.
        """
        data = {
            "jobId": job_id,
            "providerId": provider_id,
            "reason": None,
            "result": None,
            "costMicros": None,
            **outcome,
            "timestamp": self._now(),
        }
        return self._broadcast(events.JOB_COMPLETED, data, channels.job_channel(job_id))

    def broadcast_marketplace_update(
        self, update: marketplace.MarketplaceUpdate | Data
    ) -> asyncio.Task[None]:
        """Tell ``marketplace`` anything else; ``kind`` says what."""
        return self._broadcast(events.MARKETPLACE_UPDATE, update, channels.MARKETPLACE)

    def _broadcast(self, kind: str, data: object, *on: str) -> asyncio.Task[None]:
        encoded = codec.encode_record(data)
        stored = [NewEvent(channel, kind, encoded) for channel in on]
        return self.spawn(self.services.publisher.commit((), stored))

    def _now(self) -> str:
        return to_timestamp(self.services.clock.time())


def _with_state(status: Data) -> Data:
    """Add the state that the guide's two flags amount to, in its words: online, offline or busy."""
    if not status["isOnline"]:
        state = ProviderState.OFFLINE
    else:
        state = ProviderState.AVAILABLE if status["isAvailable"] else ProviderState.BUSY
    return {"state": state, **status}
