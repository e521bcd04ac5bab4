"""What this machine lets run, once it was tried out: that takes a moment, and nobody waits for it."""

import asyncio
from collections.abc import Callable, Sequence

from agent.jobs.launch import Launch
from agent.jobs.workloads import Catalogue, Refusal
from qubix_tui.protocol.records import Workload
from qubix_tui.protocol.types import JsonObject


class Offer:
    """A catalogue that is on its way.

    Args:
        load: Tries everything out, and gives it.
    """

    def __init__(self, load: Callable[[], Catalogue]) -> None:
        self._load = load
        self._catalogue: Catalogue | None = None

    async def load(self) -> list[str]:
        """Try everything out, in a thread of its own; gives a sentence for each that is not offered."""
        self._catalogue = await asyncio.to_thread(self._load)
        return [
            f"the workload {entry.definition.name} is not offered: {entry.reason}"
            for entry in self._catalogue.entries
            if entry.reason is not None
        ]

    def workloads(self, gpus: int | None) -> list[Workload]:
        """Give what a hub is told; nothing before it was tried out.

        Args:
            gpus: How many this machine has; None where nobody knows yet.
        """
        return [] if self._catalogue is None else self._catalogue.offered(gpus)

    def prepare(
        self,
        workload: str,
        params: JsonObject,
        *,
        job_id: str,
        attempt: int,
        gpus: Sequence[str],
        timeout_seconds: float | None = None,
    ) -> Launch:
        """Give what runs one attempt at a job (see `agent.jobs.workloads.Catalogue.prepare`).

        Raises:
            Refusal: It may not run here, or not yet.
        """
        if self._catalogue is None:
            raise Refusal("this machine has just started, and tries out what it can run")
        return self._catalogue.prepare(
            workload, params, job_id=job_id, attempt=attempt, gpus=gpus, timeout_seconds=timeout_seconds
        )
