"""`qubix hub --engine` as a process, on a real Redis."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.processes import hub_process, run, started, wait_for
from tests.redis_server import RedisServer, redis_server

ISSUE = ["qubix", "token", "issue", "--role", "viewer", "--name", "wall", "--hub"]


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """The Redis of the test."""
    with redis_server() as server:
        yield server


def providers(home: Path, url: str) -> list[str]:
    """The names of a hub's providers."""
    answer = run(["qubix", "providers", "--json", "--hub", url], home)
    assert answer.returncode == 0, answer.stderr
    return [provider["name"] for provider in json.loads(answer.stdout)["providers"]]


def test_what_a_killed_hub_knew_the_next_one_knows(tmp_path: Path, server: RedisServer) -> None:
    """On another data directory, after SIGKILL: the same provider and tokens."""
    with (
        hub_process(tmp_path, "--engine", server.url) as (first, url),
        started(["qubix-agent", "--hub", url, "--name", "steady"], tmp_path),
    ):
        wait_for(lambda: providers(tmp_path, url), "the agent to register")
        issued = run([*ISSUE, url], tmp_path)
        assert issued.returncode == 0, issued.stderr
        first.send_signal(signal.SIGKILL)
        first.wait()
    with hub_process(tmp_path, "--engine", server.url, "--data", str(tmp_path / "other")) as (_, url):
        assert providers(tmp_path, url) == ["steady"]
        assert "wall" in run(["qubix", "token", "list", "--hub", url], tmp_path).stdout
        assert not list(tmp_path.rglob("*.sqlite3"))


def test_mistakes_are_one_sentence(tmp_path: Path, server: RedisServer) -> None:
    """An address that is none, one with a password, a file that is not there, a Redis that is not there."""

    def told(*options: str, code: int, password: str = "") -> str:
        command = ["qubix", "hub", "--port", "0", *options]
        answer = run(command, tmp_path, QUBIX_ENGINE_PASSWORD=password)
        assert (answer.returncode, answer.stderr.count("\n"), answer.stdout) == (code, 1, "")
        return answer.stderr

    assert "--engine: an engine is sqlite, redis://" in told("--engine", "postgres://x", code=2)
    in_the_open = told("--engine", "redis://u:secret@r", code=2)
    assert "put it in a file" in in_the_open
    assert "secret" not in in_the_open
    missing = told("--engine", server.url, "--engine-password-file", "none", code=1)
    assert "can't read the password file" in missing
    assert "can't be reached" in told("--engine", "unix:///nowhere/redis.sock", code=1)
    server.command("CONFIG", "SET", "requirepass", "a secret")
    refused = told("--engine", server.url, code=1, password="not the secret")
    assert "does not let this hub in" in refused
    assert "not the secret" not in refused
    backup = run(["qubix", "hub", "--engine", server.url, "backup", "copy"], tmp_path)
    assert (backup.returncode, backup.stderr.count("\n")) == (1, 1)
    assert "docs/scaling.md" in backup.stderr


def test_a_hub_moves_to_redis_and_back(tmp_path: Path, server: RedisServer) -> None:
    """With its tokens and its audit; the command says how much of what, and refuses a hub that runs."""
    there = ["qubix", "hub", "move", "--from", "sqlite", "--to", server.url]
    with hub_process(tmp_path) as (process, url):
        issued = run(
            ["qubix", "token", "issue", "--role", "viewer", "--name", "wall", "--hub", url], tmp_path
        )
        assert issued.returncode == 0, issued.stderr
        refused = run(there, tmp_path)
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
        assert f"the hub with process id {process.pid} already uses" in refused.stderr
    moved = run(there, tmp_path)
    assert moved.returncode == 0, moved.stderr
    assert "        1  table tokens\n" in moved.stdout
    assert moved.stdout.endswith(f"set storage.engine to {server.url} before the hub is started again\n")
    back = ["qubix", "hub", "move", "--from", server.url, "--to", "sqlite"]
    with hub_process(tmp_path, "--engine", server.url) as (_, url):
        assert "wall" in run(["qubix", "token", "list", "--hub", url], tmp_path).stdout
        refused = run(back, tmp_path)
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
        assert "has the store on Redis" in refused.stderr
    returned = run(back, tmp_path)
    assert returned.returncode == 0, returned.stderr
    with hub_process(tmp_path) as (_, url):
        assert "wall" in run(["qubix", "token", "list", "--hub", url], tmp_path).stdout
    wrong = run(["qubix", "hub", "move", "--from", "sqlite", "--to", "sqlite"], tmp_path)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
