"""Whether this machine can serve: real looks at real things, good and bad."""

import datetime as dt
import getpass
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.doctor import gpus, host
from agent.doctor.finding import WIDTH, Finding, State, can_serve, lines
from agent.sensors.offer import Offer
from qubix_tui.protocol.tokens import Role, new_token
from tests.agent.fake_nvml import DRIVER_NOT_LOADED, NO_PERMISSION, SMALL, VERSION_MISMATCH, FakeNvml
from tests.agent.running import NO_LIBRARY, provider, running
from tests.agent.test_agent_transport import AUTHORITY, tls_hub
from tests.end_to_end.processes import command, environment, hub_process, run, wait_for

WORDS = st.text(max_size=200)


class Examined(NamedTuple):
    """What a doctor said."""

    code: int
    found: Mapping[str, dict[str, Any]]
    """The findings by what they are of; of several, the last."""


def examine(home: Path, *options: str, **extra: str) -> Examined:
    """Run `qubix-agent doctor --json`."""
    shown = run(["qubix-agent", "doctor", "--json", *options], home, **{**NO_LIBRARY, **extra})
    assert shown.stderr == ""
    document = json.loads(shown.stdout)
    assert document["canServe"] is (shown.returncode == 0)
    return Examined(shown.returncode, {one["check"]: one for one in document["findings"]})


@given(st.lists(st.builds(Finding, WORDS, st.sampled_from(State), WORDS, WORDS, WORDS), max_size=3))
def test_whatever_was_seen_fits_a_terminal(findings: list[Finding]) -> None:
    """In ASCII where nothing else is taken, and for a bad one with what is needed and what to do."""
    for line in lines(findings, ascii_only=True):
        assert line.isascii()
    shown = [Finding("hub", State.FAIL, "x " * 100, "y", "https://" + "z" * 200), *findings]
    assert all(len(line) <= WIDTH for line in lines(shown[:1], ascii_only=False))
    assert can_serve(findings) is not any(finding.state is State.FAIL for finding in findings)


def test_a_machine_that_can_serve(tmp_path: Path) -> None:
    """With a hub, a token and room, the exit code is 0; no GPU is said, and is no hindrance."""
    with hub_process(tmp_path) as (_, url):
        code, found = examine(tmp_path)
        words = run(["qubix-agent", "doctor"], tmp_path, **NO_LIBRARY).stdout
        plain = run(["qubix-agent", "doctor"], tmp_path, **NO_LIBRARY, PYTHONIOENCODING="ascii").stdout
    assert code == 0, found
    assert found["hub"]["seen"].startswith("QUBIX ")
    assert url in found["hub"]["seen"]
    assert found["token"]["seen"] == "the local hub's own: provider, local-provider"
    assert (found["clock"]["state"], found["clock"]["seen"]) == ("ok", "as the hub's")
    assert found["driver"]["state"] == "warn"
    assert found["state directory"]["state"] == found["disk"]["state"] == "ok"
    assert "this machine can serve" in words
    assert "✓ ok" in words
    assert max(map(len, words.splitlines())) <= WIDTH
    assert plain.isascii()


def test_a_hub_that_is_not_there(tmp_path: Path) -> None:
    """One sentence, what to do, and what could not be looked at because of it."""
    code, found = examine(tmp_path, "--hub", "ws://127.0.0.1:1")
    assert code == 1
    assert found["hub"]["seen"] == "nothing listens at 127.0.0.1:1 (connection refused)"
    assert "--hub" in found["hub"]["remedy"]
    assert (found["token"]["state"], found["clock"]["state"]) == ("skip", "skip")


def test_what_is_no_hub(tmp_path: Path) -> None:
    """An address that can't be dialled, or a token that would cross a network in the clear."""
    (tmp_path / "token").write_text(new_token(Role.PROVIDER))
    options = ("--hub", "ws://192.0.2.1:3001", "--token-file", str(tmp_path / "token"))
    code, found = examine(tmp_path, *options)
    assert code == 1
    assert "not sent in the clear" in found["hub"]["seen"]


