"""How an owner commands a running agent: the socket, who may speak there, and what becomes of a wish."""

import asyncio
import json
import os
import shutil
import signal
import socket
import stat
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import control
from agent.control import Command, ControlError, ControlServer, Reply, ask
from tests.agent.running import NO_LIBRARY, provider, running
from tests.end_to_end.processes import hub_process, run, wait_for

STATUS = Command(do="status")


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[list[Command]]:
    """A server that answers everything with an error; gives what it was told."""
    heard: list[Command] = []

    async def answer(command: Command) -> Reply:
        heard.append(command)
        return Reply(error="no")

    server = ControlServer(directory, answer)
    await server.start()
    try:
        yield heard
    finally:
        await server.close()


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that other users can enter."""
    path = Path(tempfile.mkdtemp(prefix="qubix-control-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


async def test_a_command_reaches_the_agent(tmp_path: Path) -> None:
    """The socket is its owner's alone; the reply comes back; nothing is left after the end."""
    path = tmp_path / control.SOCKET_NAME
    async with serving(tmp_path) as heard:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        reply = await asyncio.to_thread(ask, tmp_path, Command(do="pause", reason="mine"))
        assert reply == Reply(error="no")
        assert heard == [Command(do="pause", reason="mine")]
    assert not path.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
async def test_a_path_of_any_length(tmp_path: Path) -> None:
    """A state directory whose path no socket address can hold does all the same."""
    deep = tmp_path / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    async with serving(deep) as heard:
        await asyncio.to_thread(ask, deep, STATUS)
        assert heard == [STATUS]
    assert not (deep / control.SOCKET_NAME).exists()


async def test_what_a_killed_agent_left_is_no_hindrance(tmp_path: Path) -> None:
    """Its socket file is taken away by the next one."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / control.SOCKET_NAME))
    async with serving(tmp_path) as heard:
        await asyncio.to_thread(ask, tmp_path, STATUS)
        assert heard == [STATUS]


async def test_a_directory_that_takes_no_socket(tmp_path: Path) -> None:
    """The agent is told why its owner can't be heard."""
    with pytest.raises(ControlError, match=r"can't listen for its owner at .*No such file"):
        await ControlServer(tmp_path / "missing", lambda _: asyncio.sleep(0, Reply())).start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can pass for another user")
async def test_another_user_is_not_heard(open_directory: Path) -> None:
    """The kernel says who is there; the file's mode is not all that stands before the agent."""
    path = open_directory / control.SOCKET_NAME
    async with serving(open_directory) as heard:
        path.chmod(0o666)
        connection = socket.socket(socket.AF_UNIX)
        os.seteuid(65534)
        try:
            connection.connect(str(path))
        finally:
            os.seteuid(0)
        connection.sendall(b'{"do": "pause"}\n')
        reply = await asyncio.to_thread(connection.recv, 65536)
        connection.close()
        assert b"only the agent's own user and root" in reply
        assert heard == []


@given(st.binary(max_size=300) | st.sampled_from([b'{"do":"pause"', b'{"do":"stop"}', b"[" * 5000]))
def test_whatever_is_sent_is_answered(line: bytes) -> None:
    """Nothing that is no command is carried out, and nothing that is sent disturbs the agent."""

    async def send() -> list[bytes]:
        directory = Path(tempfile.mkdtemp(prefix="qubix-control-"))
        try:
            async with serving(directory) as heard:
                reader, writer = await asyncio.open_unix_connection(str(directory / control.SOCKET_NAME))
                writer.write(line.replace(b"\n", b"") + b"\n")
                async with asyncio.timeout(10):
                    answer = await reader.readline()
                writer.close()
                assert heard == []
                return [answer]
        finally:
            shutil.rmtree(directory)

    (answer,) = asyncio.run(send())
    assert json.loads(answer)["error"] == "that is no command of this version of qubix-agent"


def told(home: Path, *words: str, code: int = 0) -> Any:
    """What `qubix-agent … --json` says."""
    shown = run(["qubix-agent", *words, "--json"], home, **NO_LIBRARY)
    assert shown.returncode == code, shown.stderr
    return json.loads(shown.stdout)


