"""When to leave GPUs alone so that they may sleep.

An open device file is enough to keep a GPU from runtime suspend, and initialising NVML opens all of them. So
while all GPUs of a machine sleep it is not initialised; and GPUs that may sleep and that nobody uses are let
go of for a while, to see whether they do. Where they don't (a display keeps one awake, say) they are tried
again later each time.
"""

from collections.abc import Sequence
from typing import Final

from agent.sensors import nvidia_pci

UNUSED_SECONDS: Final = 60.0
"""So long nobody must have used any of them before they are let go of."""

MAX_UNUSED_SECONDS: Final = 3600.0

TRIAL_SECONDS: Final = 10.0
"""How long they are given to fall asleep: the driver needs about six."""


class Rest:
    """Whether the GPUs are to be left alone.

    Args:
        root: What stands before ``/sys`` and ``/proc``.
    """

    def __init__(self, root: str = "") -> None:
        self._root = root
        self._left_alone: list[str] | None = None
        self._until = 0.0
        self._have_slept = False
        self._unused_since: float | None = None
        self._patience = UNUSED_SECONDS

    def begins_asleep(self) -> bool:
        """Look before any GPU is opened: if all of them sleep, they are left alone from now on."""
        places = nvidia_pci.addresses(self._root)
        if not places or self._sleepers(places) != places:
            return False
        self._left_alone, self._have_slept = places, True
        return True

    def is_due(self, now: float, *, unused: bool) -> bool:
        """Note whether nobody uses any GPU; gives whether they are to be let go of.

        Args:
            now: Monotonic seconds.
            unused: Whether all may sleep and are used by nobody.
        """
        if not unused:
            self._unused_since = None
        elif self._unused_since is None:
            self._unused_since = now
        return self._unused_since is not None and now - self._unused_since >= self._patience

    def begin(self, now: float, places: Sequence[str]) -> None:
        """Leave the GPUs at these PCI addresses alone."""
        self._left_alone, self._have_slept = list(places), False
        self._until = now + TRIAL_SECONDS
        self._unused_since = None

    def sleepers(self, now: float) -> list[str] | None:
        """Give the addresses of those that sleep, while all are left alone; None once they are to be read.

        Args:
            now: Monotonic seconds.
        """
        if self._left_alone is None:
            return None
        asleep = self._sleepers(self._left_alone)
        if asleep == self._left_alone:
            self._have_slept = True
        elif self._have_slept or now >= self._until:
            self._patience = (
                UNUSED_SECONDS if self._have_slept else min(2 * self._patience, MAX_UNUSED_SECONDS)
            )
            self._left_alone = None
            return None
        return asleep

    def _sleepers(self, places: Sequence[str]) -> list[str]:
        return [address for address in places if nvidia_pci.is_asleep(address, self._root)]
