"""What the hub answers to requests about jobs: those of operators, and those of the agents that run them."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from qubix_tui.hub.provider_connection import ProviderConnection, registered_entry
from qubix_tui.hub.services import Services
from qubix_tui.protocol import events
from qubix_tui.protocol.requests import HeldJob, Request


class JobConversation(ProviderConnection, Protocol):
    """What these handlers need of a session."""

    services: Services


async def submit(session: JobConversation, request: Request) -> None:
    """Take a job."""
    job_id = await session.services.jobs.submit(session.identity, request.data)
    offered = session.services.jobs.is_offered(request.data.workload)
    session.reply(events.SUBMITTED, events.Submitted(job_id=job_id, offered=offered), request.id)


async def cancel(session: JobConversation, request: Request) -> None:
    """Want a job ended."""
    await session.services.jobs.cancel(session.identity, request.data.job_id)
    session.reply(events.OK, events.Ok(), request.id)


async def why(session: JobConversation, request: Request) -> None:
    """Tell why a job waits."""
    session.reply(events.MATCH, await session.services.jobs.why(request.data.job_id), request.id)


async def accept(session: JobConversation, request: Request) -> None:
    """Let the connection's provider start a job."""
    answer = await session.services.jobs.agents.accept(registered_entry(session, request.type), request.data)
    kind = events.JOB_START if isinstance(answer, events.JobStart) else events.JOB_STOP
    session.reply(kind, answer, request.id)


async def refuse(session: JobConversation, request: Request) -> None:
    """Take a job back that the connection's provider does not take."""
    answer = await session.services.jobs.agents.refuse(registered_entry(session, request.type), request.data)
    session.reply(events.JOB_STOP, answer, request.id)


async def renew(session: JobConversation, request: Request) -> None:
    """Renew the leases of the connection's provider."""
    answer = await session.services.jobs.agents.renew(registered_entry(session, request.type), request.data)
    session.reply(events.RENEWED, answer, request.id)


async def report(session: JobConversation, request: Request) -> None:
    """Take what the connection's provider reports of a job."""
    ack = await session.services.jobs.agents.report(registered_entry(session, request.type), request.data)
    session.reply(events.ACK, ack, request.id)


def reconcile(
    session: JobConversation, registered: events.Registered, held: Sequence[HeldJob]
) -> events.Registered:
    """Add to a registration what becomes of the jobs that the agent holds."""
    if session.entry is None:
        return registered
    orders = session.services.jobs.agents.reconcile(session.entry, held)
    return msgspec.structs.replace(registered, jobs=orders)


def registered(session: JobConversation, held: Sequence[HeldJob]) -> None:
    """Go on with an agent that was told that it is registered."""
    if session.entry is not None:
        session.services.jobs.agents.registered(session.entry, held)
        session.services.jobs.matcher.wake()
