"""Fixtures of the agent's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.fake_nvml import FakeNvml, build
from tests.agent.reader import Reader


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the built stand-in for NVML."""
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def nvml(nvml_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """A stand-in for NVML with two GPUs, which every process started by the test finds."""
    fake = FakeNvml(nvml_library, tmp_path / "nvml.txt")
    for name, value in fake.environment.items():
        monkeypatch.setenv(name, value)
    return fake


@pytest.fixture
def reader() -> Iterator[Reader]:
    """A reader whose child is ended with the test."""
    reader = Reader()
    yield reader
    reader.sensor.close()
