"""How much may be asked, and that those who behave never notice."""

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from qubix_tui.hub.limits import (
    _REMEMBERED_ADDRESSES,
    Admission,
    ConnectionLimiter,
    Flooding,
    Limits,
    LoginLimiter,
    TokenBucket,
)
from qubix_tui.protocol.errors import ErrorCode, ProtocolError
from tests.hub.manual_clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    """The clock of the limits under test."""
    return ManualClock()


def refusal(call: Any, *arguments: Any, **keywords: Any) -> ProtocolError:
    """Check that a call is refused as rate_limited, and give the refusal."""
    with pytest.raises(ProtocolError) as caught:
        call(*arguments, **keywords)
    assert caught.value.code is ErrorCode.RATE_LIMITED
    return caught.value


def refused_of(count: int, call: Any, *arguments: Any) -> int:
    """Call ``count`` times and count the refusals."""
    refusals = 0
    for _ in range(count):
        try:
            call(*arguments)
        except ProtocolError:
            refusals += 1
    return refusals


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    """It starts full, says how long until the next token, and keeps that promise."""
    bucket = TokenBucket(rate=2, burst=3)
    assert [bucket.take(100) for _ in range(3)] == [0, 0, 0]
    assert bucket.take(100) == pytest.approx(0.5)
    assert bucket.take(100.25) == pytest.approx(0.25)
    assert bucket.take(100.5) == 0
    assert bucket.take(100.5) == pytest.approx(0.5)


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    """A long silence is no credit."""
    bucket = TokenBucket(rate=2, burst=3)
    assert [bool(bucket.take(1e6)) for _ in range(4)] == [False, False, False, True]


@given(
    rate=st.floats(0.1, 1e6),
    burst=st.integers(1, 10_000),
    steps=st.lists(st.tuples(st.floats(0, 10), st.integers(1, 100)), max_size=60),
)
def test_a_bucket_never_gives_more_than_it_may(
    rate: float, burst: int, steps: list[tuple[float, int]]
) -> None:
    """Over any time, at most the burst and what came back since; what it refuses it gives after the wait."""
    bucket = TokenBucket(rate, burst)
    now = started = 1_000.0
    taken = 0
    for pause, wanted in steps:
        now += pause
        amount = min(wanted, burst)
        wait = bucket.take(now, amount)
        if wait:
            assert wait <= burst / rate + 1e-6
            now += wait
            assert bucket.take(now, amount) == 0
        taken += amount
        assert taken <= burst + rate * (now - started) + 1e-6 * (burst + rate * (now - started) + rate)


def test_an_agent_at_ten_hertz_is_never_limited(clock: ManualClock) -> None:
    """Ten minutes of samples of 16 busy GPUs with all their processes, ten a second."""
    limiter = ConnectionLimiter(Limits(), clock)
    for _ in range(6_000):
        limiter.message(30_000)
        clock.advance(0.1)


def test_an_agent_may_deliver_an_outage_at_once(clock: ManualClock) -> None:
    """Ten minutes of kept samples, in one go, and on with the live ones."""
    limiter = ConnectionLimiter(Limits(), clock)
    for _ in range(610):
        limiter.message(2_000)


def test_a_client_may_resubscribe_everything_at_once(clock: ManualClock) -> None:
    """As many channels as it may hold, in one go after a reconnect."""
    limits = Limits()
    limiter = ConnectionLimiter(limits, clock)
    for held in range(limits.subscriptions):
        limiter.message(200)
        limiter.subscribe(held)


