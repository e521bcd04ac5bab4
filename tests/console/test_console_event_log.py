"""The log of events: what is told, in which words, and how much of it is kept."""

from typing import Any

import pytest

from qubix_tui.console.event_log import KEPT_ENTRIES, TRIMMED_AT_ONCE, EventLog, Kind
from qubix_tui.console.fleet import Fleet
from qubix_tui.protocol import channels, events
from qubix_tui.protocol.events import Event, StatusChanged
from qubix_tui.protocol.job_records import Job, JobState
from qubix_tui.protocol.marketplace import (
    FleetSnapshot,
    JobCreated,
    JobStateChanged,
    ProviderRemoved,
    ProviderUpdated,
)
from qubix_tui.protocol.records import ProviderState, ProviderStatus
from qubix_tui.protocol.types import to_timestamp
from tests.console.records import NOW, provider


class Stage:
    """A log over a fleet, as the console has them: the log hears everything first."""

    def __init__(self) -> None:
        self.fleet = Fleet(lambda: NOW)
        self.log = EventLog(self.fleet)
        self.say("MARKETPLACE_UPDATE", FleetSnapshot(providers=[provider()], page=1, pages=1))

    def say(self, kind: str, data: Any, channel: str | None = channels.MARKETPLACE) -> None:
        """Let the hub say something."""
        event = Event(type=kind, data=data, channel=channel)
        self.log.take(event)
        self.fleet.take(event)

    def state(self, state: ProviderState, *, channel: str = channels.MARKETPLACE, **more: Any) -> None:
        """Let the provider's state change."""
        status = ProviderStatus(
            is_online=state.is_online, is_available=state.is_available, state=state, **more
        )
        change = StatusChanged(provider_id="rig-1-3f9a1c", status=status, timestamp=to_timestamp(NOW - 5))
        self.say(events.PROVIDER_STATUS_CHANGED, change, channel)

    def job(self, state: JobState, **more: Any) -> None:
        """Let a job move on."""
        job = Job(id="train-7f", workload="train", state=state, created_at=to_timestamp(NOW), **more)
        self.say("MARKETPLACE_UPDATE", JobStateChanged(job=job))

    @property
    def texts(self) -> list[str]:
        """What was told."""
        return [entry.text for entry in self.log.entries]


def test_states_are_told_once_with_the_reason() -> None:
    """A change has the hub's moment, the provider and why; its copy on the own channel is no second one."""
    stage = Stage()
    stage.state(ProviderState.UNREACHABLE, reason="no word for 15 s")
    stage.state(ProviderState.UNREACHABLE, reason="no word for 15 s", channel="provider:rig-1-3f9a1c")
    (entry,) = stage.log.entries
    assert (entry.text, entry.style, entry.kind) == (
        "rig-1 unreachable (no word for 15 s)",
        "warn",
        Kind.STATE,
    )
    assert (entry.provider_id, entry.name, entry.moment) == ("rig-1-3f9a1c", "rig-1", NOW - 5)


def test_a_new_reason_is_told_though_the_state_goes_on() -> None:
    """What is worth a look (a duplicate identity, say) is told once, and that it is over is not."""
    stage = Stage()
    for reason in ("duplicate identity: a second agent", "duplicate identity: a second agent", None):
        stage.state(ProviderState.AVAILABLE, reason=reason)
    assert stage.texts == ["rig-1 — duplicate identity: a second agent"]


def test_a_provider_lost_with_a_job_says_which() -> None:
    """The job that it had is told, and is what the entry is about, too."""
    stage = Stage()
    stage.state(ProviderState.BUSY, current_job_id="train-7f")
    stage.state(ProviderState.OFFLINE, current_job_id="train-7f")
    assert stage.texts == ["rig-1 busy", "rig-1 offline, while it had train-7f"]
    assert stage.log.entries[-1].job_id == "train-7f"


def test_providers_come_change_and_go() -> None:
    """Each has its words; a name that the fleet does not know yet is the record's own."""
    stage = Stage()
    stage.say(events.PROVIDER_REGISTERED, provider("rig-2"))
    stage.say("MARKETPLACE_UPDATE", ProviderUpdated(provider=provider("rig-2", location="Lisbon")))
    stage.say("MARKETPLACE_UPDATE", ProviderRemoved(provider_id="rig-2-3f9a1c"))
    assert stage.texts == ["rig-2 registered", "rig-2 changed its record", "rig-2 removed"]


@pytest.mark.parametrize(
    ("state", "more", "words"),
    [
        (JobState.QUEUED, {"submitted_by": "alice"}, "job train-7f (train) submitted by alice"),
        (JobState.QUEUED, {"attempt": 1, "reason": "lost"}, "job train-7f waits for another attempt: lost"),
        (JobState.ASSIGNED, {"attempt": 1}, "job train-7f assigned to rig-1"),
        (JobState.RUNNING, {"attempt": 2}, "job train-7f runs on rig-1, attempt 2"),
        (JobState.UNKNOWN, {"attempt": 1}, "job train-7f is out of reach on rig-1"),
        (JobState.COMPLETED, {"cost_micros": 312_000}, "job train-7f completed on rig-1, 0.31"),
        (JobState.FAILED, {"reason": "exit code 1"}, "job train-7f failed on rig-1: exit code 1"),
        (JobState.CANCELLED, {}, "job train-7f cancelled on rig-1"),
    ],
)
def test_jobs_in_words(state: JobState, more: dict[str, Any], words: str) -> None:
    """Each state says who, what and why, and leads to the job and its provider."""
    stage = Stage()
    stage.job(state, provider_id="rig-1-3f9a1c", **more)
    (entry,) = stage.log.entries
    assert entry.text == words
    assert (entry.kind, entry.job_id, entry.provider_id) == (Kind.JOB, "train-7f", "rig-1-3f9a1c")


def test_a_new_job_is_told_when_it_is_submitted() -> None:
    """Who runs it is not known yet."""
    stage = Stage()
    job = Job(id="j", workload="render", state=JobState.QUEUED, created_at=to_timestamp(NOW))
    stage.say("MARKETPLACE_UPDATE", JobCreated(job=job))
    assert stage.texts == ["job j (render) submitted"]


def test_text_from_outside_is_made_harmless() -> None:
    """A name or a reason that a terminal could obey is shown with signs in its place."""
    stage = Stage()
    stage.log.tell(Kind.HUB, "the hub said \x1b[2J\u202e")
    stage.job(JobState.FAILED, reason="\x9b31m")
    assert all(text.isprintable() for text in stage.texts)


def test_it_is_bounded_and_says_what_came_since() -> None:
    """The newest are kept; who looked a while ago gets what came since, at most what is kept."""
    stage = Stage()
    for number in range(KEPT_ENTRIES + 2 * TRIMMED_AT_ONCE):
        stage.log.tell(Kind.HUB, f"{number}")
    assert stage.log.count == KEPT_ENTRIES + 2 * TRIMMED_AT_ONCE
    assert KEPT_ENTRIES <= len(stage.log.entries) <= KEPT_ENTRIES + TRIMMED_AT_ONCE
    assert stage.texts[-1] == f"{stage.log.count - 1}"
    assert [entry.text for entry in stage.log.since(stage.log.count - 2)] == stage.texts[-2:]
    assert stage.log.since(stage.log.count) == []
    assert stage.log.since(0) == stage.log.entries
    assert [entry.number for entry in stage.log.newest(2)] == [stage.log.count, stage.log.count - 1]
