"""Stores that outlive a hub, for the tests that hold on any of them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qubix_tui.hub.engine.base import Engine
from qubix_tui.hub.engine.local import LocalEngine
from qubix_tui.hub.engine.redis import RedisEngine
from tests.redis_server import RedisServer, redis_server

MakeStore = Callable[..., Engine]
"""Makes an engine on one and the same store, each time that it is called."""


@pytest.fixture(scope="module")
def shared_redis() -> Iterator[RedisServer]:
    """One Redis for all tests of a module; each takes a prefix of its own."""
    with redis_server() as server:
        yield server


@pytest.fixture(params=["local", "redis"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    """Each store that outlives its hub in turn, empty at first."""
    if request.param == "local":
        return lambda **options: LocalEngine(tmp_path / "hub.sqlite3", **options)
    address = request.getfixturevalue("shared_redis").address

    def make(**options: Any) -> Engine:
        return RedisEngine(address, prefix=f"{tmp_path}:", **options)

    return make
