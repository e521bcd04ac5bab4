"""Counted subscriptions, positions, gaps and repeated events, without a socket."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qubix_tui.client.subscriptions import Ask, Subscriptions
from qubix_tui.protocol.events import Event, Subscribed
from qubix_tui.protocol.marketplace import FleetSnapshot, JobSnapshot, JobsSnapshot, ProviderSnapshot
from qubix_tui.protocol.requests import SubscribeOptions


def add(subscriptions: Subscriptions, channel: str, **options: Any) -> Ask | None:
    """Count a watcher, with the usual options where none are given."""
    return subscriptions.add(channel, **({"snapshot": False, "digest": None, "recover": True} | options))


def confirmed(channel: str, offset: int | None, *, epoch: str = "e1", recovered: bool = False) -> Subscribed:
    """The hub's reply to a subscription."""
    return Subscribed(subscription=channel, epoch=epoch, offset=offset, recovered=recovered)


def event(channel: str, offset: int | None, data: object = None) -> Event:
    """A published event."""
    return Event(type="x", data=data, channel=channel, offset=offset)


def options(ask: Ask | None) -> SubscribeOptions:
    """What is asked of the hub."""
    assert ask is not None
    return ask.options


@pytest.fixture
def subscriptions() -> Subscriptions:
    """None yet."""
    return Subscriptions()


@pytest.mark.parametrize(
    ("channel", "kind", "subject"),
    [
        ("marketplace", "subscribe:marketplace", None),
        ("provider:rig-7", "subscribe:provider", "rig-7"),
        ("provider:*", "subscribe:provider", "*"),
        ("job:j1", "subscribe:job", "j1"),
    ],
)
def test_each_kind_of_channel_has_its_request(
    subscriptions: Subscriptions, channel: str, kind: str, subject: str | None
) -> None:
    """The first watcher sends the request of the channel's kind."""
    assert add(subscriptions, channel) == Ask(kind, subject, SubscribeOptions())


@pytest.mark.parametrize("channel", ["", "provider:", "provider:a b", "node:x", "*"])
def test_what_is_no_channel_is_refused(subscriptions: Subscriptions, channel: str) -> None:
    """A malformed key is an error here, before it is one at the hub, and counts nothing."""
    with pytest.raises(ValueError, match="is no channel"):
        add(subscriptions, channel)
    assert channel not in subscriptions


def test_only_the_marketplace_has_a_digest(subscriptions: Subscriptions) -> None:
    """A digest of anything else is an error at once."""
    with pytest.raises(ValueError, match="only marketplace has a digest"):
        add(subscriptions, "provider:a", digest=1.0)


def test_watchers_are_counted(subscriptions: Subscriptions) -> None:
    """The second watcher sends nothing; only the last one to leave ends the subscription."""
    assert add(subscriptions, "provider:a") is not None
    assert add(subscriptions, "provider:a") is None
    assert not subscriptions.remove("provider:a")
    assert subscriptions.remove("provider:a")
    assert not subscriptions.remove("provider:a")


def test_a_watcher_that_wants_more_asks_again(subscriptions: Subscriptions) -> None:
    """A snapshot is asked for by each that wants one; a digest by the one that wants a finer one."""
    add(subscriptions, "marketplace", digest=5.0)
    assert add(subscriptions, "marketplace", digest=10.0) is None
    assert options(add(subscriptions, "marketplace", digest=1.0)) == SubscribeOptions(digest=1.0)
    assert options(add(subscriptions, "marketplace", snapshot=True)) == SubscribeOptions(
        digest=1.0, snapshot=True
    )


def test_a_reconnect_goes_on_from_the_last_event(subscriptions: Subscriptions) -> None:
    """After a loss the subscription resumes after the newest offset heard, with the epoch it belongs to."""
    add(subscriptions, "marketplace", digest=1.0)
    assert not subscriptions.confirm(confirmed("marketplace", 7))
    assert subscriptions.heard(event("marketplace", 8))
    subscriptions.lost(fresh=False)
    assert options(subscriptions.again("marketplace")) == SubscribeOptions(digest=1.0, epoch="e1", since=8)
    assert not subscriptions.confirm(confirmed("marketplace", 10, recovered=True))
    assert subscriptions.heard(event("marketplace", 9))
    assert subscriptions.heard(event("marketplace", 10))


