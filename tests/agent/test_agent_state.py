"""The state directory: one identity, one agent."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agent.state import AlreadyRunning, StateError, locked, worker_id
from qubix_tui.home import HomeError
from qubix_tui.protocol.channels import is_id


def test_the_identity_is_made_once(tmp_path: Path) -> None:
    """The first call makes a random id, readable by its owner alone; every later call gives the same."""
    first = worker_id(tmp_path)
    assert is_id(first)
    assert worker_id(tmp_path) == first
    assert stat.S_IMODE((tmp_path / "worker-id").stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["worker-id"]


def test_two_machines_have_two_identities(tmp_path: Path) -> None:
    """Two state directories never get the same id."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert worker_id(tmp_path / "a") != worker_id(tmp_path / "b")


@pytest.mark.parametrize("content", ["", "two words\n", "x" * 65, "../up"])
def test_a_damaged_identity_is_never_replaced(content: str, tmp_path: Path) -> None:
    """A file without an id is a sentence about that file, and stays as it is: a new id is a new provider."""
    path = tmp_path / "worker-id"
    path.write_text(content)
    with pytest.raises(StateError, match="worker-id holds no worker id"):
        worker_id(tmp_path)
    assert path.read_text() == content


def test_an_identity_that_can_not_be_read(tmp_path: Path) -> None:
    """What can't be read is named."""
    (tmp_path / "worker-id").mkdir()
    with pytest.raises(StateError, match=r"can't read .*worker-id"):
        worker_id(tmp_path)


def test_an_identity_that_can_not_be_made(tmp_path: Path) -> None:
    """Where it can't be written the file is named."""
    with pytest.raises(StateError, match=r"can't write .*worker-id"):
        worker_id(tmp_path / "missing")


def test_one_agent_at_a_time(tmp_path: Path) -> None:
    """A second agent is told which process has the directory; when the first is gone it may have it."""
    directory = tmp_path / "agent"
    with locked(directory) as held:
        assert held == directory
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        holder = f"process id {os.getpid()} already uses"
        with pytest.raises(AlreadyRunning, match=holder), locked(directory):
            pytest.fail("two agents hold one state directory")
    with locked(directory):
        pass


def test_the_lock_ends_with_the_process(tmp_path: Path) -> None:
    """An agent that was killed leaves nothing that would stop the next one."""
    program = (
        "import os, sys, pathlib; from agent.state import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False).returncode == -9
    with locked(tmp_path):
        pass


def test_the_lock_is_not_inherited(tmp_path: Path) -> None:
    """A child of an agent does not hold its lock."""
    with locked(tmp_path):
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False)
    try:
        with locked(tmp_path):
            pass
    finally:
        child.communicate()


def test_a_directory_that_can_not_be_made(tmp_path: Path) -> None:
    """A file in the way is named, with the way out."""
    (tmp_path / "file").touch()
    with pytest.raises(HomeError, match="QUBIX_HOME"), locked(tmp_path / "file" / "agent"):
        pytest.fail("a file was taken for a directory")


def test_a_lock_that_is_no_file(tmp_path: Path) -> None:
    """Where the lock can't be opened the directory is named."""
    (tmp_path / "lock").mkdir()
    with pytest.raises(StateError, match="can't write to"), locked(tmp_path):
        pytest.fail("a directory was taken for a lock")
