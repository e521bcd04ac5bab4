"""What the console knows of the provider it looks at, from the hub's messages."""

from qubix_tui.console.provider_history import CPU
from qubix_tui.console.time_series import Window
from qubix_tui.console.watched_provider import JobMark, WatchedProvider
from qubix_tui.protocol import events
from qubix_tui.protocol.events import Event, MetricsUpdate, StatusChanged
from qubix_tui.protocol.marketplace import ProviderRemoved, ProviderSnapshot, ProviderUpdated
from qubix_tui.protocol.records import ProviderState, ProviderStatus
from qubix_tui.protocol.types import Timestamp, Wire, to_timestamp
from tests.console.provider_stage import NOW, PROVIDER_ID, history, metrics, record


def update(data: Wire, kind: str = events.MARKETPLACE_UPDATE) -> Event:
    """Make one of the hub's messages."""
    return Event(type=kind, data=data)


def at(seconds: float) -> Timestamp:
    """Give a moment so many seconds from now."""
    return to_timestamp(NOW + seconds)


def sample(seconds: float, cpu: float, provider_id: str = PROVIDER_ID) -> Event:
    """Make a sample that the hub received so many seconds from now."""
    data = MetricsUpdate(provider_id=provider_id, metrics=metrics(cpu_percent=cpu), timestamp=at(seconds))
    return update(data, events.GPU_METRICS_UPDATE)


def status(seconds: float, state: ProviderState, job_id: str | None, reason: str | None = None) -> Event:
    """Make a change of state."""
    new = ProviderStatus(
        is_online=state.is_online,
        is_available=state.is_available,
        state=state,
        reason=reason,
        current_job_id=job_id,
        last_heartbeat=at(seconds),
    )
    data = StatusChanged(provider_id=PROVIDER_ID, status=new, timestamp=at(seconds))
    return update(data, events.PROVIDER_STATUS_CHANGED)


def test_it_begins_with_what_the_fleet_knows() -> None:
    """Before the hub has answered, the record and the reason of the fleet are shown."""
    watched = WatchedProvider(PROVIDER_ID, record(), "drained")
    assert watched.record == record()
    assert watched.reason == "drained"
    assert not watched.is_answered


def test_a_snapshot_in_pages() -> None:
    """The record comes first, the past in pages; it is whole with the last one."""
    watched = WatchedProvider(PROVIDER_ID)
    past = history(end=NOW)
    first = ProviderSnapshot(
        provider_id=PROVIDER_ID,
        provider=record(),
        metrics=metrics(cpu_percent=77),
        metrics_timestamp=at(0),
        history=past[:60],
        page=1,
        pages=2,
    )
    assert watched.take(update(first))
    assert watched.record == record()
    assert watched.metrics_at == NOW
    answered = [watched.is_answered]
    assert watched.take(update(ProviderSnapshot(provider_id=PROVIDER_ID, history=past[60:], page=2, pages=2)))
    answered.append(watched.is_answered)
    assert answered == [False, True]
    assert watched.history.peaks(CPU, Window.ending(NOW, 10, 10)) == [50] * 9 + [77]


def test_a_sample_on_a_page_of_its_own() -> None:
    """Where record and sample do not fit one page, the second page's sample counts."""
    watched = WatchedProvider(PROVIDER_ID)
    watched.take(update(ProviderSnapshot(provider_id=PROVIDER_ID, provider=record(), page=1, pages=2)))
    second = ProviderSnapshot(
        provider_id=PROVIDER_ID, metrics=metrics(), metrics_timestamp=at(0), page=2, pages=2
    )
    watched.take(update(second))
    assert watched.record is not None
    assert watched.metrics == metrics()


def test_the_hub_knows_nobody_by_that_id() -> None:
    """A whole snapshot without a record means that there is no such provider, whatever was known."""
    watched = WatchedProvider(PROVIDER_ID, record())
    watched.take(update(ProviderSnapshot(provider_id=PROVIDER_ID, page=1, pages=1)))
    assert watched.is_answered
    assert watched.record is None