def test_a_replay_cut_short_goes_on_where_it_was_cut(subscriptions: Subscriptions) -> None:
    """`recovered` does not move the position; the replayed events do."""
    add(subscriptions, "job:j")
    subscriptions.confirm(confirmed("job:j", 1))
    subscriptions.lost(fresh=False)
    subscriptions.again("job:j")
    subscriptions.confirm(confirmed("job:j", 9, recovered=True))
    subscriptions.heard(event("job:j", 2))
    subscriptions.lost(fresh=False)
    assert options(subscriptions.again("job:j")).since == 2


def test_a_repeated_event_is_dropped(subscriptions: Subscriptions) -> None:
    """An offset that was heard is not heard again; events without an offset always are."""
    add(subscriptions, "provider:a")
    subscriptions.confirm(confirmed("provider:a", 3))
    assert not subscriptions.heard(event("provider:a", 3))
    assert subscriptions.heard(event("provider:a", 4))
    assert not subscriptions.heard(event("provider:a", 4))
    assert subscriptions.heard(event("provider:a", None))
    assert subscriptions.heard(event("provider:b", 1))


def test_lost_history_is_a_gap(subscriptions: Subscriptions) -> None:
    """Where the hub could not recover, the channel has a gap and goes on from the hub's offset and epoch."""
    add(subscriptions, "marketplace")
    assert not subscriptions.confirm(confirmed("marketplace", 50))
    subscriptions.lost(fresh=False)
    subscriptions.again("marketplace")
    assert subscriptions.confirm(confirmed("marketplace", 2, epoch="e2"))
    assert subscriptions.heard(event("marketplace", 3))
    subscriptions.lost(fresh=False)
    assert options(subscriptions.again("marketplace")) == SubscribeOptions(epoch="e2", since=3)


def test_a_first_subscription_is_no_gap(subscriptions: Subscriptions) -> None:
    """A watcher that has just come missed nothing."""
    add(subscriptions, "provider:a")
    assert not subscriptions.confirm(confirmed("provider:a", 12))


def test_not_recovered_but_nothing_happened_is_no_gap(subscriptions: Subscriptions) -> None:
    """Where the hub's newest offset is the one that was heard, nothing was missed."""
    add(subscriptions, "provider:a", recover=False)
    subscriptions.confirm(confirmed("provider:a", 12))
    subscriptions.lost(fresh=False)
    assert options(subscriptions.again("provider:a")) == SubscribeOptions()
    assert not subscriptions.confirm(confirmed("provider:a", 12))


def test_a_wildcard_cannot_be_recovered(subscriptions: Subscriptions) -> None:
    """A wildcard asks without since, and after a loss it has a gap."""
    add(subscriptions, "job:*")
    assert not subscriptions.confirm(confirmed("job:*", None))
    subscriptions.lost(fresh=False)
    assert options(subscriptions.again("job:*")) == SubscribeOptions()
    assert subscriptions.confirm(confirmed("job:*", None))


def test_a_slow_reader_begins_afresh(subscriptions: Subscriptions) -> None:
    """After 4013 there is no since; whoever wanted a snapshot gets one, and the missed events are a gap."""
    add(subscriptions, "marketplace", snapshot=True)
    add(subscriptions, "provider:a")
    subscriptions.confirm(confirmed("marketplace", 5))
    subscriptions.heard(event("marketplace", None, FleetSnapshot(providers=[], page=1, pages=1)))
    subscriptions.confirm(confirmed("provider:a", 5))
    subscriptions.lost(fresh=True)
    assert options(subscriptions.again("marketplace")) == SubscribeOptions(snapshot=True)
    assert options(subscriptions.again("provider:a")) == SubscribeOptions()
    assert subscriptions.confirm(confirmed("provider:a", 9))


