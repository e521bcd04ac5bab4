"""Which hub the agent dials, and what it shows there."""

from pathlib import Path

import pytest

from agent.target import DEFAULT_URL, Target, TargetError, TargetFinder
from qubix_tui import home
from qubix_tui.protocol.tokens import Role, new_token

LOCAL = "ws://127.0.0.1:4711"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QUBIX_HUB", "QUBIX_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def local_token(tmp_path: Path) -> str:
    """A hub of this user runs on this machine (this very process, as far as the files tell)."""
    home.write_hub_record(LOCAL, home=tmp_path)
    return home.ensure_local_token(Role.PROVIDER, home=tmp_path)


def test_without_anything(tmp_path: Path) -> None:
    """Nothing said and nothing running: the default address, and no token."""
    assert TargetFinder(None, None, tmp_path).find() == Target(DEFAULT_URL, None)


def test_the_hub_of_this_machine(tmp_path: Path, local_token: str) -> None:
    """A hub that runs here is found, with the provider's token that it left."""
    assert TargetFinder(None, None, tmp_path).find() == Target(LOCAL, local_token)


def test_a_hub_that_comes_later(tmp_path: Path) -> None:
    """The same finder finds a hub that was started after it."""
    finder = TargetFinder(None, None, tmp_path)
    assert finder.find().token is None
    home.write_hub_record(LOCAL, home=tmp_path)
    token = home.ensure_local_token(Role.PROVIDER, home=tmp_path)
    assert finder.find() == Target(LOCAL, token)


@pytest.mark.usefixtures("local_token")
def test_a_hub_that_was_set_goes_before_what_runs_here(tmp_path: Path) -> None:
    """Where the owner names a hub, that one is dialled."""
    assert TargetFinder("ws://localhost:2", None, tmp_path).find().url == "ws://localhost:2"


@pytest.mark.usefixtures("local_token")
def test_the_local_token_goes_to_the_local_hub_alone(tmp_path: Path) -> None:
    """Another hub is never shown the token of this machine's hub."""
    assert TargetFinder("wss://hub.example.org", None, tmp_path).find() == Target(
        "wss://hub.example.org", None
    )
    assert TargetFinder("ws://localhost:3001", None, tmp_path).find().token is None


@pytest.mark.usefixtures("local_token")
def test_a_given_token_beats_the_local_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--token-file, then QUBIX_TOKEN, then the local one; a newer token in the file is seen."""
    from_environment, from_file, newer = (new_token(Role.PROVIDER) for _ in range(3))
    monkeypatch.setenv("QUBIX_TOKEN", from_environment)
    assert TargetFinder(None, None, tmp_path).find().token == from_environment
    path = tmp_path / "token"
    path.write_text(from_file + "\n")
    finder = TargetFinder(None, path, tmp_path)
    assert finder.find().token == from_file
    path.write_text(newer)
    assert finder.find().token == newer


def test_a_missing_token_file(tmp_path: Path) -> None:
    """A file that is not there is named."""
    with pytest.raises(TargetError, match=r"there is no token file .*nowhere"):
        TargetFinder(None, tmp_path / "nowhere", tmp_path).find()


def test_a_token_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistyped token is told apart before it is sent, and not repeated in the sentence."""
    monkeypatch.setenv("QUBIX_TOKEN", "qbx_secretnonsense")
    with pytest.raises(TargetError, match="QUBIX_TOKEN holds no valid token") as caught:
        TargetFinder(None, None, tmp_path).find()
    assert "secretnonsense" not in str(caught.value)
    (tmp_path / "token").write_text("qbx_secretnonsense")
    with pytest.raises(home.HomeError, match="holds no valid token"):
        TargetFinder(None, tmp_path / "token", tmp_path).find()


def test_a_token_is_not_shown() -> None:
    """A target that ends up in a log does not show its token."""
    token = new_token(Role.PROVIDER)
    assert token not in repr(Target(LOCAL, token))
    assert "None" in repr(Target(LOCAL, None))
