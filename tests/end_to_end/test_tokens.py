"""`qubix token`, `qubix enroll` and `qubix-agent enroll`, with a real hub."""

import json
import stat
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from qubix_tui.protocol.tokens import Role, is_token
from tests.agent.running import running
from tests.end_to_end.processes import command, environment, hub_process, run, started, wait_for


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The hub's QUBIX_HOME."""
    return tmp_path / "hub-home"


def document(home: Path, *arguments: str) -> dict[str, Any]:
    """Run a command that prints one JSON document."""
    done = run(["qubix", *arguments, "--json"], home)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def enroll(home: Path, url: str, typed: str, *options: str) -> "subprocess.CompletedProcess[str]":
    """Run ``qubix-agent enroll`` with something on its stdin."""
    return subprocess.run(
        [command("qubix-agent"), "enroll", "--hub", url, *options],
        env=environment(home),
        input=typed,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def tokens(home: Path) -> dict[str, dict[str, Any]]:
    """The tokens that are listed, by id."""
    return {token["tokenId"]: token for token in document(home, "token", "list")["tokens"]}


def watch(home: Path, url: str, token: str) -> Sequence[str]:
    """The command line of a watcher with a token of its own."""
    path = home / "watcher.token"
    path.write_text(token)
    return ["qubix", "watch", "marketplace", "--hub", url, "--token-file", str(path)]


def test_issue_use_revoke(home: Path, tmp_path: Path) -> None:
    """A new token lets a command in; revoked, it ends that command within a second and lets in no more."""
    with hub_process(home) as (_, url):
        issued = document(home, "token", "issue", "--role", "viewer", "--name", "wall")
        assert is_token(issued["token"])
        arguments = watch(home, url, issued["token"])
        with started(arguments, tmp_path / "elsewhere") as watcher:
            wait_for(lambda: tokens(home)[issued["tokenId"]]["connections"], "the watcher's connection")
            revoked = run(["qubix", "token", "revoke", issued["tokenId"]], home)
            asked = time.monotonic()
            assert (revoked.returncode, revoked.stdout) == (0, f"{issued['tokenId']} is revoked\n")
            wait_for(lambda: not tokens(home)[issued["tokenId"]]["connections"], "its end")
            assert time.monotonic() - asked < 5
            assert watcher.wait(20) == 1
            assert watcher.stderr is not None
            assert "4003" in watcher.stderr.read()
        again = run([*arguments], tmp_path / "elsewhere")
        assert again.returncode == 1
        assert "revoked" in again.stderr


def test_tokens_and_revocations_outlive_the_hub(home: Path) -> None:
    """After a restart on the same data directory everything is as it was."""
    with hub_process(home):
        good = document(home, "token", "issue", "--role", "operator", "--name", "ops")
        bad = document(home, "token", "issue", "--role", "operator", "--name", "gone")
        document(home, "token", "revoke", bad["tokenId"])
    with hub_process(home) as (_, url):
        found = tokens(home)
        assert found[good["tokenId"]]["revokedAt"] is None
        assert found[bad["tokenId"]]["revokedAt"] is not None
        for token, code in ((good["token"], 0), (bad["token"], 1)):
            tried = run(["qubix", "token", "list", "--hub", url], home, QUBIX_TOKEN=token)
            assert tried.returncode == code, tried.stderr
        actions = [entry["action"] for entry in document(home, "token", "audit")["entries"]]
        assert actions[-3:] == ["token_revoked", "token_issued", "token_issued"]
        assert "login_refused" in actions


def test_an_agent_enrolls_and_is_listed(home: Path, tmp_path: Path) -> None:
    """It trades the code, and from then on runs by itself; the code works no second time."""
    first, second = tmp_path / "first", tmp_path / "second"
    with hub_process(home) as (_, url):
        code = document(home, "enroll", "new", "--name", "rig-7")["code"]
        enrolled = enroll(first, url, f"{code.lower()}\n")
        assert enrolled.returncode == 0, enrolled.stderr
        assert enrolled.stdout.startswith("enrolled as rig-7-")
        kept = first / "agent" / "enrollment.json"
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert json.loads(kept.read_text())["token"] not in enrolled.stdout + enrolled.stderr
        with running(first, None) as agent:
            provider_id = agent.registered()
            listed = document(home, "providers")["providers"]
            assert [(one["id"], one["state"]) for one in listed] == [(provider_id, "available")]
            bound = [token for token in tokens(home).values() if token["providerId"] == provider_id]
            assert [token["connections"] for token in bound] == [1]
            used = enroll(second, url, f"{code}\n")
            assert used.returncode == 1
            assert "used already" in used.stderr
            document(home, "token", "revoke", bound[0]["tokenId"])
            assert "4003" in agent.complained("revoked")


def test_what_is_typed_wrong(home: Path, tmp_path: Path) -> None:
    """One sentence and a code for each: no code, a code in the clear, a file that exists, a guess."""
    with hub_process(home) as (_, url):
        no_code = enroll(tmp_path / "agent", url, "letmein\n")
        assert no_code.returncode == 2
        assert "four groups" in no_code.stderr
        clear = enroll(tmp_path / "agent", "ws://hub.example.org", "7KQ2-M0XA-9D4T-VR8C\n")
        assert clear.returncode == 2
        assert "--insecure" in clear.stderr
        out = tmp_path / "token"
        issue = ["qubix", "token", "issue", "--role", "viewer", "--name", "wall", "--out", str(out)]
        assert run(issue, home).returncode == 0
        written = out.read_text()
        assert is_token(written.strip())
        assert stat.S_IMODE(out.stat().st_mode) == 0o600
        assert run(issue, home).returncode == 2
        assert out.read_text() == written
        refused = run(["qubix", "token", "revoke", "000000000000"], home)
        assert refused.returncode == 1
        assert "no token 000000000000" in refused.stderr
        own = next(one for one in tokens(home).values() if one["role"] == Role.OPERATOR)
        local = run(["qubix", "token", "revoke", own["tokenId"]], home)
        assert local.returncode == 1
        assert "tokens/operator" in local.stderr
        shown = [run(["qubix", "token", what], home).stdout for what in ("list", "audit")]
        assert "local-operator" in shown[0]
        assert "token_issued" in shown[1]


def test_a_token_that_was_not_given_leaves_no_file(tmp_path: Path) -> None:
    """Where the hub refuses, or none is there."""
    out = tmp_path / "token"
    issue = ["qubix", "token", "issue", "--role", "viewer", "--name", "wall", "--out", str(out)]
    tried = run([*issue, "--hub", "ws://127.0.0.1:9"], tmp_path)
    assert tried.returncode == 3
    assert not out.exists()


def test_an_operator_may_revoke_its_own_token(home: Path) -> None:
    """It is done, and said."""
    with hub_process(home) as (_, url):
        issued = document(home, "token", "issue", "--role", "operator", "--name", "ops")
        arguments = ["qubix", "token", "revoke", issued["tokenId"], "--hub", url]
        first = run(arguments, home, QUBIX_TOKEN=issued["token"])
        assert first.returncode == 0
        assert "this command showed" in first.stderr
        second = run(arguments, home, QUBIX_TOKEN=issued["token"])
        assert second.returncode == 1
        assert "revoked" in second.stderr
