"""When to dial again: pure rules, no clock and no sockets."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from qubix_tui.client.failures import Failure, Reaction

STEADY_SECONDS: Final = 10.0
"""A connection that was open for so long was a success: the next loss counts from one again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """How long to wait before each attempt, and how many there are.

    Args:
        delays: Seconds before attempt 1, 2, …; the last one repeats.
        attempts: How many attempts follow a loss; None for no end.
        jitter: Lower and upper bound of a random delay, which is never above the one of ``delays`` either:
            many clients of one hub must not come back in step, nor late after a short loss.
        then_every: Seconds between attempts once ``attempts`` are spent; None gives up.
        refused_every: Seconds between attempts when the token was refused; None gives up.
    """

    delays: Sequence[float] = (1.0, 2.0, 4.0, 5.0)
    attempts: int | None = 10
    jitter: tuple[float, float] | None = None
    then_every: float | None = None
    refused_every: float | None = None

    def delay(self, attempt: int, failure: Failure, rng: random.Random) -> float | None:
        """Give the seconds to wait before ``attempt`` (from 1), or None to give up.

        Args:
            attempt: Which attempt it would be since the last success.
            failure: What ended the last one.
            rng: Where jitter comes from.
        """
        if failure.reaction is Reaction.STOP:
            return self.refused_every
        if self.attempts is not None and attempt > self.attempts:
            if self.then_every is None:
                return None
            backoff = self.then_every
        else:
            backoff = self.delays[min(attempt, len(self.delays)) - 1]
            if self.jitter is not None:
                lowest, highest = self.jitter
                backoff = rng.uniform(lowest, max(lowest, min(highest, backoff)))
        if failure.wait is None:
            return backoff
        # Where the hub named the moment it is back, waiting longer would only show older data.
        return failure.wait if failure.reaction is Reaction.RESTARTING else max(failure.wait, backoff)


GUIDE: Final = RetryPolicy()
"""As in the WebSocket guide: 1, 2, 4, 5, 5 … seconds, ten attempts, then it stops."""

CONSOLE: Final = RetryPolicy(then_every=30.0)
"""As the guide, but after the ten attempts it goes on every 30 s."""

AGENT: Final = RetryPolicy(attempts=None, jitter=(0.2, 5.0), refused_every=60.0)
"""Never stops; tries each minute even where its token was refused."""
