"""What tests of the console share."""

import time
from collections.abc import Iterator

import pytest

from tests.console.snapshots import snapshot

__all__ = ["snapshot"]


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Show times of day as in UTC, wherever the tests run."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