@pytest.mark.parametrize(
    ("limits", "size", "words"),
    [
        (Limits(messages_per_second=0.1, messages_burst=5), 10, "too many messages"),
        (Limits(bytes_per_second=1, bytes_burst=50), 10, "too many bytes"),
    ],
)
def test_messages_are_limited_by_number_and_size(
    clock: ManualClock, limits: Limits, size: int, words: str
) -> None:
    """The sixth is refused with the seconds to wait; after those it is accepted."""
    limiter = ConnectionLimiter(limits, clock)
    assert refused_of(5, limiter.message, size) == 0
    error = refusal(limiter.message, size)
    assert words in error.message
    assert not isinstance(error, Flooding)
    assert error.retry_after == pytest.approx(10)
    clock.advance(error.retry_after or 0)
    limiter.message(size)


def test_subscribes_are_limited_by_rate(clock: ManualClock) -> None:
    """Apart from messages, because each may cost a snapshot."""
    limiter = ConnectionLimiter(Limits(subscribes_per_second=0.5, subscribes_burst=5), clock)
    assert refused_of(5, limiter.subscribe, 0) == 0
    error = refusal(limiter.subscribe, 0)
    assert error.retry_after == pytest.approx(2)
    clock.advance(error.retry_after or 0)
    limiter.subscribe(0)


def test_nobody_is_asked_to_come_back_at_once(clock: ManualClock) -> None:
    """However soon the next token comes, a refused client waits a second, and then has many."""
    limiter = ConnectionLimiter(Limits(messages_per_second=100, messages_burst=5), clock)
    assert refused_of(5, limiter.message, 1) == 0
    assert refusal(limiter.message, 1).retry_after == 1


def test_subscriptions_are_limited_by_number(clock: ManualClock) -> None:
    """Waiting does not help there, so no seconds are named, but a way out is."""
    limiter = ConnectionLimiter(Limits(subscriptions=3), clock)
    limiter.subscribe(2)
    error = refusal(limiter.subscribe, 3)
    assert error.retry_after is None
    assert "unsubscribe" in error.message


def test_who_goes_on_flooding_is_closed(clock: ManualClock) -> None:
    """Refusals have a burst of their own; past it each is `Flooding`, whatever was asked."""
    limiter = ConnectionLimiter(Limits(messages_burst=1, refusals_burst=3, subscriptions=0), clock)
    limiter.message(1)
    for _ in range(3):
        assert not isinstance(refusal(limiter.message, 1), Flooding)
    assert isinstance(refusal(limiter.message, 1), Flooding)
    assert isinstance(refusal(limiter.subscribe, 0), Flooding)


def test_who_waits_as_told_is_never_closed(clock: ManualClock) -> None:
    """A client that has 32 messages under way when it hears of a refusal may go on like that for ever."""
    limiter = ConnectionLimiter(Limits(), clock)
    waited = 0.0
    while waited < 600:
        longest = 0.0
        for _ in range(32):
            try:
                limiter.message(1_000)
            except Flooding:
                pytest.fail("closed, although it waited")
            except ProtocolError as error:
                longest = max(longest, error.retry_after or 0)
        clock.advance(longest + 0.001)
        waited += longest + 0.001


def test_who_does_not_wait_is_closed_within_seconds(clock: ManualClock) -> None:
    """A thousand messages a second, whatever the hub answers."""
    limiter = ConnectionLimiter(Limits(), clock)

    def flood(messages: int) -> None:
        for _ in range(messages):
            clock.advance(0.001)
            try:
                limiter.message(100)
            except Flooding:
                raise
            except ProtocolError:
                continue

    flood(5_500)
    with pytest.raises(Flooding):
        flood(1_000)


def test_connections_are_limited_in_all() -> None:
    """The one too many is refused; a place that was given back is free."""
    admission = Admission(Limits(connections=2))
    first = admission.arrive("10.0.0.1")
    admission.arrive("10.0.0.2")
    assert refusal(admission.arrive, "10.0.0.3").retry_after
    first.close()
    first.close()
    admission.arrive("10.0.0.3")
    refusal(admission.arrive, "10.0.0.4")


