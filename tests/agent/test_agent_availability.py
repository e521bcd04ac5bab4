"""What an owner wishes is kept, and what a hub has to hear of it."""

import stat
from pathlib import Path

import pytest

from agent.availability import UNREADABLE, Availability
from agent.state import StateError
from qubix_tui.protocol.requests import SetStatus

PAUSED = SetStatus(paused=True, reason="mine today")
RESUMED = SetStatus(paused=False)
DRAINING = SetStatus(paused=False, draining=True)


def test_an_owner_who_said_nothing(tmp_path: Path) -> None:
    """Jobs are taken, nothing is on disk, and no hub is told to lift what it has reasons of its own for."""
    availability = Availability(tmp_path)
    assert availability.takes_jobs
    assert availability.to_tell() is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wish", [PAUSED, DRAINING])
def test_it_outlives_the_agent(wish: SetStatus, tmp_path: Path) -> None:
    """Kept back before a restart is kept back after it, and every hub is told again."""
    before = Availability(tmp_path)
    before.set(wish)
    before.told(wish)
    assert stat.S_IMODE((tmp_path / "availability.json").stat().st_mode) == 0o600
    after = Availability(tmp_path)
    assert (after.wish, after.takes_jobs, after.to_tell(), after.hub_knows) == (wish, False, wish, False)


def test_a_resume_is_told_until_a_hub_has_heard_it(tmp_path: Path) -> None:
    """Also over a restart; after that there is nothing more to tell."""
    first = Availability(tmp_path)
    first.set(PAUSED)
    first.set(RESUMED)
    second = Availability(tmp_path)
    assert second.takes_jobs
    assert second.to_tell() == RESUMED
    second.told(RESUMED)
    assert (second.hub_knows, second.to_tell()) == (True, None)
    assert Availability(tmp_path).to_tell() is None


def test_an_older_wish_that_was_heard_is_no_answer_to_a_newer_one(tmp_path: Path) -> None:
    """What counts is that the hub has heard the newest."""
    availability = Availability(tmp_path)
    availability.set(PAUSED)
    availability.set(DRAINING)
    availability.told(PAUSED)
    assert not availability.hub_knows
    availability.told(DRAINING)
    assert availability.hub_knows


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"paused": 1}', b"\xff\xfe", b"[" * 2000])
def test_a_file_that_can_not_be_read(content: bytes, tmp_path: Path) -> None:
    """What the owner wished is not known: nobody takes the machine until the owner says so."""
    (tmp_path / "availability.json").write_bytes(content)
    availability = Availability(tmp_path)
    assert availability.wish == SetStatus(paused=True, reason=UNREADABLE)
    availability.set(RESUMED)
    assert Availability(tmp_path).takes_jobs


def test_a_wish_that_can_not_be_kept_counts(tmp_path: Path) -> None:
    """A disk that takes no file takes nothing from the owner: it counts until the agent ends."""
    (tmp_path / ".availability.json.new").mkdir()
    availability = Availability(tmp_path)
    with pytest.raises(StateError, match=r"availability\.json"):
        availability.set(PAUSED)
    assert not availability.takes_jobs
    assert availability.to_tell() == PAUSED
