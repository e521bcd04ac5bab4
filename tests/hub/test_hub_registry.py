"""The rules about providers, by a clock that the tests move."""

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qubix_tui.hub.provider_state import MAX_RECORD_BYTES, Entry, Outcome, StoredProvider
from qubix_tui.hub.registry import CONFLICT_SECONDS, OFFLINE_SECONDS, UNREACHABLE_SECONDS, Registry
from qubix_tui.protocol import codec
from qubix_tui.protocol.channels import is_id
from qubix_tui.protocol.errors import ErrorCode, ProtocolError
from qubix_tui.protocol.records import Metrics, ProviderState, Workload
from qubix_tui.protocol.requests import Register, SetStatus
from tests.hub.manual_clock import ManualClock

AVAILABLE, PAUSED = ProviderState.AVAILABLE, ProviderState.PAUSED
UNREACHABLE, OFFLINE = ProviderState.UNREACHABLE, ProviderState.OFFLINE


def spec(worker_id: str = "w1", **members: Any) -> Register:
    """What an agent says."""
    return Register(worker_id=worker_id, **{"name": "Rig 7", "instance": "i1", **members})


def told(outcome: Outcome | None) -> list[tuple[str, str, dict[str, Any]]]:
    """The events of a decision: channel, type, data."""
    assert outcome is not None
    return [(event.channel, event.type, json.loads(event.data)) for event in outcome.events]


