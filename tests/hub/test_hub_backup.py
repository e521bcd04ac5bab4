"""Copies of a hub's database, made while it is in use."""

import sqlite3
import stat
from pathlib import Path

import pytest

from qubix_tui.hub.engine.backup import BackupFailed, back_up
from qubix_tui.hub.engine.base import Change, NewEvent
from qubix_tui.hub.engine.local import LocalEngine


async def test_a_copy_made_in_use_is_a_store_of_its_own(tmp_path: Path) -> None:
    """It holds all that was acknowledged before it was begun, and nothing is written to it afterwards."""
    engine = LocalEngine(tmp_path / "hub.sqlite3")
    await engine.open()
    await engine.commit((), [Change("jobs", "a", b"1")], [NewEvent("c", "T", b"{}")])
    copy = tmp_path / "copy.sqlite3"
    size = back_up(tmp_path / "hub.sqlite3", copy)
    await engine.commit((), [Change("jobs", "b", b"2")], [])
    await engine.close()
    assert size == copy.stat().st_size
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.sqlite3", "hub.sqlite3"]
    restored = LocalEngine(copy)
    await restored.open()
    assert (restored.epoch, restored.offset("c")) == (engine.epoch, 1)
    assert await restored.load("jobs") == {"a": b"1"}
    await restored.close()


async def test_nothing_is_written_over(tmp_path: Path) -> None:
    """A file, or a link to one, stays as it is."""
    engine = LocalEngine(tmp_path / "hub.sqlite3")
    await engine.open()
    await engine.close()
    kept = tmp_path / "kept"
    kept.write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(kept)
    for target in (kept, link):
        with pytest.raises(BackupFailed, match="exists, and is not written over"):
            back_up(tmp_path / "hub.sqlite3", target)
    assert kept.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hub.sqlite3", "kept", "link"]


def test_what_can_not_be_copied_leaves_nothing_behind(tmp_path: Path) -> None:
    """Each with a sentence that says what is wrong."""
    foreign, broken = tmp_path / "foreign", tmp_path / "broken"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    broken.write_bytes(b"no database at all" * 1_000)
    for database, words in (
        (tmp_path / "missing", "there is no database"),
        (foreign, "of another program"),
        (broken, "can't be copied"),
    ):
        with pytest.raises(BackupFailed, match=words):
            back_up(database, tmp_path / "copy")
    with pytest.raises(BackupFailed, match="can't write in"):
        back_up(foreign, tmp_path / "nowhere" / "copy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "foreign"]
