"""The order in which a machine is looked at."""

from pathlib import Path
from typing import NamedTuple

from agent.doctor.finding import Finding, State
from agent.doctor.gpus import look_at_gpus
from agent.doctor.host import look_at_host
from agent.doctor.hub import look_at_hub
from agent.sensors.offer import Offer
from agent.state import StateError
from agent.target import TargetError, TargetFinder
from agent.transport import TransportError
from qubix_tui.home import HomeError


class Patient(NamedTuple):
    """What is looked at."""

    home: Path
    """QUBIX_HOME."""
    finder: TargetFinder
    offer: Offer
    gpu_is_on: bool
    """Whether GPUs are looked at at all."""
    job_user: str | None
    """Whom jobs run as; None for this process's own user."""


async def examine(patient: Patient) -> list[Finding]:
    """Look at everything. It takes seconds; half a minute where a driver hangs."""
    findings = list(look_at_host(patient.home, patient.job_user))
    findings += look_at_gpus(patient.offer, is_on=patient.gpu_is_on)
    try:
        target = patient.finder.find()
        origin = patient.finder.token_origin()
        context = target.transport.ssl_context()
    except (TargetError, TransportError, StateError, HomeError) as error:
        return [
            *findings,
            Finding("hub", State.FAIL, str(error), "settings that can be used", "see agent.toml"),
        ]
    return [*findings, *await look_at_hub(target, origin, context)]
