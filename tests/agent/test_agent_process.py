"""The agent as a process with a real hub: how it begins, lives and ends."""

import json
import os
import signal
import socket
import time
from pathlib import Path

import psutil
import pytest

from qubix_tui import __version__
from qubix_tui.protocol.tokens import Role, new_token
from tests.agent.fake_nvml import BIG, DRIVER_NOT_LOADED, GPU_IS_LOST, FakeNvml
from tests.agent.running import NO_LIBRARY, child_of, copy_identity, is_alive, provider, running
from tests.end_to_end.processes import hub_process, no_process_left, run, wait_for

ENDS_WITHIN = 2.0
"""Seconds from the signal to the end."""


def seq(url: str, provider_id: str) -> int:
    """The number of the newest sample that the hub has."""
    return provider(url, provider_id)["metrics"].get("seq") or 0


def test_registers_and_pushes(tmp_path: Path) -> None:
    """It says its id and the hub once; the hub then has its record and each second a true sample."""
    with hub_process(tmp_path) as (_, url):
        options = ("--name", "rig seven", "--price", "0.45", "--location", "Oslo")
        with running(tmp_path, url, *options) as agent:
            provider_id = agent.registered()
            assert provider_id.startswith("rig-seven-")
            assert agent.said == [f"registered as {provider_id} at {url}"]
            wait_for(lambda: seq(url, provider_id) >= 3, "the third sample")
            found = provider(url, provider_id)
    assert found["isAvailable"] is True
    assert (found["name"], found["location"], found["pricePerHour"]) == ("rig seven", "Oslo", 0.45)
    assert (found["agentVersion"], found["cpuCores"]) == (__version__, psutil.cpu_count())
    assert (found["gpuCount"], found["gpuModel"], found["gpus"]) == (0, None, [])
    metrics = found["metrics"]
    assert 0 <= metrics["cpuPercent"] <= 100
    assert metrics["ramTotalMb"] == found["ramTotalMb"] == round(psutil.virtual_memory().total / 2**20)
    assert metrics["gpuPercent"] is None
    assert metrics["gpuNote"] == "no NVIDIA GPU found (NVML not installed)"
    assert metrics["agent"]["rssMb"] > 10


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_says_goodbye(number: signal.Signals, tmp_path: Path) -> None:
    """A signal ends it within two seconds with exit code 0, and the hub knows at once that it is gone."""
    with hub_process(tmp_path) as (_, url), running(tmp_path, url) as agent:
        provider_id = agent.registered()
        wait_for(lambda: seq(url, provider_id), "a sample")
        asked = time.monotonic()
        agent.process.send_signal(number)
        assert agent.process.wait(10) == 0
        assert time.monotonic() - asked < ENDS_WITHIN
        wait_for(lambda: provider(url, provider_id)["state"] == "offline", "offline", 2.0)
        assert agent.complaints == []


def test_ends_with_its_lifeline(tmp_path: Path) -> None:
    """It ends by itself, with a goodbye, when the other end of the inherited pipe closes."""
    reader, writer = os.pipe()
    with (
        hub_process(tmp_path) as (_, url),
        running(tmp_path, url, "--lifeline", str(reader), inherit=[reader]) as agent,
    ):
        os.close(reader)
        provider_id = agent.registered()
        assert agent.process.poll() is None
        os.close(writer)
        assert agent.process.wait(10) == 0
        wait_for(lambda: provider(url, provider_id)["state"] == "offline", "offline", 2.0)


@pytest.mark.parametrize("descriptor", ["99", "-1", "x"])
def test_a_lifeline_that_is_none(descriptor: str, tmp_path: Path) -> None:
    """A number that is no inherited pipe is wrong usage."""
    shown = run(["qubix-agent", "--lifeline", descriptor], tmp_path)
    assert shown.returncode == 2
    assert "--lifeline" in shown.stderr


def test_the_same_provider_after_a_restart(tmp_path: Path) -> None:
    """A restart, and another name, make no other provider."""
    with hub_process(tmp_path) as (_, url):
        with running(tmp_path, url, "--name", "one") as agent:
            first = agent.registered()
            agent.process.send_signal(signal.SIGTERM)
            agent.process.wait(10)
        with running(tmp_path, url, "--name", "two") as agent:
            assert agent.registered() == first
            assert provider(url, first)["name"] == "two"
    identity = tmp_path / "agent" / "worker-id"
    assert identity.stat().st_mode & 0o777 == 0o600


def test_one_agent_for_each_home(tmp_path: Path) -> None:
    """A second agent on the same state directory says who holds it, and exits with 1."""
    with hub_process(tmp_path) as (_, url), running(tmp_path, url) as agent:
        agent.registered()
        second = run(["qubix-agent", "--hub", url], tmp_path, **NO_LIBRARY)
        assert second.returncode == 1
        assert f"process id {agent.process.pid}" in second.stderr
        assert second.stderr.count("\n") == 1
        agent.process.kill()
        agent.process.wait()
        with running(tmp_path, url) as next_agent:
            next_agent.registered()