def test_samples_replace_each_other_and_none_goes_back() -> None:
    """The newest sample is shown; one that comes again or late says nothing new."""
    watched = WatchedProvider(PROVIDER_ID)
    assert watched.take(sample(0, 10))
    assert watched.take(sample(1, 20))
    assert not watched.take(sample(0.5, 99))
    assert not watched.take(sample(1, 99))
    assert watched.metrics is not None
    assert watched.metrics.cpu_percent == 20
    assert watched.metrics_at == NOW + 1


def test_a_snapshots_older_sample_does_not_replace_a_live_one() -> None:
    """After a reconnect live samples may be ahead of the snapshot: they stay."""
    watched = WatchedProvider(PROVIDER_ID)
    watched.take(sample(5, 90))
    page = ProviderSnapshot(
        provider_id=PROVIDER_ID,
        provider=record(),
        metrics=metrics(cpu_percent=1),
        metrics_timestamp=at(3),
        page=1,
        pages=1,
    )
    watched.take(update(page))
    assert watched.metrics is not None
    assert watched.metrics.cpu_percent == 90


def test_a_change_of_state_tells_its_reason() -> None:
    """State, heartbeat and reason follow each change; the next one has its own reason."""
    watched = WatchedProvider(PROVIDER_ID, record())
    assert watched.take(status(0, ProviderState.UNREACHABLE, None, "no word for 15s"))
    assert watched.record is not None
    assert (watched.record.state, watched.reason) == (ProviderState.UNREACHABLE, "no word for 15s")
    assert not watched.record.is_online
    watched.take(status(9, ProviderState.AVAILABLE, None))
    assert (watched.record.state, watched.reason) == (ProviderState.AVAILABLE, None)
    assert watched.record.last_heartbeat == at(9)


def test_jobs_leave_marks() -> None:
    """A job's beginning and end, and one that follows another at once, are remembered with their moments."""
    watched = WatchedProvider(PROVIDER_ID, record())
    for seconds, job in ((1, "a"), (2, "a"), (3, "b"), (4, None)):
        state = ProviderState.AVAILABLE if job is None else ProviderState.BUSY
        watched.take(status(seconds, state, job))
    assert list(watched.job_marks) == [
        JobMark(NOW + 1, "a", ended=False),
        JobMark(NOW + 3, "a", ended=True),
        JobMark(NOW + 3, "b", ended=False),
        JobMark(NOW + 4, "b", ended=True),
    ]


def test_an_updated_record_keeps_the_reason_of_the_same_state() -> None:
    """A price that changes does not make a pause lose its reason; another state does."""
    paused = record(state=ProviderState.PAUSED)
    watched = WatchedProvider(PROVIDER_ID, paused, "gaming")
    dearer = record(state=ProviderState.PAUSED, price_per_hour=9.0)
    assert watched.take(update(ProviderUpdated(provider=dearer)))
    assert watched.record == dearer
    assert watched.reason == "gaming"
    watched.take(update(ProviderUpdated(provider=record())))
    assert watched.reason is None


def test_removed_and_back() -> None:
    """A removed provider says so until it registers again."""
    watched = WatchedProvider(PROVIDER_ID, record())
    assert watched.take(update(ProviderRemoved(provider_id=PROVIDER_ID)))
    assert watched.is_removed
    assert watched.take(update(record(), events.PROVIDER_REGISTERED))
    assert not watched.is_removed


def test_others_are_left_alone() -> None:
    """What is about another provider, or about none, changes nothing."""
    watched = WatchedProvider("rig-9")
    others = [
        sample(0, 10),
        status(0, ProviderState.BUSY, "a"),
        update(record(), events.PROVIDER_REGISTERED),
        update(ProviderUpdated(provider=record())),
        update(ProviderRemoved(provider_id=PROVIDER_ID)),
        update(ProviderSnapshot(provider_id=PROVIDER_ID, provider=record(), page=1, pages=1)),
        Event(type="something:new", data={"providerId": "rig-9"}),
    ]
    assert not any(watched.take(event) for event in others)
    assert watched.record is None


def test_a_state_before_the_record_is_left_alone() -> None:
    """A change of state of a provider whose record is not known yet waits for the snapshot to tell it."""
    watched = WatchedProvider(PROVIDER_ID)
    assert not watched.take(status(0, ProviderState.BUSY, "a"))
