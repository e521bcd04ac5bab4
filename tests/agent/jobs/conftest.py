"""Fixtures of the tests of jobs."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent.jobs import runner
from tests.agent.jobs import without_cgroup
from tests.agent.jobs.stage import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Starts attempts; what still runs is ended with the test."""
    made = Stage(tmp_path / "jobs")
    yield made
    made.close()


@pytest.fixture(params=["cgroup", "no cgroup"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a control group of the job's own (where there can be one), and without."""
    if request.param == "no cgroup":
        monkeypatch.setattr(runner, "supervisor", SimpleNamespace(__file__=without_cgroup.__file__))
