"""Which hub a command dials, and which token it shows there."""

import argparse
from pathlib import Path

import pytest

from qubix_tui import home
from qubix_tui.cli.common import DEFAULT_URL, CommandError, Target, find_hub
from qubix_tui.cli.local_hub import DataLocked, locked_data
from qubix_tui.cli.main import build_parser
from qubix_tui.protocol.tokens import Role, new_token


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A QUBIX_HOME of its own, and nothing in the environment that speaks of a hub."""
    monkeypatch.setenv("QUBIX_HOME", str(tmp_path))
    for name in ("QUBIX_HUB", "QUBIX_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def arguments(*words: str) -> argparse.Namespace:
    """A command line, parsed."""
    return build_parser().parse_args(words)


def test_without_a_word_it_is_the_usual_port(directory: Path) -> None:
    """Where nothing is asked for and no hub is known, the usual address is dialled, without a token."""
    assert find_hub(arguments("stats")) == Target(DEFAULT_URL, None)


def test_a_running_local_hub_is_found_with_its_token(directory: Path) -> None:
    """The hub that hub.json names is dialled at its exact address, with this user's operator token."""
    home.write_hub_record("ws://127.0.0.1:4321", home=directory)
    token = home.ensure_local_token(Role.OPERATOR, home=directory)
    assert find_hub(arguments("stats")) == Target("ws://127.0.0.1:4321", token)
    assert find_hub(arguments("stats", "--hub", "ws://localhost:4321")) == Target(
        "ws://127.0.0.1:4321", token
    )


@pytest.mark.parametrize(
    "url", ["ws://hub.example:4321", "ws://127.0.0.1:9", "wss://127.0.0.1:4321", "ws://localhost"]
)
def test_another_hub_never_gets_the_local_token(url: str, directory: Path) -> None:
    """Another host, port or scheme is another hub."""
    home.write_hub_record("ws://127.0.0.1:4321", home=directory)
    home.ensure_local_token(Role.OPERATOR, home=directory)
    assert find_hub(arguments("stats", "--hub", url)) == Target(url, None)


def test_what_is_said_goes_before_what_is_found(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An option goes before the environment, and that before the local hub, on either side of the command."""
    file_token, environment_token = new_token(Role.VIEWER), new_token(Role.VIEWER)
    path = directory / "mine"
    path.write_text(f"{file_token}\n")
    monkeypatch.setenv("QUBIX_HUB", "ws://127.0.0.1:5")
    monkeypatch.setenv("QUBIX_TOKEN", environment_token)
    assert find_hub(arguments("stats")) == Target("ws://127.0.0.1:5", environment_token)
    said = Target("ws://127.0.0.1:6", file_token)
    options = ("--hub", "ws://127.0.0.1:6", "--token-file", str(path))
    assert find_hub(arguments("stats", *options)) == said
    assert find_hub(arguments(*options, "stats")) == said


def test_a_missing_token_file_is_named(directory: Path) -> None:
    """The sentence has the file's name."""
    with pytest.raises(CommandError, match="no-such-file"):
        find_hub(arguments("stats", "--token-file", str(directory / "no-such-file")))


@pytest.mark.parametrize("command", ["demo", "hub"])
def test_what_starts_a_hub_takes_no_other(
    command: str, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`qubix --hub URL demo` is a contradiction, and says so."""
    from qubix_tui.cli.main import main

    with pytest.raises(SystemExit) as ended:
        main(["--hub", "ws://127.0.0.1:5", command])
    assert ended.value.code == 2
    assert "--hub" in capsys.readouterr().err


def test_a_data_directory_has_one_hub(tmp_path: Path) -> None:
    """While it is held another one is told who holds it; afterwards it is free again."""
    import os

    with locked_data(tmp_path), pytest.raises(DataLocked, match=str(os.getpid())), locked_data(tmp_path):
        pass
    with locked_data(tmp_path):
        pass
