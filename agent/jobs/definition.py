"""A workload as its owner defined it: what the hub is told of it, and what is run for it."""

import msgspec

from agent.jobs import placeholders
from agent.jobs.launch import DEFAULT_GRACE_SECONDS, Launch, Limits, ProgressSource, Sandbox
from qubix_tui.protocol.params import check_params
from qubix_tui.protocol.records import Workload, WorkloadParam
from qubix_tui.protocol.types import JsonObject


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """One workload."""

    name: str
    description: str | None = None
    command: tuple[str, ...]
    """The program and its arguments, with places for parameters (but in the program)."""
    params: tuple[WorkloadParam, ...] = ()
    environment: dict[str, str] = {}
    """Values may have places for parameters."""
    gpus: int | None = 0
    """How many it uses; None for all that it can get."""
    limits: Limits = Limits()
    progress: ProgressSource = ProgressSource()
    no_progress_seconds: float | None = None
    sandbox: Sandbox = "bubblewrap"
    image: str | None = None
    network: bool = False
    read: tuple[str, ...] = ()
    grace_seconds: float = DEFAULT_GRACE_SECONDS

    def record(self) -> Workload:
        """Give what the hub is told: never the command, nor the environment."""
        return Workload(
            name=self.name, description=self.description, gpus=self.gpus, params=list(self.params)
        )

    def launch(
        self,
        params: JsonObject,
        *,
        job_id: str,
        attempt: int,
        gpus: list[str],
        wall_seconds: float | None,
        user: str | None,
    ) -> Launch:
        """Give what runs one attempt at a job.

        Args:
            params: As they came from the hub.
            job_id: The job.
            attempt: Which attempt.
            gpus: UUIDs of the GPUs that it gets.
            wall_seconds: How long the job may run by its own wish; the workload's limit may be shorter.
            user: Whom it runs as; None for the agent's own user.

        Raises:
            qubix_tui.protocol.errors.ProtocolError: A parameter is not as it was declared.
        """
        checked = check_params(self.record(), params)
        limits = self.limits
        if wall_seconds is not None:
            limits = msgspec.structs.replace(
                limits, wall_seconds=min(wall_seconds, limits.wall_seconds or wall_seconds)
            )
        return Launch(
            job_id=job_id,
            attempt=attempt,
            workload=self.name,
            argv=[placeholders.fill(argument, checked) for argument in self.command],
            env={name: placeholders.fill(value, checked) for name, value in self.environment.items()},
            gpus=gpus,
            limits=limits,
            progress=self.progress,
            no_progress_seconds=self.no_progress_seconds,
            sandbox=self.sandbox,
            image=self.image,
            network=self.network,
            read_only=list(self.read),
            user=user,
            grace_seconds=self.grace_seconds,
        )