def test_a_second_subscription_on_a_live_channel_moves_nothing(subscriptions: Subscriptions) -> None:
    """A snapshot asked for in mid-stream neither repeats nor skips the events around it."""
    add(subscriptions, "marketplace")
    subscriptions.confirm(confirmed("marketplace", 5))
    add(subscriptions, "marketplace", snapshot=True)
    subscriptions.heard(event("marketplace", 6))
    assert not subscriptions.confirm(confirmed("marketplace", 7))
    assert subscriptions.heard(event("marketplace", 7))


SNAPSHOT_ENDS = [
    ("marketplace", FleetSnapshot(providers=[], page=2, pages=2)),
    ("provider:a", ProviderSnapshot(provider_id="a", page=3, pages=3)),
    ("job:j", JobSnapshot(job_id="j")),
    ("job:*", JobsSnapshot(jobs=[], page=2, pages=2)),
]


@pytest.mark.parametrize(("channel", "last_page"), SNAPSHOT_ENDS)
def test_a_whole_snapshot_lets_the_next_connection_resume(
    subscriptions: Subscriptions, channel: str, last_page: object
) -> None:
    """Once its last page came, a reconnect asks for what was missed, with a snapshot for the worst case."""
    add(subscriptions, channel, snapshot=True)
    subscriptions.confirm(confirmed(channel, 5))
    subscriptions.heard(event(channel, None, last_page))
    subscriptions.lost(fresh=False)
    assert options(subscriptions.again(channel)) == SubscribeOptions(snapshot=True, epoch="e1", since=5)


def test_a_snapshot_cut_short_is_asked_for_anew(subscriptions: Subscriptions) -> None:
    """Beside since a recovering hub would not send it again: so there is no since until it came whole."""
    add(subscriptions, "marketplace", snapshot=True)
    subscriptions.confirm(confirmed("marketplace", 5))
    subscriptions.heard(event("marketplace", None, FleetSnapshot(providers=[], page=1, pages=2)))
    subscriptions.lost(fresh=False)
    assert options(subscriptions.again("marketplace")) == SubscribeOptions(snapshot=True)


def test_a_snapshot_asked_for_beside_a_recovery_is_still_due(subscriptions: Subscriptions) -> None:
    """A recovery settles its own request for a snapshot and not that of a watcher who came meanwhile."""
    add(subscriptions, "marketplace", snapshot=True)
    subscriptions.confirm(confirmed("marketplace", 5))
    subscriptions.heard(event("marketplace", None, FleetSnapshot(providers=[], page=1, pages=1)))
    subscriptions.lost(fresh=False)
    subscriptions.again("marketplace")
    add(subscriptions, "marketplace", snapshot=True)
    subscriptions.confirm(confirmed("marketplace", 5, recovered=True))
    subscriptions.lost(fresh=False)
    assert options(subscriptions.again("marketplace")) == SubscribeOptions(snapshot=True)


def test_what_nobody_watches_is_forgotten(subscriptions: Subscriptions) -> None:
    """Late replies and events of an ended subscription change nothing, and it is not asked for again."""
    add(subscriptions, "provider:a")
    subscriptions.remove("provider:a")
    assert subscriptions.again("provider:a") is None
    assert not subscriptions.confirm(confirmed("provider:a", 4))
    assert subscriptions.heard(event("provider:a", 5))
    assert list(subscriptions) == []


@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=12),
    st.integers(1, 3),
)
def test_handlers_hear_each_offset_at_most_once_and_in_order(
    steps: list[tuple[int, bool]], first: int
) -> None:
    """However often a connection is cut and events are repeated, each offset is heard once, in order."""
    subscriptions = Subscriptions()
    add(subscriptions, "job:j")
    subscriptions.confirm(confirmed("job:j", first))
    newest, reached = first, []
    for published, is_cut in steps:
        repeated_from = newest - 1
        newest += published
        if is_cut:
            subscriptions.lost(fresh=False)
            since = options(subscriptions.again("job:j")).since
            assert since is not None
            repeated_from = since - 1
            subscriptions.confirm(confirmed("job:j", newest, recovered=True))
        sent = range(max(0, repeated_from), newest + 1)
        reached += [offset for offset in sent if subscriptions.heard(event("job:j", offset))]
    assert reached == list(range(first + 1, newest + 1))