def test_tokens_that_do_not_do(tmp_path: Path) -> None:
    """None, one that the hub does not know, one of another role, one that can't be read."""
    unknown = tmp_path / "unknown"
    unknown.write_text(new_token(Role.PROVIDER))
    with hub_process(tmp_path / "hub") as (_, url):
        stranger = tmp_path / "stranger"

        def token(*options: str, **extra: str) -> dict[str, Any]:
            code, found = examine(stranger, "--hub", url, *options, **extra)
            assert code == 1
            return {**found["token"], "hub": found["hub"]["state"]}

        assert (token()["seen"], token()["hub"]) == ("there is none", "ok")
        refused = token("--token-file", str(unknown))
        assert refused["seen"].startswith(f"{unknown}: the hub at ")
        assert "(HTTP 401)" in refused["seen"]
        assert "qubix-agent enroll" in refused["remedy"]
        operator = (tmp_path / "hub" / "tokens" / "operator").read_text().strip()
        assert "QUBIX_TOKEN: operator" in token(QUBIX_TOKEN=operator)["seen"]
    code, found = examine(tmp_path, "--hub", url, "--token-file", str(tmp_path / "none"))
    assert code == 1
    assert found["hub"]["seen"] == f"there is no token file {tmp_path / 'none'}"


def test_tls_that_is_trusted(tmp_path: Path) -> None:
    """The certificate's days are counted; one that ends soon is said, and serves still."""
    authority = tmp_path / "ca.pem"
    AUTHORITY.cert_pem.write_to_path(authority)
    with tls_hub(tmp_path / "home") as url:
        code, found = examine(tmp_path / "home", "--hub", url, "--ca", str(authority))
        assert (code, found["tls"]["state"]) == (0, "ok")
        assert "TLSv1.3, a trusted certificate, good for " in found["tls"]["seen"]
        code, found = examine(tmp_path / "home", "--hub", url)
        assert (code, found["tls"]["state"], found["hub"]["state"]) == (1, "fail", "fail")
        assert "unable to get local issuer" in found["tls"]["seen"]
        assert "hub.ca_file in agent.toml, or --ca" in found["tls"]["remedy"]
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(days=5, hours=1)
    with tls_hub(tmp_path / "home", not_after=soon) as url:
        code, found = examine(tmp_path / "home", "--hub", url, "--ca", str(authority))
        assert (code, found["tls"]["state"]) == (0, "warn")
        assert "good for 5 days more" in found["tls"]["seen"]


def test_an_agent_that_runs_is_left_alone(tmp_path: Path) -> None:
    """It keeps its registration while it is looked at, and is mentioned."""
    with hub_process(tmp_path) as (_, url), running(tmp_path, url) as agent:
        provider_id = agent.registered()
        before = wait_for(lambda: provider(url, provider_id)["metrics"].get("seq"), "a sample")
        code, found = examine(tmp_path, "--hub", url)
        assert code == 0
        assert found["agent"]["seen"] == f"the agent with process id {agent.process.pid} runs here"
        wait_for(lambda: provider(url, provider_id)["metrics"]["seq"] > before, "another sample")
        assert len(agent.said) == 1
        agent.process.send_signal(signal.SIGTERM)
        assert agent.process.wait(10) == 0
        assert agent.complaints == []


def test_a_state_directory_of_others(tmp_path: Path) -> None:
    """One that others may enter, one of another user, one that is none."""
    (tmp_path / "agent").mkdir(mode=0o755)
    (tmp_path / "agent").chmod(0o755)

    def found() -> Finding:
        return next(iter(host.look_at_host(tmp_path, None)))

    assert (found().state, found().remedy) == (State.FAIL, f"chmod 0700 {tmp_path}/agent")
    (tmp_path / "agent").chmod(0o700)
    assert found().state is State.OK
    if os.geteuid() == 0:
        os.chown(tmp_path / "agent", 65534, 65534)
        assert "belongs to user 65534" in found().seen
    shutil.rmtree(tmp_path / "agent")
    (tmp_path / "agent").write_text("")
    assert found().state is State.FAIL