class Hub:
    """A registry whose decisions are all committed."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.registry = Registry(self.clock)
        self.store: dict[str, bytes] = {}

    def commit(self, outcome: Outcome | None) -> list[tuple[str, str, dict[str, Any]]]:
        if outcome is None:
            return []
        self._store(outcome)
        self.registry.apply(outcome)
        return told(outcome)

    def register(self, request: Register | None = None, *, same: bool = False) -> Entry:
        outcome = self.registry.register(request or spec(), same_connection=same)
        self._store(outcome)
        self.events = told(outcome)
        return self.registry.registered(outcome)

    def _store(self, outcome: Outcome) -> None:
        for change in outcome.changes:
            if change.value is None:
                del self.store[change.key]
            else:
                self.store[change.key] = change.value

    def sweep(self) -> list[tuple[str, str, dict[str, Any]]]:
        return [
            event for entry in self.registry.overdue() for event in self.commit(self.registry.refresh(entry))
        ]


@pytest.fixture
def hub() -> Hub:
    """A registry whose decisions are all committed."""
    return Hub()


# Identity


def test_an_id_comes_from_the_name_and_the_worker_id() -> None:
    """A hub without memory gives the same provider the same id again."""
    first, second = Registry(ManualClock()), Registry(ManualClock())
    assert first.provider_id(spec()) == second.provider_id(spec()) == "rig-7-60c559"
    assert first.provider_id(spec("w2")) != first.provider_id(spec())
    assert first.provider_id(spec(name=None)).startswith("provider-")


@pytest.mark.parametrize("name", ["sim", "sim-4", "SIM 4", "Sim—4"])
def test_a_real_provider_never_looks_simulated(name: str) -> None:
    """The prefix is kept for those that are."""
    assert Registry(ManualClock()).provider_id(spec(name=name)).startswith("provider-sim")


@pytest.mark.parametrize(("worker_id", "expected"), [("a1", "sim-a1"), ("sim-a1", "sim-a1")])
def test_a_simulated_provider_is_named_as_such(worker_id: str, expected: str) -> None:
    """By its workerId, without a second prefix."""
    assert Registry(ManualClock()).provider_id(spec(worker_id, simulated=True)) == expected


@given(st.text(max_size=128), st.from_regex(r"\A[A-Za-z0-9._-]{1,64}\Z"), st.booleans())
def test_every_id_is_well_formed(name: str, worker_id: str, simulated: bool) -> None:
    """Whatever the name and the workerId."""
    assert is_id(Registry(ManualClock()).provider_id(spec(worker_id, name=name, simulated=simulated)))


def test_a_rename_neither_duplicates_nor_swaps(hub: Hub) -> None:
    """The workerId is the identity; the id stays what it was."""
    entry = hub.register()
    hub.register(spec(name="Other"), same=True)
    assert len(hub.registry) == 1
    assert entry.id == "rig-7-60c559"
    assert entry.record().name == "Other"


def test_two_workers_of_one_id_are_a_conflict(hub: Hub) -> None:
    """Possible for simulated ones with very long workerIds: the first stays."""
    hub.register(spec("x" * 61 + "abc", simulated=True))
    with pytest.raises(ProtocolError, match="belongs to another workerId") as caught:
        hub.registry.register(spec("x" * 61 + "def", simulated=True))
    assert caught.value.code is ErrorCode.CONFLICT


# Registering


def test_the_first_registration_ever_is_told_to_the_marketplace(hub: Hub) -> None:
    """PROVIDER_REGISTERED with the whole record, and nothing else."""
    hub.register(spec(gpu_model="RTX 4090", price_per_hour=0.45))
    ((channel, kind, data),) = hub.events
    assert (channel, kind) == ("marketplace", "PROVIDER_REGISTERED")
    assert data["id"] == "rig-7-60c559"
    assert data["workerId"] == "w1"
    assert data["gpuModel"] == "RTX 4090"
    assert data["pricePerHour"] == 0.45
    assert data["state"] == "available"
    assert data["isOnline"] is True
    assert data["registeredAt"] == data["lastHeartbeat"] == "2027-01-15T08:00:00.000Z"


def test_registering_again_unchanged_tells_nothing(hub: Hub) -> None:
    """Within the grace a reconnecting agent makes no noise; its session grows by one."""
    entry = hub.register()
    hub.registry.disconnected(entry)
    hub.clock.advance(5)
    hub.register()
    assert hub.events == []
    assert entry.stored.session == 2
    assert entry.record().registered_at == "2027-01-15T08:00:00.000Z"


def test_a_changed_record_is_told(hub: Hub) -> None:
    """MARKETPLACE_UPDATE of the kind provider_updated, with the new record."""
    hub.register()
    hub.register(spec(price_per_hour=1.5), same=True)
    ((channel, kind, data),) = hub.events
    assert (channel, kind, data["kind"]) == ("marketplace", "MARKETPLACE_UPDATE", "provider_updated")
    assert data["provider"]["pricePerHour"] == 1.5


def test_coming_back_is_a_status_change_on_both_channels(hub: Hub) -> None:
    """To the marketplace and to the provider's own channel."""
    entry = hub.register()
    hub.registry.disconnected(entry)
    hub.commit(hub.registry.goodbye(entry))
    hub.register(spec(instance="i2"))
    assert [(channel, kind) for channel, kind, _ in hub.events] == [
        ("marketplace", "PROVIDER_STATUS_CHANGED"),
        ("provider:rig-7-60c559", "PROVIDER_STATUS_CHANGED"),
    ]
    data = hub.events[0][2]
    assert data == hub.events[1][2]
    assert data["status"] == {
        "isOnline": True,
        "isAvailable": True,
        "state": "available",
        "reason": None,
        "currentJobId": None,
        "lastHeartbeat": "2027-01-15T08:00:00.000Z",
    }


def test_a_second_agent_with_the_identity_of_a_live_one_is_refused(hub: Hub) -> None:
    """Another instance, while the first was heard within 15 s on an open connection."""
    entry = hub.register()
    hub.clock.advance(CONFLICT_SECONDS - 0.1)
    with pytest.raises(ProtocolError, match="another agent with this workerId") as caught:
        hub.registry.register(spec(instance="i2"))
    assert caught.value.code is ErrorCode.CONFLICT
    hub.registry.heard(entry)
    hub.clock.advance(CONFLICT_SECONDS)
    hub.register(spec(instance="i2"))
    assert entry.stored.instance == "i2"


def test_the_same_agent_replaces_its_old_connection_at_once(hub: Hub) -> None:
    """One instance has nobody to be in conflict with."""
    entry = hub.register()
    hub.register()
    assert entry.stored.session == 2


def test_an_agent_restarted_after_its_connection_closed_is_no_duplicate(hub: Hub) -> None:
    """A closed connection contests nothing, however recently it was heard."""
    entry = hub.register()
    hub.registry.disconnected(entry)
    hub.register(spec(instance="i2"))
    assert entry.stored.instance == "i2"