def test_a_cloned_disk(tmp_path: Path) -> None:
    """Of two agents with one identity the second is refused, says why once, and the first goes on."""
    first_home, second_home = tmp_path / "first", tmp_path / "second"
    with hub_process(first_home) as (_, url), running(first_home, url) as first:
        provider_id = first.registered()
        copy_identity(first_home, second_home)
        with running(second_home, url) as second:
            assert "duplicate identity" in second.complained("refuses to register this provider")
            before = seq(url, provider_id)
            wait_for(lambda: seq(url, provider_id) >= before + 3, "three more samples of the first")
            assert (second.said, len(second.complaints), first.complaints) == ([], 1, [])


def test_a_hub_that_comes_later(tmp_path: Path) -> None:
    """Without a hub it says so once and goes on trying; once there is one it registers by itself."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    url = f"ws://127.0.0.1:{port}"
    with running(tmp_path, url) as agent:
        assert "connection refused" in agent.complained(f"127.0.0.1:{port}")
        with hub_process(tmp_path, port=port):
            agent.registered()
            assert len(agent.complaints) <= 2


def test_the_hub_is_killed_and_restarted(tmp_path: Path) -> None:
    """It registers again as the same provider, and samples go on where they were, not from one."""
    with hub_process(tmp_path) as (hub, url), running(tmp_path, url) as agent:
        provider_id = agent.registered()
        wait_for(lambda: seq(url, provider_id) >= 2, "a sample")
        hub.kill()
        hub.wait()
        # Lost, or refused when it dialled again: whichever of the two came to be said.
        agent.complained("conn")
        with hub_process(tmp_path, port=int(url.rsplit(":", 1)[1])):
            assert agent.registered(2) == provider_id
            wait_for(lambda: seq(url, provider_id) >= 4, "later samples")


def test_the_hub_of_this_machine_moves(tmp_path: Path) -> None:
    """An agent that was given no address follows the hub of its user, which comes back on another port."""
    with hub_process(tmp_path) as (hub, first), running(tmp_path, None) as agent:
        provider_id = agent.registered()
        hub.send_signal(signal.SIGTERM)
        hub.wait()
        with hub_process(tmp_path) as (_, second):
            assert second != first
            assert agent.registered(2) == provider_id
            assert agent.said[1].endswith(f" at {second}")


def test_a_driver_that_comes_later(tmp_path: Path, nvml: FakeNvml) -> None:
    """GPUs that come after the registration are in the record soon, without a restart."""
    home = tmp_path / "home"
    nvml.set_system(init=f"!{DRIVER_NOT_LOADED}")
    with hub_process(home) as (_, url), running(home, url, **nvml.environment) as agent:
        provider_id = agent.registered()
        assert provider(url, provider_id)["gpuCount"] == 0
        nvml.set_system(init=None)
        wait_for(lambda: provider(url, provider_id)["gpuCount"] == 2, "the GPUs in the record")
        assert provider(url, provider_id)["driverVersion"] == "580.65.06"


def test_a_refused_token(tmp_path: Path) -> None:
    """A token that the hub does not know is said in one sentence; the agent stays until told to end."""
    stranger = tmp_path / "token"
    stranger.write_text(new_token(Role.PROVIDER))
    with (
        hub_process(tmp_path) as (_, url),
        running(tmp_path, url, "--token-file", str(stranger)) as agent,
    ):
        assert "token" in agent.complained("refused")
        agent.process.send_signal(signal.SIGTERM)
        assert agent.process.wait(ENDS_WITHIN) == 0
        assert len(agent.complaints) == 1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--hub", "http://localhost:3001"], "ws://"),
        (["--hub", "nonsense"], "ws://"),
        (["--price", "-1"], "--price"),
        (["--price", "nan"], "--price"),
        (["--price", "cheap"], "--price"),
        (["--name", "two\nlines"], "--name"),
        (["--location", ""], "--location"),
        (["--token-file", "/nonexistent/token"], "/nonexistent/token"),
    ],
)
def test_wrong_usage(options: list[str], named: str, tmp_path: Path) -> None:
    """What can't work is named in one sentence; exit code 2."""
    shown = run(["qubix-agent", *options], tmp_path, **NO_LIBRARY)
    assert shown.returncode == 2, shown.stderr
    assert shown.stderr.count("\n") == 1
    assert named in shown.stderr


def test_a_home_that_can_not_be_made(tmp_path: Path) -> None:
    """A QUBIX_HOME that is a file is said; exit code 1."""
    (tmp_path / "file").write_text("")
    shown = run(["qubix-agent", "--hub", "ws://localhost:1"], tmp_path / "file")
    assert shown.returncode == 1
    assert shown.stderr.count("\n") == 1


