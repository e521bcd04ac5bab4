"""What the console knows of the fleet."""

from typing import Any

import pytest

from qubix_tui.console.fleet import SPARK_COLUMNS, SPARK_STEP_SECONDS, Fleet, Row
from qubix_tui.protocol import events
from qubix_tui.protocol.events import Event, StatusChanged
from qubix_tui.protocol.marketplace import FleetDigest, FleetSnapshot, ProviderRemoved, ProviderUpdated
from qubix_tui.protocol.records import Provider, ProviderState, ProviderStatus
from qubix_tui.protocol.types import to_timestamp
from tests.console.records import NOW, headline, provider


def fleet_of(*records: Provider) -> Fleet:
    """A fleet that a snapshot filled."""
    fleet = Fleet(lambda: NOW)
    fleet.take(update(FleetSnapshot(providers=list(records), page=1, pages=1)))
    fleet.take_changes()
    return fleet


def update(data: object) -> Event:
    """A MARKETPLACE_UPDATE."""
    return Event(type=events.MARKETPLACE_UPDATE, data=data, channel="marketplace")


def status(record: Provider, state: ProviderState, reason: str | None = None) -> Event:
    """A PROVIDER_STATUS_CHANGED."""
    data = StatusChanged(
        provider_id=record.id,
        status=ProviderStatus(
            is_online=state.is_online, is_available=state.is_available, state=state, reason=reason
        ),
        timestamp=to_timestamp(NOW),
    )
    return Event(type=events.PROVIDER_STATUS_CHANGED, data=data, channel="marketplace")


def test_a_snapshot_replaces_the_fleet_when_its_last_page_came() -> None:
    """Until then nothing changes; then providers that are not in it are gone."""
    old, new, other = provider("old"), provider("new"), provider("other")
    fleet = fleet_of(old)
    fleet.take(update(FleetSnapshot(providers=[new], page=1, pages=2)))
    assert set(fleet.rows) == {old.id}
    fleet.take(update(FleetSnapshot(providers=[other], page=2, pages=2)))
    assert set(fleet.rows) == {new.id, other.id}
    assert fleet.take_changes() == ({new.id, other.id}, True)


def test_a_snapshot_keeps_what_is_known_of_those_that_stay() -> None:
    """A reconnection does not empty the minute of a provider that is still there."""
    record = provider()
    fleet = fleet_of(record)
    fleet.take(update(FleetDigest(providers=[headline()])))
    fleet.take(update(FleetSnapshot(providers=[record], page=1, pages=1)))
    assert fleet.rows[record.id].use == 88.0


def test_a_digest_touches_its_rows_alone() -> None:
    """Rows without a newer sample are not painted again; unknown providers are left alone."""
    one, two = provider("one"), provider("two")
    fleet = fleet_of(one, two)
    before = fleet.rows[two.id].version
    fleet.take(update(FleetDigest(providers=[headline("one"), headline("stranger")])))
    assert fleet.take_changes() == ({one.id}, False)
    assert fleet.rows[two.id].version == before
    assert fleet.newest_at == NOW


def test_a_status_changes_the_record() -> None:
    """A new state replaces the old one, with its reason."""
    record = provider()
    fleet = fleet_of(record)
    fleet.take(status(record, ProviderState.UNREACHABLE, "no word for 15 s"))
    row = fleet.rows[record.id]
    assert (row.record.state, row.record.is_online) == (ProviderState.UNREACHABLE, False)
    assert row.reason == "no word for 15 s"


def test_registered_updated_removed() -> None:
    """Providers come, change and go."""
    fleet = fleet_of()
    record = provider()
    fleet.take(Event(type=events.PROVIDER_REGISTERED, data=record, channel="marketplace"))
    fleet.take(update(ProviderUpdated(provider=provider(price_per_hour=9.0))))
    assert fleet.rows[record.id].record.price_per_hour == 9.0
    fleet.take(update(ProviderRemoved(provider_id=record.id)))
    assert not fleet.rows


def test_other_messages_are_left_alone() -> None:
    """Kinds and types that a later hub may send change nothing."""
    fleet = fleet_of(provider())
    fleet.take(Event(type="SOMETHING_NEW", data={"a": 1}))
    fleet.take(update({"kind": "new"}))
    assert fleet.take_changes() == (set(), False)


