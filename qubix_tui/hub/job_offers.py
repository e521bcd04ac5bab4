"""What providers offer, and whether a job that is submitted could ever run on one of them."""

from typing import Final

from qubix_tui.hub.clock import Clock
from qubix_tui.hub.job_match import offers, workload_of
from qubix_tui.hub.registry import Registry
from qubix_tui.protocol.errors import ErrorCode, ProtocolError
from qubix_tui.protocol.params import check_params
from qubix_tui.protocol.records import Workload
from qubix_tui.protocol.requests import SubmitJob

REFRESH_SECONDS: Final = 1.0
"""How old what is known of all offers may be, where it lets a job in."""


MAX_DECLARATIONS: Final = 50
"""Different declarations of one workload that are looked at; where there are more, a job is let in unseen."""


class Offers:
    """What the providers of a hub offer.

    Args:
        registry: The providers.
        clock: How old what is known is.
    """

    def __init__(self, registry: Registry, clock: Clock) -> None:
        self._registry = registry
        self._clock = clock
        self._declared: dict[str, list[Workload]] = {}
        self._read_at = float("-inf")

    def check(self, request: SubmitJob) -> None:
        """Check a job against the provider that it chooses, or else against all that offer its workload.

        One that nobody offers may wait for somebody who does.

        Raises:
            ProtocolError: ``no_provider``: there is no such provider, or it does not offer the workload.
                ``invalid``: nobody who offers it takes the parameters.
        """
        if request.requires.provider_id is not None:
            self._check_chosen(request, request.requires.provider_id)
            return
        if self._clock.monotonic() - self._read_at >= REFRESH_SECONDS:
            self._read()
        refusal = self._refusal(request)
        if refusal is not None:
            # Somebody may have come since.
            self._read()
            refusal = self._refusal(request)
        if refusal is not None:
            raise refusal

    def is_offered(self, workload: str) -> bool:
        """Tell whether anybody offers a workload, as far as was known a moment ago."""
        if self._clock.monotonic() - self._read_at >= REFRESH_SECONDS:
            self._read()
        return workload in self._declared

    def _check_chosen(self, request: SubmitJob, chosen: str) -> None:
        entry = self._registry.get(chosen)
        if entry is None:
            raise ProtocolError(
                ErrorCode.NO_PROVIDER, f"there is no provider {chosen}", field="data.requires.providerId"
            )
        workload = workload_of(entry.stored.provider, request.workload)
        if workload is None:
            raise ProtocolError(
                ErrorCode.NO_PROVIDER,
                f"{chosen} does not offer {request.workload}; {offers(entry)}",
                field="data.workload",
            )
        check_params(workload, request.params, foreign_patterns=True)

    def _refusal(self, request: SubmitJob) -> ProtocolError | None:
        """Give why nobody takes a job's parameters; None where somebody does, or may some day."""
        refusal = None
        declared = self._declared.get(request.workload, [])
        if len(declared) >= MAX_DECLARATIONS:
            return None
        for workload in declared:
            try:
                check_params(workload, request.params, foreign_patterns=True)
            except ProtocolError as error:
                refusal = refusal or error
            else:
                return None
        return refusal

    def _read(self) -> None:
        """Look at all providers; what many declare alike is kept once."""
        self._read_at = self._clock.monotonic()
        self._declared = {}
        for entry in self._registry:
            for workload in entry.stored.provider.workloads:
                known = self._declared.setdefault(workload.name, [])
                if len(known) < MAX_DECLARATIONS and workload not in known:
                    known.append(workload)