def test_the_owner_takes_the_machine_back(tmp_path: Path) -> None:
    """Paused at once, with the reason, and still after the agent, and then the hub's memory, are gone."""
    with hub_process(tmp_path) as (hub, url):
        port = int(url.rsplit(":", 1)[1])
        with running(tmp_path, url) as agent:
            provider_id = agent.registered()
            shown = told(tmp_path, "pause", "--reason", "I need it")
            assert shown["availability"] == {"paused": True, "draining": False, "reason": "I need it"}
            assert shown["hubKnows"] is True
            found = provider(url, provider_id)
            assert (found["state"], found["isAvailable"]) == ("paused", False)
            agent.process.send_signal(signal.SIGTERM)
            assert agent.process.wait(10) == 0
        with running(tmp_path, url) as agent:
            agent.registered()
            wait_for(lambda: provider(url, provider_id)["state"] == "paused", "paused after a restart")
            hub.kill()
            hub.wait()
            shutil.rmtree(tmp_path / "hub")
            with hub_process(tmp_path, port=port):
                agent.registered(2)
                wait_for(lambda: provider(url, provider_id)["state"] == "paused", "paused at a new hub")
                assert told(tmp_path, "drain")["availability"]["draining"] is True
                assert provider(url, provider_id)["state"] == "paused"
                told(tmp_path, "resume")
                assert provider(url, provider_id)["state"] == "available"


def test_status_says_what_there_is_to_say(tmp_path: Path) -> None:
    """Registered as what, where and since when; how old the newest sample is; then why it is not any more."""
    with hub_process(tmp_path) as (hub, url), running(tmp_path, url, "--interval", "0.2") as agent:
        provider_id = agent.registered()
        shown = wait_for(
            lambda: (now := told(tmp_path, "status"))["samples"]["sent"] >= 2 and now,
            "samples that were sent",
        )
        assert (shown["hub"]["providerId"], shown["hub"]["url"]) == (provider_id, url)
        assert shown["hub"]["registeredAt"].endswith("Z")
        assert shown["pid"] == agent.process.pid
        assert shown["workerId"] == (tmp_path / "agent" / "worker-id").read_text().strip()
        assert 0 <= shown["samples"]["ageSeconds"] < 5
        assert shown["samples"]["taken"] >= shown["samples"]["sent"]
        assert shown["cost"]["rssMb"] > 10
        assert (shown["gpus"], shown["gpuNote"]) == ([], "no NVIDIA GPU found (NVML not installed)")
        hub.kill()
        hub.wait()
        agent.complained("conn")
        words = run(["qubix-agent", "status"], tmp_path).stdout
        assert f"registered  not now; last as {provider_id}\n" in words
        assert max(map(len, words.splitlines())) <= 80
        assert "the hub will hear of it" in run(["qubix-agent", "pause"], tmp_path).stdout
        assert "paused (the hub has yet to hear of it)" in run(["qubix-agent", "status"], tmp_path).stdout


def test_no_agent_is_one_sentence(tmp_path: Path) -> None:
    """Nobody there: exit code 3, and what to do."""
    shown = run(["qubix-agent", "status"], tmp_path)
    assert (shown.returncode, shown.stdout) == (3, "")
    assert shown.stderr.startswith(f"qubix-agent: no agent runs with {tmp_path}/agent; start it")
    assert shown.stderr.count("\n") == 1


def test_an_agent_that_hangs_is_one_sentence(tmp_path: Path) -> None:
    """Stopped in the middle, or without its socket: the sentence has its process id."""
    with hub_process(tmp_path) as (_, url), running(tmp_path, url) as agent:
        agent.registered()
        agent.process.send_signal(signal.SIGSTOP)
        with pytest.raises(ControlError, match=f"process id {agent.process.pid} does not answer"):
            ask(tmp_path / "agent", STATUS, patience=0.2)
        agent.process.send_signal(signal.SIGCONT)
        (tmp_path / "agent" / control.SOCKET_NAME).unlink()
        with pytest.raises(ControlError, match=f"process id {agent.process.pid} takes no commands"):
            ask(tmp_path / "agent", STATUS)


@pytest.mark.parametrize("reason", ["two\nlines", "x" * 1025])
def test_a_reason_that_no_hub_takes(reason: str, tmp_path: Path) -> None:
    """It is refused before it is in force anywhere."""
    shown = run(["qubix-agent", "pause", "--reason", reason], tmp_path)
    assert shown.returncode == 2
    assert "--reason takes one line" in shown.stderr


def test_a_terminal_that_takes_ascii_alone(tmp_path: Path) -> None:
    """What it can't show is shown as ?, and JSON is whole."""
    home = tmp_path / "home"
    with hub_process(home) as (_, url), running(home, url, PYTHONIOENCODING="ascii") as agent:
        agent.registered()
        paused = run(["qubix-agent", "pause", "--reason", "für mich"], home, PYTHONIOENCODING="ascii")
        assert (paused.returncode, paused.stdout) == (0, "paused\n")
        shown = run(["qubix-agent", "status"], home, PYTHONIOENCODING="ascii")
        assert (shown.returncode, "f?r mich" in shown.stdout) == (0, True)
        as_json = run(["qubix-agent", "status", "--json"], home, PYTHONIOENCODING="ascii")
        assert json.loads(as_json.stdout)["availability"]["reason"] == "für mich"
