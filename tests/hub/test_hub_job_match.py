"""Who gets a job, in which order, and what a job costs."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qubix_tui.hub.job_match import TrackRecord, choose, eligible, explain, gpu_memory_mb, order
from qubix_tui.hub.job_state import StoredJob, cost_micros, new_job_id, total
from qubix_tui.hub.provider_state import Entry
from qubix_tui.hub.registry import Registry
from qubix_tui.protocol.channels import is_id
from qubix_tui.protocol.job_records import Job, JobState, Receipt, Requirements
from qubix_tui.protocol.records import GpuInfo, Provider, Workload, WorkloadParam
from qubix_tui.protocol.requests import Register, SetStatus
from tests.hub.manual_clock import ManualClock

NOW = "2027-01-15T08:00:00.000Z"
TRAIN = Workload(name="train", params=[WorkloadParam(name="x", type="integer", default=1, max=9)])


class Fleet:
    """Providers that are connected and free."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.registry = Registry(self.clock)

    def add(self, name: str, **said: Any) -> Entry:
        """One more."""
        request = Register(**{"worker_id": name, "instance": "i", "name": name, "workloads": [TRAIN]} | said)
        return self.registry.registered(self.registry.register(request))


@pytest.fixture
def fleet() -> Fleet:
    """A fleet without providers."""
    return Fleet()


def job(params: dict[str, Any] | None = None, **requires: Any) -> StoredJob:
    """A job that waits."""
    made = Job(
        id="j",
        workload="train",
        params=params or {},
        requires=Requirements(**requires),
        state=JobState.QUEUED,
        created_at=NOW,
    )
    return StoredJob(job=made)


@pytest.mark.parametrize(
    ("requires", "said", "fits"),
    [
        ({"gpu_model": "4090"}, {"gpu_model": "NVIDIA GeForce RTX 4090"}, True),
        ({"gpu_model": "rtx 4090"}, {"gpu_model": "NVIDIA GeForce RTX 4090"}, True),
        ({"gpu_model": "H200"}, {"gpu_model": "NVIDIA GeForce RTX 4090"}, False),
        ({"gpu_model": "H200"}, {}, False),
        ({"min_gpu_mem_mb": 24_000}, {"gpus": [GpuInfo(), GpuInfo(mem_total_mb=24_000)]}, True),
        ({"min_gpu_mem_mb": 24_001}, {"gpus": [GpuInfo(mem_total_mb=24_000)] * 2}, False),
        ({"min_gpu_mem_mb": 12_000}, {"gpu_count": 2, "gpu_mem_total_mb": 24_000}, True),
        ({"min_gpu_mem_mb": 12_001}, {"gpu_count": 2, "gpu_mem_total_mb": 24_000}, False),
        ({"min_gpu_mem_mb": 1}, {"gpu_count": 0, "gpu_mem_total_mb": 0}, False),
        ({"max_price_per_hour": 0.5}, {"price_per_hour": 0.5}, True),
        ({"max_price_per_hour": 0.5}, {"price_per_hour": 0.51}, False),
        ({"max_price_per_hour": 0.5}, {}, False),
        ({"provider_id": "rig-1"}, {}, False),
        ({}, {"workloads": []}, False),
        ({}, {}, True),
    ],
)
def test_what_a_job_asks_for(fleet: Fleet, requires: Any, said: Any, fits: bool) -> None:
    """Each wish alone; what is not known meets no wish."""
    entry = fleet.add("rig", **said)
    assert eligible(job(**requires).job, [entry], fleet.registry.is_connected) == ([entry] if fits else [])


def test_only_who_is_there_and_free(fleet: Fleet) -> None:
    """Not paused, not busy, not gone."""
    free, paused, busy, gone = (fleet.add(name) for name in ("free", "paused", "busy", "gone"))
    outcome = fleet.registry.set_status(paused, SetStatus(paused=True))
    assert outcome is not None
    fleet.registry.apply(outcome)
    fleet.registry.apply(fleet.registry.hold(busy, "other"))
    fleet.registry.disconnected(gone)
    assert eligible(job().job, fleet.registry, fleet.registry.is_connected) == [free]


def test_parameters_decide_last(fleet: Fleet) -> None:
    """The same name may be declared otherwise elsewhere."""
    narrow = fleet.add("narrow")
    wide = fleet.add(
        "wide", workloads=[Workload(name="train", params=[WorkloadParam(name="x", type="number")])]
    )
    assert choose(job({"x": 5}), [narrow, wide]) is narrow
    assert choose(job({"x": 50}), [narrow, wide]) is wide
    assert choose(job({"y": 5}), [narrow, wide]) is None


def test_who_failed_it_comes_last(fleet: Fleet) -> None:
    """In the order in which they failed it; better than nobody."""
    first, second, third = (fleet.add(name) for name in ("a", "b", "c"))
    failed = StoredJob(job=job().job, failed_on=[second.id, first.id])
    assert choose(failed, [first, second, third]) is third
    assert choose(failed, [first, second]) is second
    assert choose(failed, [first]) is first


