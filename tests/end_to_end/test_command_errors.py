"""What a person sees who types something wrong: one clear sentence, and a non-zero exit."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from qubix_tui import __version__
from qubix_tui.protocol.tokens import Role, new_token
from tests.end_to_end.processes import hub_process, run

SUBCOMMANDS = ("demo", "hub", "providers", "stats", "watch", "simulate", "token", "enroll")


@pytest.fixture
def nobody() -> Iterator[str]:
    """The address of a port where nobody listens for as long as the test runs."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"ws://127.0.0.1:{reserved.getsockname()[1]}"


def one_sentence(complaint: str) -> bool:
    """Whether it is one line without a traceback."""
    return complaint.count("\n") == 1 and "Traceback" not in complaint


@pytest.mark.parametrize("name", ["qubix", "qubix-agent"])
def test_version(name: str, tmp_path: Path) -> None:
    """--version prints the program's name and version."""
    shown = run([name, "--version"], tmp_path)
    assert (shown.returncode, shown.stdout) == (0, f"{name} {__version__}\n")


@pytest.mark.parametrize("arguments", [["qubix"], ["qubix-agent"], *(["qubix", s] for s in SUBCOMMANDS)])
def test_help_has_examples(arguments: list[str], tmp_path: Path) -> None:
    """--help answers everywhere, with examples."""
    shown = run([*arguments, "--help"], tmp_path)
    assert shown.returncode == 0
    assert "examples:" in shown.stdout


@pytest.mark.parametrize("arguments", [["qubix"], ["qubix-agent"], *(["qubix", s] for s in SUBCOMMANDS)])
def test_a_wrong_option(arguments: list[str], tmp_path: Path) -> None:
    """A wrong option is named in one sentence that says where help is; exit code 2."""
    shown = run([*arguments, "--no-such-option"], tmp_path)
    assert shown.returncode == 2
    assert one_sentence(shown.stderr), shown.stderr
    assert "--help" in shown.stderr


@pytest.mark.parametrize(
    "arguments", [["providers"], ["stats"], ["watch", "marketplace"], ["simulate", "--providers", "1"]]
)
def test_an_unreachable_hub(arguments: list[str], nobody: str, tmp_path: Path) -> None:
    """Where no hub answers, a command says which address it tried and exits with 3."""
    shown = run(["qubix", *arguments, "--hub", nobody], tmp_path)
    assert shown.returncode == 3
    assert one_sentence(shown.stderr.splitlines(keepends=True)[-1])
    assert nobody.removeprefix("ws://") in shown.stderr


@pytest.mark.parametrize("arguments", [["providers"], ["stats"], ["watch", "marketplace"], []])
@pytest.mark.parametrize("url", ["http://localhost:3001", "localhost:3001", "ws://", "ws://host:port"])
def test_a_bad_url(arguments: list[str], url: str, tmp_path: Path) -> None:
    """An address that is none says what one looks like; exit code 2."""
    shown = run(["qubix", *arguments, "--hub", url], tmp_path)
    assert shown.returncode == 2
    assert one_sentence(shown.stderr), shown.stderr
    assert "ws://" in shown.stderr


@pytest.mark.parametrize("arguments", [["providers"], ["stats"], ["watch", "marketplace"]])
def test_a_refused_token(arguments: list[str], tmp_path: Path) -> None:
    """A token that the hub does not know is refused in one sentence; exit code 1."""
    with hub_process(tmp_path) as (_, url):
        stranger = tmp_path / "stranger"
        stranger.write_text(new_token(Role.OPERATOR))
        shown = run(["qubix", *arguments, "--hub", url, "--token-file", str(stranger)], tmp_path)
        assert shown.returncode == 1
        assert one_sentence(shown.stderr), shown.stderr
        assert "token" in shown.stderr


def test_a_token_that_is_none(tmp_path: Path, nobody: str) -> None:
    """A mistyped token is told apart before anything is sent."""
    shown = run(["qubix", "stats", "--hub", nobody], tmp_path, QUBIX_TOKEN="qbx_nonsense")
    assert shown.returncode == 2
    assert "QUBIX_TOKEN" in shown.stderr


def test_a_channel_that_is_none(tmp_path: Path, nobody: str) -> None:
    """`watch` names the channels that there are."""
    shown = run(["qubix", "watch", "providers", "--hub", nobody], tmp_path)
    assert shown.returncode == 2
    assert "provider:ID" in shown.stderr