def test_a_record_that_fits_into_no_frame_is_refused(hub: Hub) -> None:
    """With a sentence that says what to do, and no trace."""
    workloads = [Workload(name=f"w{number}", description="x" * 1_000) for number in range(60)]
    with pytest.raises(ProtocolError, match=f"at most {MAX_RECORD_BYTES} bytes.*offer fewer") as caught:
        hub.registry.register(spec(workloads=workloads))
    assert caught.value.code is ErrorCode.TOO_LARGE
    assert len(hub.registry) == 0


# Silence


def test_silence_makes_a_provider_unreachable_then_offline(hub: Hub) -> None:
    """At 15 and at 45 s, each told once."""
    entry = hub.register()
    hub.clock.advance(UNREACHABLE_SECONDS - 0.1)
    assert hub.sweep() == []
    hub.clock.advance(0.1)
    events = hub.sweep()
    assert [(event[0], event[2]["status"]["state"]) for event in events] == [
        ("marketplace", "unreachable"),
        ("provider:rig-7-60c559", "unreachable"),
    ]
    assert events[0][2]["status"]["reason"] == "no word for 15s"
    assert events[0][2]["status"]["lastHeartbeat"] == "2027-01-15T08:00:00.000Z"
    assert hub.sweep() == []
    hub.clock.advance(OFFLINE_SECONDS - UNREACHABLE_SECONDS)
    assert {event[2]["status"]["state"] for event in hub.sweep()} == {"offline"}
    assert entry.state is OFFLINE
    hub.clock.advance(1_000)
    assert hub.sweep() == []


def test_a_word_brings_it_back(hub: Hub) -> None:
    """Over its own open connection only."""
    entry = hub.register()
    hub.clock.advance(UNREACHABLE_SECONDS)
    hub.sweep()
    hub.registry.heard(entry)
    events = hub.commit(hub.registry.refresh(entry))
    assert {event[2]["status"]["state"] for event in events} == {"available"}
    assert hub.registry.refresh(entry) is None


def test_without_a_connection_nothing_brings_it_back(hub: Hub) -> None:
    """A decision that comes late, after the connection has closed, changes nothing."""
    entry = hub.register()
    hub.clock.advance(UNREACHABLE_SECONDS)
    hub.sweep()
    hub.registry.heard(entry)
    hub.registry.disconnected(entry)
    assert hub.registry.refresh(entry) is None


def test_an_unclean_end_is_silence_a_clean_one_is_offline(hub: Hub) -> None:
    """A lost connection may come back within the grace; a goodbye is told at once."""
    entry = hub.register()
    hub.registry.disconnected(entry)
    assert hub.sweep() == []
    events = hub.commit(hub.registry.goodbye(entry))
    assert {event[2]["status"]["state"] for event in events} == {"offline"}
    assert events[0][2]["status"]["reason"] == "it said goodbye"


def test_a_goodbye_that_a_new_connection_has_overtaken_means_nothing(hub: Hub) -> None:
    """The agent is back already."""
    entry = hub.register()
    hub.registry.disconnected(entry)
    hub.register()
    assert hub.registry.goodbye(entry) is None


def test_a_stall_of_the_hub_is_nobodys_silence(hub: Hub) -> None:
    """Deadlines count from its end."""
    hub.register()
    hub.clock.advance(3_600)
    hub.registry.stalled()
    assert hub.sweep() == []
    hub.clock.advance(UNREACHABLE_SECONDS)
    assert {event[2]["status"]["state"] for event in hub.sweep()} == {"unreachable"}


def test_a_restart_keeps_states_and_counts_from_its_start(hub: Hub) -> None:
    """A stored provider that registers within the grace makes no noise; one that does not is unreachable."""
    hub.register()
    hub.register(spec("w2", name="Other"))
    restarted = Hub()
    restarted.registry.load(hub.store.values())
    assert [entry.state for entry in restarted.registry] == [AVAILABLE, AVAILABLE]
    restarted.clock.advance(UNREACHABLE_SECONDS - 1)
    assert restarted.sweep() == []
    entry = restarted.register(spec(instance="i9"))
    assert restarted.events == []
    assert entry.stored.session == 2
    restarted.clock.advance(1)
    assert {event[2]["providerId"] for event in restarted.sweep()} == {
        Registry(ManualClock()).provider_id(spec("w2", name="Other"))
    }