def test_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Little room is said, hardly any keeps from serving."""
    states = []
    for free in (2000, 500, 10):
        usage = shutil.disk_usage(tmp_path)._replace(free=free * host.MIB)
        monkeypatch.setattr(shutil, "disk_usage", lambda _, usage=usage: usage)
        states += [finding.state for finding in host.look_at_host(tmp_path, None) if finding.check == "disk"]
    assert states == [State.OK, State.WARN, State.FAIL]


def test_few_files(tmp_path: Path) -> None:
    """The limit is the one that this process really has."""
    shown = subprocess.run(
        ["sh", "-c", f"ulimit -n 60; exec {command('qubix-agent')} doctor --json --hub ws://127.0.0.1:1"],
        env=environment(tmp_path, **NO_LIBRARY),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    found = {one["check"]: one for one in json.loads(shown.stdout)["findings"]}
    assert (found["open files"]["state"], found["open files"]["seen"]) == ("fail", "60 may be open")


@pytest.mark.parametrize(
    ("script", "seen"),
    [
        ("echo 'bwrap: setting up uid map: Permission denied' >&2; exit 1", "setting up uid map"),
        (None, "not installed"),
    ],
)
def test_a_sandbox_that_does_not_work(script: str | None, seen: str, tmp_path: Path) -> None:
    """What bubblewrap says is passed on; this machine serves what needs no sandbox."""
    tools = tmp_path / "bin"
    tools.mkdir()
    if script is not None:
        (tools / "bwrap").write_text(f"#!/bin/sh\n{script}\n")
        (tools / "bwrap").chmod(0o755)
    (tmp_path / "home").mkdir(mode=0o700)
    # This user's own may enter the test's directory.
    (tmp_path / "home" / "agent.toml").write_text(f"[jobs]\nuser = '{getpass.getuser()}'\n")
    found = examine(tmp_path / "home", "--hub", "ws://127.0.0.1:1", PATH=str(tools)).found["sandbox"]
    assert found["state"] == "warn"
    assert seen in found["seen"]


def look(nvml: FakeNvml, *offer: int | str) -> list[Finding]:
    """Look at the stand-in's GPUs."""
    return list(gpus.look_at_gpus(Offer(offer or ("all",)), is_on=True))


def test_gpus_that_answer(nvml: FakeNvml) -> None:
    """Driver and library by version; of each GPU that is offered what it does not tell, and why."""
    nvml.set_system(nvml="13.580.65.06")
    nvml.set_gpu(0, persistence="1")
    nvml.set_gpu(1, fan=f"!{NO_PERMISSION}", persistence="0")
    driver, big, small = (finding for finding in look(nvml) if finding.check in {"driver", "gpu 0", "gpu 1"})
    assert driver.seen == "driver 580.65.06, NVML 13.580.65.06, CUDA 13.0"
    assert (big.check, big.state) == ("gpu 0", State.OK)
    assert big.seen.startswith("NVIDIA H200, ")
    assert (small.check, small.state) == ("gpu 1", State.WARN)
    assert "powerW" in small.seen
    assert "fanPercent (no permission)" in small.seen
    persistence = [finding.state for finding in look(nvml) if finding.check == "persistence"]
    assert persistence == [State.OK, State.WARN]
    assert [found.check for found in look(nvml, SMALL["uuid"]) if found.check.startswith("gpu")] == ["gpu 1"]


def test_gpus_that_are_not_there(nvml: FakeNvml) -> None:
    """What the owner offers and the driver does not know keeps this machine from serving."""
    (missing,) = (finding for finding in look(nvml, 0, 7) if finding.check == "gpus")
    assert (missing.state, missing.seen) == (State.FAIL, "offered, but not there: 7")
    nvml.set_gpu(0, lost="15")
    (lost,) = (finding for finding in look(nvml, 0) if finding.check == "gpu 0")
    assert (lost.state, lost.seen.endswith(": lost")) == (State.FAIL, True)


@pytest.mark.parametrize(
    ("init", "seen"),
    [
        (f"!{VERSION_MISMATCH}", "RM has detected an NVML/RM version mismatch"),
        (f"!{DRIVER_NOT_LOADED}", "Driver Not Loaded"),
        ("crash", "NVML crashed (signal 11)"),
        ("hang", "NVML has not answered for 0.5 s: it hangs in the driver"),
    ],
)
def test_a_driver_that_does_not_work(
    init: str, seen: str, nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not take the doctor with it, whatever it does, and keeps this machine from serving."""
    monkeypatch.setattr(gpus, "PROBE_SECONDS", 0.5 if init == "hang" else 30.0)
    nvml.set_system(init=init)
    (driver,) = look(nvml)
    assert driver.state is State.FAIL
    assert seen.lower() in driver.seen.lower()


def test_gpus_that_are_not_looked_at(nvml: FakeNvml) -> None:
    """An owner who turned them off is not asked for a driver."""
    (driver,) = gpus.look_at_gpus(Offer(), is_on=False)
    assert driver.state is State.SKIP
    assert nvml.calls() == {}
