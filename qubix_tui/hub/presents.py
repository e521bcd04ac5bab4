"""What is so now on a channel, as frames: known here, or had from the store or another hub."""

from collections.abc import Awaitable, Iterator

from qubix_tui.hub import snapshots
from qubix_tui.hub.services import Services
from qubix_tui.protocol import channels


def takes_time(services: Services, channel: str) -> bool:
    """Whether a channel's present has to be asked for, of the store or of another hub."""
    if channels.is_job(channel):
        return True
    kind, _, subject = channel.partition(":")
    return kind == "provider" and services.providers.peers.holder(subject) is not None


def asked(services: Services, channel: str) -> Awaitable[Iterator[bytes]]:
    """Ask for the present of a channel whose present `takes_time`.

    Raises:
        EngineUnavailable: The store has it, and can't be asked.
    """
    subject = channel.partition(":")[2]
    if channel == channels.ALL_JOBS:
        return services.jobs.snapshot_of_all()
    return services.jobs.snapshot(subject) if channels.is_job(channel) else _elsewhere(services, subject)


def known(services: Services, channel: str) -> Iterator[bytes]:
    """Give the present of any other channel, as far as it is known here."""
    providers = services.providers
    if channel in {channels.MARKETPLACE, channels.ALL_PROVIDERS}:
        return snapshots.fleet(providers.registry, channel)
    subject = channel.partition(":")[2]
    return snapshots.provider(subject, providers.registry.get(subject), providers.peers.recall(subject))


async def _elsewhere(services: Services, provider_id: str) -> Iterator[bytes]:
    past = await services.providers.peers.past(provider_id)
    return snapshots.provider(provider_id, services.providers.registry.get(provider_id), past)