# Owner and operator


def test_an_owner_pauses_and_resumes(hub: Hub) -> None:
    """Paused is online but not available; the reason is told; saying it twice tells nothing."""
    entry = hub.register()
    events = hub.commit(hub.registry.set_status(entry, SetStatus(paused=True, reason="gaming")))
    status = events[0][2]["status"]
    assert (status["state"], status["isOnline"], status["isAvailable"], status["reason"]) == (
        "paused",
        True,
        False,
        "gaming",
    )
    assert hub.registry.set_status(entry, SetStatus(paused=True, reason="gaming")) is None
    events = hub.commit(hub.registry.set_status(entry, SetStatus(paused=False)))
    assert events[0][2]["status"]["state"] == "available"
    assert events[0][2]["status"]["reason"] is None


def test_draining_takes_no_more_jobs(hub: Hub) -> None:
    """It is paused for the marketplace, with a reason of its own."""
    entry = hub.register()
    events = hub.commit(hub.registry.set_status(entry, SetStatus(paused=False, draining=True)))
    assert (events[0][2]["status"]["state"], events[0][2]["status"]["reason"]) == ("paused", "draining")


def test_a_record_that_just_fits_goes_through_all_states(hub: Hub) -> None:
    """A longer word for its state, a job's id: what a hub adds refuses no decision that has to be made."""
    largest = spec()
    for size in (1_000, 100, 10, 1):
        while _is_taken(more := _with_workload(largest, size)):
            largest = more
    entry = hub.register(largest)
    hub.commit(hub.registry.hold(entry, "j" * 64))
    hub.clock.advance(UNREACHABLE_SECONDS)
    assert hub.sweep()
    assert entry.state is UNREACHABLE
    hub.register(largest, same=True)
    hub.commit(hub.registry.release(entry, pause="a job on it could not be ended"))
    hub.clock.advance(OFFLINE_SECONDS)
    assert hub.sweep()
    assert entry.state is OFFLINE


def _with_workload(request: Register, size: int) -> Register:
    more = Workload(name="w", description="x" * size)
    return msgspec.structs.replace(request, workloads=[*(request.workloads or ()), more])


def _is_taken(request: Register) -> bool:
    try:
        Registry(ManualClock()).register(request)
    except ProtocolError:
        return False
    return True


def test_a_pause_outlasts_silence_and_restart(hub: Hub) -> None:
    """Only its owner ends it."""
    entry = hub.register()
    hub.commit(hub.registry.set_status(entry, SetStatus(paused=True)))
    hub.clock.advance(OFFLINE_SECONDS)
    hub.sweep()
    assert entry.state is OFFLINE
    restarted = Hub()
    restarted.registry.load(hub.store.values())
    entry = restarted.register(spec(instance="i2"))
    assert entry.state is PAUSED
    assert restarted.events[0][2]["status"]["reason"] == "paused by its owner"


def test_only_an_offline_provider_can_be_removed(hub: Hub) -> None:
    """Else its agent would bring it back."""
    entry = hub.register()
    with pytest.raises(
        ProtocolError, match="is available; only an offline provider can be removed"
    ) as caught:
        hub.registry.remove(entry.id)
    assert caught.value.code is ErrorCode.CONFLICT
    hub.registry.disconnected(entry)
    hub.commit(hub.registry.goodbye(entry))
    events = hub.commit(hub.registry.remove(entry.id))
    assert events == [
        ("marketplace", "MARKETPLACE_UPDATE", {"kind": "provider_removed", "providerId": entry.id})
    ]
    assert len(hub.registry) == 0
    assert hub.store == {}
    with pytest.raises(ProtocolError) as caught:
        hub.registry.remove(entry.id)
    assert caught.value.code is ErrorCode.NOT_FOUND
    hub.register()
    assert hub.events[0][1] == "PROVIDER_REGISTERED"


# Simulated providers


def test_a_simulated_provider_goes_with_its_connection(hub: Hub) -> None:
    """It is stored apart from the real ones: a hub that was killed takes it back when it starts again."""
    entry = hub.register(spec("a", simulated=True))
    assert list(hub.store) == ["sim-a"]
    assert hub.events[0][1] == "PROVIDER_REGISTERED"
    hub.registry.disconnected(entry)
    events = hub.commit(hub.registry.goodbye(entry))
    assert events == [
        ("marketplace", "MARKETPLACE_UPDATE", {"kind": "provider_removed", "providerId": "sim-a"})
    ]
    assert len(hub.registry) == 0
    assert hub.store == {}