def receipt(reason: str | None) -> Receipt:
    """An attempt that is over."""
    return Receipt(
        job_id="j",
        attempt=1,
        provider_id="rig",
        assigned_at=NOW,
        ended_at=NOW,
        status="completed" if reason is None else "failed",
        reason=reason,
        running_ms=0,
    )


def provider(price: float | None) -> Provider:
    """A provider's record."""
    return Fleet().add("rig", price_per_hour=price).stored.provider


def test_the_order_of_providers() -> None:
    """Cheapest; then who lost fewest, by tenths; then who was idle longest. No price comes last."""
    lost = TrackRecord().after(receipt("lost"), 1.0)
    ill = TrackRecord().after(receipt("exit_code: 1"), 2.0)
    long_ago = TrackRecord().after(receipt(None), 1.0)
    assert (lost.fault_share, ill.fault_share) == (1.0, 0.0), "a job's own failure is not its provider's"
    ranked = [
        order(lost, provider(0.5)),
        order(TrackRecord(), provider(1.0)),
        order(long_ago, provider(1.0)),
        order(ill, provider(1.0)),
        order(lost, provider(1.0)),
        order(TrackRecord(), provider(None)),
    ]
    assert sorted(ranked) == ranked
    hundred = TrackRecord(attempts=100, faults=4)
    assert order(hundred, provider(1.0)) == order(TrackRecord(), provider(1.0))


async def test_why_with_nobody_there(fleet: Fleet) -> None:
    """It says so, and counts no one."""
    match = await explain(job(), [], lambda _: False, 0.0)
    assert match.rules[-1].nearest == "no provider has registered yet"
    assert {rule.passing for rule in match.rules} == {0}


async def test_why_between_two_attempts(fleet: Fleet) -> None:
    """A delay is a reason, too."""
    stored = StoredJob(job=job().job, not_before=fleet.clock.time() + 4)
    match = await explain(stored, [fleet.add("rig")], fleet.registry.is_connected, fleet.clock.time())
    assert [(rule.rule, rule.passing) for rule in match.rules[-2:]] == [("all", 1), ("delay", 0)]
    assert match.rules[-1].nearest == "the next attempt is due in 4 s"


async def test_the_nearest_miss_is_of_who_misses_least(fleet: Fleet) -> None:
    """Out of hundreds."""
    for number in range(600):
        fleet.add(f"far{number}", price_per_hour=3.0, workloads=[])
    near = fleet.add("near", price_per_hour=2.0)
    match = await explain(job(max_price_per_hour=1.5), list(fleet.registry), fleet.registry.is_connected, 0.0)
    rules = {rule.rule: rule for rule in match.rules}
    assert (rules["workload"].passing, rules["price"].passing) == (1, 0)
    assert rules["all"].nearest == f"{near.id} takes 2 an hour; 1.5 is the most that the job pays"


def test_memory_that_is_not_known() -> None:
    """Is not guessed."""
    assert gpu_memory_mb(provider(1.0)) is None


@given(
    st.lists(st.tuples(st.floats(0, 1e4), st.integers(0, 10**10)), max_size=8),
)
def test_costs_add_up_exactly(parts: list[tuple[float, int]]) -> None:
    """Integers all the way: no cent is lost between receipts and total, and each is within a millionth."""
    costs = [cost_micros(price, running_ms) for price, running_ms in parts]
    known = [cost for cost in costs if cost is not None]
    assert len(known) == len(costs)
    assert total(*costs) == sum(known)
    for cost, (price, running_ms) in zip(known, parts, strict=True):
        exact = round(price * 1e6) * running_ms / 3_600_000
        assert exact - 1 - exact * 1e-9 <= cost <= exact + exact * 1e-9


def test_an_unknown_cost_is_not_nothing() -> None:
    """Unless nothing ran."""
    assert (cost_micros(None, 1), cost_micros(None, 0)) == (None, 0)
    assert (total(5, None), total(), total(0, 7)) == (None, 0, 7)


@pytest.mark.parametrize("price", [9.1e9, 1e12, 1e300, 1.7e308])
def test_a_cost_that_can_not_be_told_is_not_known(price: float) -> None:
    """No record with it could be read again."""
    assert cost_micros(price, 3_600_000) is None
    assert cost_micros(9e9, 3_600_000) == 9 * 10**15
    assert total(9 * 10**15, 9 * 10**15) is None


def test_ids_sort_by_time() -> None:
    """And hold nothing but what an id may."""
    ids = [new_job_id(milliseconds) for milliseconds in (0, 1, 31, 32, 1_800_000_000_000, 1_800_000_000_001)]
    assert sorted(ids) == ids
    assert all(map(is_id, ids))
    assert len({new_job_id(5) for _ in range(100)}) == 100
