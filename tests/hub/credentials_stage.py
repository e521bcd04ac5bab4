"""The parts of a hub that tokens and codes need, without sockets."""

from collections.abc import Coroutine
from typing import Any

import pytest

from qubix_tui.hub.access import Identity
from qubix_tui.hub.audit import Actor, Audit
from qubix_tui.hub.credentials import Credentials
from qubix_tui.hub.engine.base import Engine
from qubix_tui.hub.registry import Registry
from qubix_tui.hub.tokens import Tokens
from qubix_tui.protocol.errors import ErrorCode, ProtocolError
from qubix_tui.protocol.requests import Enroll, IssueToken
from qubix_tui.protocol.tokens import Role
from tests.hub.manual_clock import ManualClock

OPERATOR = Actor(Identity(Role.OPERATOR, "ops", "aaaaaaaaaaaa"), "192.0.2.1")
STRANGER = Actor(Identity(Role.NOBODY), "192.0.2.9")


class FakeSession:
    """A connection that remembers how it was ended."""

    def __init__(self, token_id: str | None, *, opened: bool = True) -> None:
        self.identity = Identity(Role.VIEWER, None, token_id)
        self.opened = opened
        self.ended: int | str | None = None

    def end(self, code: int, reason: str) -> None:
        self.ended = code

    def cut(self) -> None:
        self.ended = "cut"


class Hub:
    """The parts of a hub that credentials need, on one store."""

    def __init__(self, store: Engine, clock: ManualClock) -> None:
        self.store = store
        self.clock = clock
        self.tokens = Tokens()
        self.registry = Registry(clock)
        self.sessions: list[FakeSession] = []
        self.spawned: list[Coroutine[Any, Any, None]] = []
        self.credentials = Credentials(
            engine=store,
            known=self.tokens,
            registry=self.registry,
            audit=Audit(store, clock),
            clock=clock,
            sessions=lambda: self.sessions,
            spawn=self.spawned.append,
        )

    async def restarted(self) -> "Hub":
        """Another hub on the same store."""
        again = Hub(self.store, self.clock)
        await again.credentials.load()
        return again

    async def issue(self, role: Any = "viewer", name: str | None = "wall") -> tuple[str, str]:
        """A token and its id."""
        issued = await self.credentials.issue(OPERATOR, IssueToken(role=role, name=name))
        return issued.token, issued.token_id

    async def code(self, name: str | None = "rig") -> str:
        """An enrolment code."""
        return (await self.credentials.new_code(OPERATOR, name)).code

    async def actions(self) -> list[str]:
        """What the audit has, the newest first."""
        return [entry.action for entry in await self.credentials.audit.newest(100)]


def enroll(code: str, worker_id: str = "w1") -> Enroll:
    """What an agent asks."""
    return Enroll(code=code, worker_id=worker_id)


async def refused(code: ErrorCode, work: Coroutine[Any, Any, object]) -> str:
    """Check that something is refused, and give the sentence."""
    with pytest.raises(ProtocolError) as caught:
        await work
    assert caught.value.code is code
    return caught.value.message