def test_a_simulated_provider_whose_removal_failed_is_removed_by_a_sweep(hub: Hub) -> None:
    """None stays behind."""
    entry = hub.register(spec("a", simulated=True))
    hub.registry.disconnected(entry)
    hub.clock.advance(OFFLINE_SECONDS)
    assert hub.sweep()[-1][2] == {"kind": "provider_removed", "providerId": "sim-a"}
    assert len(hub.registry) == 0


def test_a_simulated_and_a_real_provider_of_one_worker_are_two(hub: Hub) -> None:
    """Neither is taken for the other."""
    hub.register()
    hub.register(spec(simulated=True))
    assert {entry.id for entry in hub.registry} == {"rig-7-60c559", "sim-w1"}


# Consistency


def test_a_decision_that_is_not_applied_leaves_no_trace(hub: Hub) -> None:
    """What the store refused never was."""
    entry = hub.register()
    before = entry.stored
    hub.clock.advance(UNREACHABLE_SECONDS)
    assert hub.registry.refresh(entry) is not None
    assert entry.stored is before
    assert hub.registry.overdue() == [entry]
    hub.registry.register(spec("w2"))
    assert len(hub.registry) == 1


def test_samples_are_numbered_over_all_providers(hub: Hub) -> None:
    """By which a digest tells newer ones."""
    one, two = hub.register(), hub.register(spec("w2"))
    hub.registry.sampled(one, Metrics(seq=1))
    hub.registry.sampled(two, Metrics(seq=1))
    hub.registry.sampled(one, Metrics(seq=2))
    assert (one.sample, two.sample, hub.registry.newest_sample) == (3, 2, 3)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("register"), st.sampled_from(["i1", "i2"])),
        st.tuples(st.just("advance"), st.sampled_from([1, 14, 15, 31, 45])),
        st.tuples(st.sampled_from(["heard", "disconnect", "goodbye", "sweep", "pause", "resume", "remove"])),
    ),
    max_size=40,
)


@given(STEPS)
def test_state_store_and_events_never_disagree(steps: list[tuple[Any, ...]]) -> None:
    """After any run of decisions: what is stored is what is shown, and the last event told is the state."""
    hub = Hub()
    last_told: str | None = None
    for step in steps:
        entry = next(iter(hub.registry), None)
        events: list[tuple[str, str, dict[str, Any]]] = []
        # A conflict, or a provider that is not there, is a decision as well.
        with contextlib.suppress(ProtocolError):
            match step:
                case ("register", instance):
                    hub.register(spec(instance=instance))
                    events = hub.events
                case ("advance", seconds):
                    hub.clock.advance(seconds)
                case ("sweep",):
                    events = hub.sweep()
                case ("remove",) if entry:
                    events = hub.commit(hub.registry.remove(entry.id))
                case ("disconnect",) if entry:
                    hub.registry.disconnected(entry)
                case ("goodbye",) if entry:
                    hub.registry.disconnected(entry)
                    events = hub.commit(hub.registry.goodbye(entry))
                case ("heard",) if entry and entry.session_open:
                    hub.registry.heard(entry)
                    events = hub.commit(hub.registry.refresh(entry))
                case ("pause" | "resume",) if entry and entry.session_open:
                    hub.registry.heard(entry)
                    request = SetStatus(paused=step[0] == "pause")
                    events = hub.commit(hub.registry.set_status(entry, request))
        for _, kind, data in events:
            if kind == "PROVIDER_REGISTERED":
                last_told = data["state"]
            elif kind == "PROVIDER_STATUS_CHANGED":
                last_told = data["status"]["state"]
            elif data.get("kind") == "provider_removed":
                last_told = None
        shown = next(iter(hub.registry), None)
        assert (shown.state if shown else None) == last_told
        stored = {key: codec.decode_record(row, StoredProvider) for key, row in hub.store.items()}
        assert stored == {entry.id: entry.stored for entry in hub.registry}
