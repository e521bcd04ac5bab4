"""When a worker is started again, when it counts as hung, and how long newcomers wait for it.

A worker is one of several hubs that share an address. Times are seconds of a monotonic clock, which the
caller brings.
"""

from typing import Final

FIRST_PAUSE: Final = 0.5
"""Before the second start in a row; the first one comes at once, and each further pause is twice as long."""

LONGEST_PAUSE: Final = 5.0
"""A start costs little, and a store that is back is not to wait for long."""

STEADY_SECONDS: Final = 30.0
"""A worker that has served for so long has failed for a new reason."""

WAIT_SECONDS: Final = 3.0
"""How long who connects to a worker that is gone waits for it: several times what a start takes. After that
they are better off with another worker."""


class Attendance:
    """What is known of one worker, and what is due.

    Args:
        silence: Seconds after which one that serves, and is not heard, hangs.
    """

    def __init__(self, silence: float) -> None:
        self._silence = silence
        self._failures = 0
        self._serves_since: float | None = None
        self._leaves = False
        self._heard_at = 0.0
        self.start_at: float | None = 0.0
        """When it is to be started; None while it runs."""
        self.give_up_at: float | None = None
        """When its newcomers are left to the others; None while they are served, or are."""

    @property
    def serves(self) -> bool:
        """Whether it takes newcomers."""
        return self._serves_since is not None and not self._leaves

    @property
    def hangs_at(self) -> float | None:
        """When it hangs, unless it is heard before; None for one that is not there."""
        return None if self._serves_since is None else self._heard_at + self._silence

    def next_moment(self) -> float | None:
        """The first time at which anything is due; None while nothing is."""
        return min(
            (moment for moment in (self.start_at, self.give_up_at, self.hangs_at) if moment is not None),
            default=None,
        )

    def started(self) -> None:
        """Its process runs."""
        self.start_at = None

    def ready(self, now: float) -> None:
        """It serves; again is no error."""
        if self._serves_since is None:
            self._serves_since = now
        self.give_up_at = None
        self.heard(now)

    def heard(self, now: float) -> None:
        """It lives."""
        self._heard_at = now

    def leaves(self) -> None:
        """It lets its clients leave, and will end. Newcomers don't wait for that."""
        self._leaves = True

    def given_up(self) -> None:
        """Its newcomers were left to the others."""
        self.give_up_at = None

    def ended(self, now: float) -> float:
        """Its process is gone.

        Returns:
            The seconds until it is started again.
        """
        if self._serves_since is not None:
            if now - self._serves_since >= STEADY_SECONDS:
                self._failures = 0
            self.give_up_at = None if self._leaves else now + WAIT_SECONDS
        self._serves_since, self._leaves = None, False
        self._failures += 1
        pause = (
            min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._failures - 2, 10))
            if self._failures > 1
            else 0.0
        )
        self.start_at = now + pause
        return pause
