"""`qubix hub` as a process."""

import json
import re
import signal
import time
from pathlib import Path

import pytest

from qubix_tui import home
from qubix_tui.protocol.tokens import is_token
from tests.end_to_end.processes import hub_process, run, started


def test_it_prints_one_line_and_ends_on_sigterm(tmp_path: Path) -> None:
    """`qubix hub --port 0` prints where it listens; SIGTERM ends it within 3 s with exit code 0."""
    with hub_process(tmp_path) as (process, url):
        assert re.fullmatch(r"ws://127\.0\.0\.1:\d+", url)
        before = time.monotonic()
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=10)
        assert process.returncode == 0
        assert time.monotonic() - before < 3
        assert output == ""


def test_ctrl_c_ends_it_cleanly(tmp_path: Path) -> None:
    """SIGINT ends the hub with exit code 0 and without a traceback."""
    with hub_process(tmp_path) as (process, _):
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=10)
        assert process.returncode == 0
        assert "Traceback" not in complaint


def test_it_leaves_private_tokens_and_takes_its_address_back(tmp_path: Path) -> None:
    """The hub makes the local tokens once (0600), says where it is in hub.json, and unsays it at its end."""
    with hub_process(tmp_path) as (process, url):
        assert home.running_hub(home=tmp_path) == url
        made = {}
        for role in ("operator", "provider"):
            path = tmp_path / "tokens" / role
            assert path.stat().st_mode & 0o777 == 0o600
            made[role] = path.read_text().strip()
            assert is_token(made[role])
        assert made["operator"] != made["provider"]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)
    assert not (tmp_path / "hub.json").exists()
    with hub_process(tmp_path):
        assert {role: (tmp_path / "tokens" / role).read_text().strip() for role in made} == made


def test_a_second_hub_on_the_same_data_says_who_holds_it(tmp_path: Path) -> None:
    """Two hubs never share a data directory: the second names the first's process and exits with 1."""
    with hub_process(tmp_path) as (process, _):
        second = run(["qubix", "hub", "--port", "0"], tmp_path)
        assert second.returncode == 1
        assert str(process.pid) in second.stderr
        assert "--data" in second.stderr
        assert second.stderr.count("\n") == 1


def test_a_busy_port_is_one_sentence(tmp_path: Path) -> None:
    """A port that is taken gives one sentence with a remedy and exit code 1."""
    with hub_process(tmp_path) as (_, url):
        port = url.rsplit(":", 1)[1]
        second = run(["qubix", "hub", "--port", port, "--data", str(tmp_path / "other")], tmp_path)
        assert second.returncode == 1
        assert "--port 0" in second.stderr
        assert second.stderr.count("\n") == 1


def test_it_refuses_strangers_without_tls(tmp_path: Path) -> None:
    """Listening beyond loopback without TLS needs --insecure, and the refusal says so."""
    refused = run(["qubix", "hub", "--host", "0.0.0.0", "--port", "0"], tmp_path)
    assert refused.returncode == 1
    assert "--insecure" in refused.stderr


@pytest.mark.parametrize(
    "options", [["--allow-origin", "console.example"], ["--allow-origin", "*"], ["--public-name", "a b"]]
)
def test_an_origin_or_a_name_that_is_none(options: list[str], tmp_path: Path) -> None:
    """What can't be an origin or a host's name is refused at the start, in one sentence; exit code 2."""
    refused = run(["qubix", "hub", "--port", "0", *options], tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1, refused.stderr


def test_providers_and_stats_of_an_empty_hub(tmp_path: Path) -> None:
    """With no provider, `providers --json` gives an empty list and `stats --json` the guide's shape."""
    with hub_process(tmp_path) as (_, url):
        providers = run(["qubix", "providers", "--json", "--hub", url], tmp_path)
        assert json.loads(providers.stdout) == {"providers": []}
        stats = run(["qubix", "stats", "--json"], tmp_path, QUBIX_HUB=url)
        assert json.loads(stats.stdout) == {
            "success": True,
            "stats": {"totalClients": 0, "totalSubscriptions": 0, "subscriptionDetails": []},
        }


def test_simulated_providers_are_listed_as_such(tmp_path: Path) -> None:
    """A fleet from `qubix simulate` is listed, marked SIM, with live numbers."""
    with (
        hub_process(tmp_path) as (_, url),
        started(["qubix", "simulate", "--providers", "5", "--hz", "5", "--hub", url], tmp_path),
    ):
        deadline = time.monotonic() + 20
        listed: list[dict[str, object]] = []
        while not (len(listed) == 5 and all(p["metrics"] for p in listed if p["isOnline"])):
            assert time.monotonic() < deadline
            listed = json.loads(run(["qubix", "providers", "--json"], tmp_path).stdout)["providers"]
        assert all(provider["simulated"] for provider in listed)
        assert all(str(provider["id"]).startswith("sim-") for provider in listed)
        assert run(["qubix", "providers"], tmp_path).stdout.count(" SIM ") == 5