def test_handshakes_in_flight_are_limited() -> None:
    """They end by being opened or by being closed, and count once."""
    admission = Admission(Limits(handshakes=2))
    first, second = admission.arrive("10.0.0.1"), admission.arrive("10.0.0.1")
    refusal(admission.arrive, "10.0.0.2")
    first.opened(stranger=False)
    third = admission.arrive("10.0.0.2")
    refusal(admission.arrive, "10.0.0.2")
    first.close()
    refusal(admission.arrive, "10.0.0.2")
    second.close()
    third.close()
    admission.arrive("10.0.0.2").opened(stranger=False)
    admission.arrive("10.0.0.2")


def test_strangers_are_limited_per_address() -> None:
    """Another address is not touched, and who authenticates or leaves makes room."""
    admission = Admission(Limits(strangers_per_address=2))
    slots = [admission.arrive("10.0.0.1") for _ in range(4)]
    slots[0].opened(stranger=True)
    slots[1].opened(stranger=True)
    error = refusal(slots[2].opened, stranger=True)
    assert "10.0.0.1" in error.message
    slots[2].close()
    admission.arrive("10.0.0.2").opened(stranger=True)
    slots[0].identified()
    slots[0].identified()
    slots[3].opened(stranger=True)
    refusal(admission.arrive("10.0.0.1").opened, stranger=True)
    slots[0].close()
    slots[1].close()
    admission.arrive("10.0.0.1").opened(stranger=True)
    refusal(admission.arrive("10.0.0.1").opened, stranger=True)


def test_ten_thousand_agents_may_share_an_address() -> None:
    """Who shows a token when connecting never counts for the address."""
    admission = Admission(Limits())
    for _ in range(10_000):
        admission.arrive("10.0.0.1").opened(stranger=False)


def test_an_ipv6_customer_is_one_address() -> None:
    """A /64 is what one customer has; the next one is another. IPv4 is recognised inside IPv6."""
    admission = Admission(Limits(strangers_per_address=1))
    admission.arrive("2001:db8:0:1::1").opened(stranger=True)
    refusal(admission.arrive("2001:db8:0:1:ffff::2").opened, stranger=True)
    admission.arrive("2001:db8:0:2::1").opened(stranger=True)
    admission.arrive("::ffff:10.0.0.1").opened(stranger=True)
    refusal(admission.arrive("10.0.0.1").opened, stranger=True)
    admission.arrive("").opened(stranger=True)


def test_nothing_is_left_of_connections_that_are_gone() -> None:
    """After everyone left the counts are what they were."""
    admission = Admission(Limits(strangers_per_address=1))
    for number in range(100):
        slot = admission.arrive(f"10.0.0.{number}")
        if number % 3:
            slot.opened(stranger=bool(number % 2))
        slot.close()
    counts = admission._counts
    assert (counts.connections, counts.handshakes, counts.strangers) == (0, 0, {})


def test_failed_logins_are_limited_per_address(clock: ManualClock) -> None:
    """Ten at once, then one every 30 s; other addresses are not touched."""
    logins = LoginLimiter(Limits(), clock)
    assert refused_of(10, logins.failed, "10.0.0.1") == 0
    assert refusal(logins.failed, "10.0.0.1").retry_after == pytest.approx(30)
    logins.failed("10.0.0.2")
    clock.advance(30)
    logins.failed("10.0.0.1")
    refusal(logins.failed, "10.0.0.1")


def test_addresses_are_remembered_in_bounded_number(clock: ManualClock) -> None:
    """The one that failed longest ago is forgotten, not the one that is at it."""
    logins = LoginLimiter(Limits(failed_logins_burst=1), clock)
    logins.failed("10.255.0.0")
    for number in range(_REMEMBERED_ADDRESSES):
        logins.failed(f"10.0.{number // 256}.{number % 256}")
        refused_of(1, logins.failed, "10.0.0.0")
    assert len(logins._buckets) == _REMEMBERED_ADDRESSES
    refusal(logins.failed, "10.0.0.0")
    logins.failed("10.255.0.0")