@pytest.mark.parametrize(
    ("state", "sample", "word"),
    [
        (ProviderState.AVAILABLE, {}, None),
        (ProviderState.AVAILABLE, {"gpu_temp": 84.0}, "hot"),
        (ProviderState.AVAILABLE, {"gpu_temp": 84.0, "temp_slowdown_c": 98.0}, None),
        (ProviderState.AVAILABLE, {"gpu_temp": 86.0, "temp_slowdown_c": 98.0}, "warm"),
        (ProviderState.BUSY, {"throttle": ["power cap"]}, "slow"),
        (ProviderState.BUSY, {"throttle": []}, None),
        (ProviderState.AVAILABLE, {"gpus_lost": 1, "gpu_temp": 90.0}, "GPU lost"),
        (ProviderState.UNREACHABLE, {"gpu_temp": 90.0}, "late"),
        (ProviderState.OFFLINE, {}, "gone"),
        (ProviderState.PAUSED, {}, None),
    ],
)
def test_trouble_in_a_word(state: ProviderState, sample: dict[str, Any], word: str | None) -> None:
    """What is wrong is told by a word; the old heat of a silent machine is not."""
    row = Row(provider(state=state))
    row.measure(headline(**sample))
    trouble = row.trouble()
    assert (trouble.word if trouble is not None else None) == word


def test_lost_while_busy_is_worst() -> None:
    """A provider that is gone with a job on it comes before everything else."""
    lost = Row(provider(state=ProviderState.OFFLINE, current_job_id="train-7f")).trouble()
    hot = Row(provider())
    hot.measure(headline(gpu_temp=99.0))
    trouble = hot.trouble()
    assert lost is not None
    assert trouble is not None
    assert lost.rank > trouble.rank


def test_a_minute_keeps_peaks_and_gaps() -> None:
    """Each step keeps its highest use; steps without a sample stay unknown, not zero."""
    row = Row(provider())
    for offset, use in ((0, 10.0), (1, 90.0), (2, 20.0), (15, 50.0)):
        row.measure(headline(at=NOW + offset, gpu_percent=use))
    minute = row.minute(NOW + 15)
    assert minute[-4:] == [90.0, None, None, 50.0]
    assert minute[:-4] == [None] * (SPARK_COLUMNS - 4)
    later = row.minute(NOW + 15 + 2 * SPARK_STEP_SECONDS)
    assert later[-3:] == [50.0, None, None]
    assert row.minute(NOW + 3600) == [None] * SPARK_COLUMNS


def test_staleness() -> None:
    """A sample older than five seconds, or of a machine that is not online, is of the past."""
    row = Row(provider())
    assert not row.is_stale(NOW)
    row.measure(headline(at=NOW))
    assert not row.is_stale(NOW + 5)
    assert row.is_stale(NOW + 5.1)
    assert row.age(NOW - 3) == 0
    assert Row(provider(state=ProviderState.OFFLINE)).is_stale(NOW)


def test_the_summary_leaves_out_what_is_not_known() -> None:
    """Means are over those that tell, weighted by GPUs; nobody online means unknown, not zero."""
    fleet = fleet_of(
        provider("big", gpu_count=3),
        provider("small", gpu_count=1, state=ProviderState.BUSY),
        provider("mute"),
        provider("gone", state=ProviderState.OFFLINE),
        provider("cpu", gpu_count=0, simulated=True),
    )
    samples = [
        headline("big", gpu_percent=100.0, gpu_temp=60.0, hottest_gpu=2),
        headline("small", gpu_percent=20.0, gpu_temp=50.0),
        headline("gone", gpu_percent=0.0, gpu_temp=99.0),
        headline("cpu", gpu_percent=None, gpu_temp=None),
    ]
    fleet.take(update(FleetDigest(providers=samples)))
    summary = fleet.summary()
    assert (summary.providers, summary.gpus, summary.simulated) == (5, 12, 1)
    assert summary.use == pytest.approx(80.0)
    assert (summary.hottest, summary.hottest_name) == (60.0, "big/2")
    assert summary.earning == pytest.approx(0.45)
    assert fleet_of().summary().use is None
