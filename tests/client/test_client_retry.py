"""When a client dials again: the guide's delays, jitter, and what each failure asks for."""

import random

import pytest

from qubix_tui.client import AGENT, CONSOLE, GUIDE, RetryPolicy
from qubix_tui.client.failures import Failure, explain_close

LOST = Failure("lost")
RNG = random.Random(7)


def delays(policy: RetryPolicy, failure: Failure, attempts: int) -> list[float | None]:
    """The delays before attempts 1 to ``attempts``."""
    return [policy.delay(attempt, failure, RNG) for attempt in range(1, attempts + 1)]


def test_guide_waits_one_two_four_five_and_stops_after_ten() -> None:
    """As in the guide: 1, 2, 4, then 5 seconds, ten attempts, then it stops."""
    assert delays(GUIDE, LOST, 12) == [1, 2, 4, 5, 5, 5, 5, 5, 5, 5, None, None]


def test_console_goes_on_every_thirty_seconds() -> None:
    """After the ten attempts a console tries every 30 s."""
    assert delays(CONSOLE, LOST, 12) == [1, 2, 4, 5, 5, 5, 5, 5, 5, 5, 30, 30]


def test_agent_never_stops_and_is_spread_out() -> None:
    """An agent's delays are spread over 0.2 to 5 s and have no end."""
    given = [delay for delay in delays(AGENT, LOST, 2000) if delay is not None]
    assert len(given) == 2000
    assert min(given) >= 0.2
    assert max(given) <= 5
    assert min(given) < 0.3
    assert max(given) > 4.9


def test_an_agent_is_soon_back_after_a_short_loss() -> None:
    """Its first attempts come within 1, 2 and 4 s; only a longer loss spreads them over five."""
    for attempt, most in ((1, 1.0), (2, 2.0), (3, 4.0)):
        given = [AGENT.delay(attempt, LOST, RNG) or 0.0 for _ in range(500)]
        assert max(given) <= most
        assert min(given) >= 0.2
        assert max(given) > 0.9 * most


@pytest.mark.parametrize("code", [4001, 4003])
def test_refused_token_stops_all_but_an_agent(code: int) -> None:
    """4001 and 4003 stop a client; an agent tries again each minute."""
    refused = explain_close(code, "")
    assert GUIDE.delay(1, refused, RNG) is None
    assert CONSOLE.delay(1, refused, RNG) is None
    assert AGENT.delay(1, refused, RNG) == 60


@pytest.mark.parametrize("code", [4009, 4029])
@pytest.mark.parametrize("policy", [GUIDE, CONSOLE, AGENT])
def test_replaced_or_flooding_waits_a_minute(policy: RetryPolicy, code: int) -> None:
    """4009 and 4029 wait a minute, whoever it is."""
    assert policy.delay(1, explain_close(code, ""), RNG) == 60


@pytest.mark.parametrize("policy", [GUIDE, CONSOLE, AGENT])
def test_restarting_hub_is_given_the_time_it_asked_for(policy: RetryPolicy) -> None:
    """1012 waits exactly the seconds in its reason, whatever the attempt."""
    restarting = explain_close(1012, "2.5")
    assert policy.delay(1, restarting, RNG) == 2.5
    assert policy.delay(8, restarting, RNG) == 2.5


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("3", 3), ("back in 1.5 s", 1.5), ("0", 0.2), ("99999", 300), ("soon", 1), ("", 1)],
)
def test_restart_reason_is_believed_within_bounds(reason: str, expected: float) -> None:
    """0.2 to 300 s are believed, so that no loop is tight; without a number it is backoff."""
    assert GUIDE.delay(1, explain_close(1012, reason), RNG) == expected


def test_spent_attempts_stop_even_while_a_hub_restarts() -> None:
    """A hub that restarts for ever is given up like any other."""
    assert GUIDE.delay(11, explain_close(1012, "1"), RNG) is None


def test_wait_of_a_refusal_is_at_least_kept() -> None:
    """A retryAfter shorter than the backoff does not shorten it, a longer one is kept."""
    assert GUIDE.delay(4, Failure("limited", wait=2), RNG) == 5
    assert GUIDE.delay(1, Failure("limited", wait=20), RNG) == 20
