"""What an agent keeps of its enrolment, and when it shows it to a hub."""

import io
import stat
import sys
from pathlib import Path

import msgspec
import pytest

from agent.cli.common import CommandError
from agent.cli.enroll import read_code
from agent.enrolment import EnrollFailed, Kept, enroll, kept
from agent.state import AlreadyRunning, StateError, identity, locked
from agent.target import Target, TargetFinder
from qubix_tui import home
from qubix_tui.hub.access import Identity
from qubix_tui.hub.audit import Actor
from qubix_tui.protocol.tokens import Role, new_code, new_token
from tests.hub.wire import Running, running

HUB = "wss://hub.example.org"
CREATOR = Actor(Identity(Role.OPERATOR, "ops", "abc123"), "")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QUBIX_HUB", "QUBIX_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The agent's state directory under a QUBIX_HOME."""
    return home.private_dir(tmp_path / "agent")


def keep(state: Path, url: str = HUB) -> str:
    """Have the agent enrolled at a hub; gives its token."""
    token = new_token(Role.PROVIDER)
    document = msgspec.json.encode(Kept(hub=url, provider_id="rig-1", token=token))
    (state / "enrollment.json").write_bytes(document)
    return token


async def code_of(hub: Running, name: str | None = "rig") -> str:
    """An enrolment code of a hub."""
    return (await hub.hub.services.credentials.new_code(CREATOR, name)).code


async def test_a_code_becomes_a_token_that_the_owner_alone_can_read(state: Path) -> None:
    """0600, for that hub, and nothing else is left in the directory."""
    async with running() as hub:
        result = await enroll(hub.hub.url, await code_of(hub), "w1", state)
        assert kept(state) == result
        assert result.provider_id.startswith("rig-")
        assert hub.access.authenticate(result.token).subject == result.provider_id
    (file,) = state.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert result.token not in repr(result)


async def test_a_refused_code_leaves_what_was_there(state: Path) -> None:
    """The sentence is the hub's own; an older enrolment stays."""
    token = keep(state)
    async with running() as hub:
        with pytest.raises(EnrollFailed, match="does not know the code"):
            await enroll(hub.hub.url, new_code(), "w1", state)
    found = kept(state)
    assert found is not None
    assert found.token == token
    assert [path.name for path in state.iterdir()] == ["enrollment.json"]


async def test_a_hub_that_is_not_there_costs_no_code(state: Path) -> None:
    """One sentence, at the first try."""
    async with running() as hub:
        url = hub.hub.url
    with pytest.raises(EnrollFailed, match="nothing listens"):
        await enroll(url, new_code(), "w1", state)


async def test_no_code_is_spent_where_the_token_can_not_be_kept(tmp_path: Path) -> None:
    """The file is made before the hub is asked."""
    async with running() as hub:
        code = await code_of(hub)
        with pytest.raises(StateError, match="can't write"):
            await enroll(hub.hub.url, code, "w1", tmp_path / "nowhere")
        assert (await enroll(hub.hub.url, code, "w1", tmp_path)).token


async def test_a_token_that_was_lost_is_said(state: Path) -> None:
    """Where the last step fails the sentence says what became of the code."""
    (state / "enrollment.json").mkdir()
    async with running() as hub:
        with pytest.raises(StateError, match="new code"):
            await enroll(hub.hub.url, await code_of(hub), "w1", state)
    assert [path.name for path in state.iterdir()] == ["enrollment.json"]


def test_an_agent_that_never_enrolled(state: Path) -> None:
    """There is nothing, and that is no error."""
    assert kept(state) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b'{"hub": "ws://x", "providerId": "rig-1"}',
        b'{"hub":"","providerId":"","token":"x"}',
    ],
)
def test_a_damaged_enrolment_says_what_to_do(state: Path, content: bytes) -> None:
    """Whatever is in the file; the agent neither guesses nor shows half a token."""
    (state / "enrollment.json").write_bytes(content)
    with pytest.raises(StateError, match="enroll again"):
        kept(state)
    with pytest.raises(StateError):
        TargetFinder(None, None, state.parent).find()


def test_an_enrolment_that_can_not_be_read(state: Path) -> None:
    """The operating system's own word for why."""
    (state / "enrollment.json").mkdir()
    with pytest.raises(StateError, match="can't read"):
        kept(state)


def test_an_enrolled_agent_finds_its_hub_by_itself(tmp_path: Path, state: Path) -> None:
    """Before the hub of this machine; the address may be said as well, in another spelling."""
    token = keep(state)
    home.write_hub_record("ws://127.0.0.1:4711", home=tmp_path)
    assert TargetFinder(None, None, tmp_path).find() == Target(HUB, token)
    asked = f"{HUB}:443/"
    assert TargetFinder(asked, None, tmp_path).find() == Target(asked, token)


@pytest.mark.parametrize(
    "other", ["ws://hub.example.org", "wss://hub.example.org:8443", "wss://other.example.org", "no address"]
)
def test_its_token_goes_to_that_hub_alone(tmp_path: Path, state: Path, other: str) -> None:
    """Another scheme, port or name is another hub."""
    keep(state)
    assert TargetFinder(other, None, tmp_path).find() == Target(other, None)


def test_what_is_said_goes_before_what_was_kept(tmp_path: Path, state: Path) -> None:
    """A hub that was set is another hub, a token file another token; a local hub's own token comes last."""
    token, given = keep(state, "ws://127.0.0.1:4711"), new_token(Role.PROVIDER)
    home.write_hub_record("ws://127.0.0.1:4711", home=tmp_path)
    home.ensure_local_token(Role.PROVIDER, home=tmp_path)
    assert TargetFinder(None, None, tmp_path).find().token == token
    (tmp_path / "given").write_text(given)
    assert TargetFinder(None, tmp_path / "given", tmp_path).find().token == given
    assert TargetFinder("ws://127.0.0.1:1", None, tmp_path).find() == Target("ws://127.0.0.1:1", None)


def test_an_agent_that_runs_can_be_enrolled(state: Path) -> None:
    """It has its identity already; one that has yet to make it is waited for by a person."""
    with locked(state):
        with pytest.raises(AlreadyRunning), identity(state):
            raise AssertionError("there is no identity yet")
        (state / "worker-id").write_text("w1\n")
        with identity(state) as found:
            assert found == (state, "w1")
    with identity(state) as found:
        assert found == (state, "w1")


def test_a_code_is_read_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    """However it is typed; what can be none is refused before anything is dialled."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(" 7kq2 m0xa 9d4t vr8c \n"))
    assert read_code(HUB) == "7KQ2-M0XA-9D4T-VR8C"
    for wrong in ("", "\n", "7KQ2-M0XA", "x" * 10_000):
        monkeypatch.setattr(sys, "stdin", io.StringIO(wrong))
        with pytest.raises(CommandError, match="four groups"):
            read_code(HUB)