def test_sample_as_json(tmp_path: Path) -> None:
    """`sample --json` prints one document with the members of the wire, rates included."""
    shown = run(["qubix-agent", "sample", "--json"], tmp_path, **NO_LIBRARY)
    assert (shown.returncode, shown.stderr) == (0, "")
    metrics = json.loads(shown.stdout)
    assert metrics["seq"] == 2
    assert metrics["cpuPercent"] is not None
    assert metrics["netRxBytesPerSec"] is not None
    assert metrics["gpuNote"].startswith("no NVIDIA GPU")


def test_sample_for_people(tmp_path: Path, nvml: FakeNvml) -> None:
    """`sample` prints every GPU; what is not known is `—`."""
    shown = run(["qubix-agent", "sample"], tmp_path / "home", **nvml.environment)
    assert shown.returncode == 0, shown.stderr
    assert "NVIDIA H200" in shown.stdout
    assert "512.34 W of 700.0 W" in shown.stdout
    assert "held back by power cap" in shown.stdout
    assert "— of —" in shown.stdout
    assert no_process_left(tmp_path / "home")


def test_sample_goes_on(tmp_path: Path) -> None:
    """`sample --watch --json` prints a line each second until its reader has enough."""
    from tests.end_to_end.processes import started

    with started(["qubix-agent", "sample", "--watch", "--json"], tmp_path, **NO_LIBRARY) as process:
        assert process.stdout is not None
        numbers = [json.loads(process.stdout.readline())["seq"] for _ in range(3)]
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 130
    assert numbers == [2, 3, 4]


def test_gpus_reach_the_hub(tmp_path: Path, nvml: FakeNvml) -> None:
    """GPUs are in the record from the first registration on, and in each sample."""
    home = tmp_path / "home"
    with hub_process(home) as (_, url), running(home, url, **nvml.environment) as agent:
        provider_id = agent.registered()
        found = wait_for(
            lambda: (seen := provider(url, provider_id))["metrics"].get("gpuPercent") == 50 and seen,
            "the GPUs' values",
        )
    assert (found["gpuCount"], found["gpuModel"]) == (2, "NVIDIA H200")
    assert found["gpuMemTotalMb"] == 143771 + 15360
    assert (found["driverVersion"], found["cudaVersion"]) == ("580.65.06", "13.0")
    assert found["metrics"]["gpuTemp"] == 61
    assert found["metrics"]["gpus"][0]["uuid"] == BIG["uuid"]


def test_nothing_that_a_gpu_does_stops_the_heartbeat(tmp_path: Path, nvml: FakeNvml) -> None:
    """While a GPU is lost and NVML crashes and hangs, host values come each second, and SIGTERM counts."""
    home = tmp_path / "home"
    with hub_process(home) as (_, url), running(home, url, **nvml.environment) as agent:
        provider_id = agent.registered()

        def until(*states: str) -> None:
            wait_for(
                lambda: (
                    [gpu["state"] for gpu in provider(url, provider_id)["metrics"].get("gpus", [])]
                    == list(states)
                ),
                f"states {states}",
            )
            before, at = seq(url, provider_id), time.monotonic()
            wait_for(lambda: seq(url, provider_id) >= before + 2, "two more samples", 5.0)
            assert time.monotonic() - at < 4
            assert provider(url, provider_id)["metrics"]["cpuPercent"] is not None

        until("ok", "ok")
        nvml.set_gpu(0, lost=str(GPU_IS_LOST))
        until("lost", "ok")
        nvml.set_gpu(0, lost=None)
        until("ok", "ok")
        nvml.set_gpu(1, util="crash")
        until("stale", "stale")
        nvml.set_gpu(1, util="hang")
        until("stale", "stale")
        child = wait_for(lambda: child_of(agent), "the NVML process that hangs")
        asked = time.monotonic()
        agent.process.send_signal(signal.SIGTERM)
        assert agent.process.wait(10) == 0
        assert time.monotonic() - asked < ENDS_WITHIN
        assert not is_alive(child)


def test_a_killed_agent_leaves_no_process(tmp_path: Path, nvml: FakeNvml) -> None:
    """SIGKILL of the agent ends its NVML process too, also one in the middle of a call that hangs."""
    home = tmp_path / "home"
    with hub_process(tmp_path / "hub") as (_, url), running(home, url, **nvml.environment) as agent:
        child = wait_for(lambda: child_of(agent), "the NVML process")
        nvml.set_gpu(0, util="hang")
        wait_for(lambda: nvml.calls()["nvmlDeviceGetUtilizationRates 0"] >= 1, "a call that hangs")
        agent.process.kill()
        wait_for(lambda: not is_alive(child), "the end of the NVML process", 5.0)
        assert no_process_left(home)
