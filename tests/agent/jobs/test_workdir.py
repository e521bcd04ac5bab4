"""A job's working directory is where it was made, and is gone afterwards whatever the job left there."""

import os
from pathlib import Path

import pytest

from agent.jobs import workdir
from agent.jobs.child import identity
from tests.agent.jobs.stage import Stage, ended

DEEP = 3_000
"""More levels than a path may have bytes for, a process open files, and Python calls."""


def test_it_is_removed_however_deep_it_is(tmp_path: Path) -> None:
    """Directories in directories, too many for any path, are removed with what lies at their end."""
    work = workdir.make(tmp_path, "job.1", None)
    directory = os.open(work, os.O_RDONLY)
    for _ in range(DEEP):
        os.mkdir("d", dir_fd=directory)
        above, directory = directory, os.open("d", os.O_RDONLY, dir_fd=directory)
        os.close(above)
    os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=directory))
    os.close(directory)
    workdir.remove(work)
    assert list(tmp_path.iterdir()) == []


def test_it_is_removed_however_much_there_is(tmp_path: Path) -> None:
    """More entries than are looked at together are removed, hidden and empty ones too."""
    work = workdir.make(tmp_path, "job.1", None)
    for number in range(1_500):
        (work / f".{number}").mkdir()
        (work / f"{number}").touch()
    workdir.remove(work)
    assert list(tmp_path.iterdir()) == []


def test_no_link_is_followed(tmp_path: Path) -> None:
    """What links in a working directory, or one in its place, lead to keeps its content and its mode."""
    other = tmp_path / "other"
    (other / "inner").mkdir(parents=True)
    (other / "file").touch()
    other.chmod(0o755)
    root = tmp_path / "root"
    root.mkdir()
    work = workdir.make(root, "job.1", None)
    (work / "sub").mkdir()
    (work / "sub" / "link").symlink_to(other)
    (work / "link").symlink_to(other)
    workdir.remove(work)
    replaced = workdir.make(root, "job.2", None)
    replaced.rmdir()
    replaced.symlink_to(other)
    workdir.remove(replaced)
    assert list(root.iterdir()) == []
    assert (other / "file").exists()
    assert (other / "inner").is_dir()
    assert other.stat().st_mode & 0o777 == 0o755


@pytest.mark.skipif(os.geteuid() == 0, reason="root needs no rights")
def test_rights_that_were_taken_away_keep_nothing(tmp_path: Path) -> None:
    """Directories that may not be read, written or entered are removed."""
    work = workdir.make(tmp_path, "job.1", None)
    for mode in (0o000, 0o400, 0o100, 0o500):
        (work / f"{mode}" / "inner").mkdir(parents=True)
        (work / f"{mode}" / "inner" / "file").touch()
        (work / f"{mode}" / "inner").chmod(mode)
        (work / f"{mode}").chmod(mode)
    work.chmod(0o000)
    workdir.remove(work)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs jobs as somebody else")
def test_a_job_can_not_put_a_link_in_its_place(stage: Stage) -> None:
    """A job of another user's can't move its working directory, and leaves nothing there."""
    script = """
import os
work = os.environ["QUBIX_WORKDIR"]
os.chdir("/")
try:
    os.rename(work, work + "-moved")
except OSError as error:
    print(error.strerror, os.getuid() != 0)
"""
    attempt = stage.start(script, user="nobody")
    assert ended(attempt).status == "completed"
    assert attempt.files.stream("stdout").read_text() == "Permission denied True\n"
    work = Path(attempt.files.read_plan().work)
    assert not work.parent.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_it_belongs_to_whom_the_job_runs_as(tmp_path: Path) -> None:
    """It is its user's alone; what is around it is not."""
    nobody = identity("nobody")
    assert nobody is not None
    work = workdir.make(tmp_path, "job.1", nobody)
    assert (work.stat().st_uid, work.stat().st_mode & 0o777) == (nobody.uid, 0o700)
    assert (work.parent.stat().st_uid, work.parent.stat().st_mode & 0o777) == (0, 0o711)
    workdir.remove(work)
    assert not work.parent.exists()
