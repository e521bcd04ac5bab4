"""How an agent reaches a hub: certificates are always verified, and a proxy is used only where asked for."""

import asyncio
import contextlib
import datetime as dt
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import trustme

from agent.transport import SYSTEM_TRUST, Transport, TransportError
from qubix_tui.protocol.tokens import Role, new_token
from tests.agent.running import NO_LIBRARY, running
from tests.end_to_end.processes import command, environment, hub_process, run, started

AUTHORITY: Final = trustme.CA()
"""A private authority, made for this run."""


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """The file of the private authority."""
    path = tmp_path / "ca.pem"
    AUTHORITY.cert_pem.write_to_path(path)
    return path


@contextlib.contextmanager
def tls_hub(home: Path, name: str = "127.0.0.1", *, not_after: dt.datetime | None = None) -> Iterator[str]:
    """Run a hub whose certificate, of the private authority, is for ``name``; gives its address."""
    home.mkdir(exist_ok=True)
    chain, key = home / "tls.pem", home / "tls.key"
    issued = AUTHORITY.issue_cert(name, not_after=not_after)
    issued.private_key_pem.write_to_path(key)
    chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    with hub_process(home, "--tls-cert", str(chain), "--tls-key", str(key)) as (_, url):
        yield url


class Proxy:
    """A real HTTP proxy for CONNECT, on a thread of its own.

    Args:
        status: What it answers: 200 lets through.
    """

    def __init__(self, status: int) -> None:
        self.status = status
        self.asked: list[str] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        place = request.split()[1]
        self.asked.append(place)
        writer.write(f"HTTP/1.1 {self.status} x\r\n\r\n".encode())
        if self.status != 200:
            writer.close()
            return
        host, _, port = place.rpartition(":")
        there_reader, there_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(self.copy(reader, there_writer), self.copy(there_reader, writer))

    async def copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        """Hand on bytes until one side ends."""
        with contextlib.suppress(OSError):
            while chunk := await source.read(65536):
                target.write(chunk)
                await target.drain()
        target.close()


@contextlib.contextmanager
def proxy(status: int = 200) -> Iterator[Proxy]:
    """Run a proxy."""
    made = Proxy(status)
    ready, loop = threading.Event(), asyncio.new_event_loop()
    ending = asyncio.Event()

    async def serve() -> None:
        server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
        made.port = server.sockets[0].getsockname()[1]
        ready.set()
        await ending.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield made
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join(10)
        loop.close()


def test_without_an_authority_the_systems_are_trusted() -> None:
    """Nothing said is the system's trust, never none."""
    assert SYSTEM_TRUST.ssl_context() is None


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"\xff" * 10])
def test_an_authority_that_is_none(content: bytes | None, tmp_path: Path) -> None:
    """One sentence with the file's name; the command line says so before anything is dialled."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TransportError, match=r"ca\.pem"):
        Transport(path).ssl_context()
    shown = run(["qubix-agent", "--hub", "wss://localhost:1", "--ca", str(path)], tmp_path, **NO_LIBRARY)
    assert (shown.returncode, shown.stderr.count("\n")) == (2, 1)
    assert "ca.pem" in shown.stderr


def test_a_private_authority(tmp_path: Path, authority: Path) -> None:
    """A hub of its certificate is registered with once it is trusted, by flag or by file, and not before."""
    with tls_hub(tmp_path / "home") as url:
        assert url.startswith("wss://")
        with running(tmp_path / "home", url) as agent:
            assert "is not trusted: unable to get local issuer" in agent.complained("certificate")
            assert agent.said == []
        with running(tmp_path / "home", url, "--ca", str(authority)) as agent:
            agent.registered()
        (tmp_path / "home" / "agent.toml").write_text("[hub]\nca_file = '../ca.pem'\n")
        with running(tmp_path / "home", url) as agent:
            agent.registered()


def test_a_certificate_for_another_name(tmp_path: Path, authority: Path) -> None:
    """A trusted authority is not enough: the name has to be the hub's."""
    with (
        tls_hub(tmp_path / "home", "hub.example.org") as url,
        running(tmp_path / "home", url, "--ca", str(authority)) as agent,
    ):
        assert "is not trusted: IP address mismatch" in agent.complained("certificate")


def test_enrolling_with_a_private_authority(tmp_path: Path, authority: Path) -> None:
    """The code goes only to a hub whose certificate is verified; what has to be set for good is said."""
    with tls_hub(tmp_path / "hub") as url:
        made = run(
            ["qubix", "enroll", "new", "--name", "rig-7"], tmp_path / "hub", SSL_CERT_FILE=str(authority)
        )
        code = made.stdout.splitlines()[0]
        refused = enrol(tmp_path / "rig", code, "--hub", url)
        assert refused[0] == 1
        assert "is not trusted" in refused[2]
        code_, said, complaints = enrol(tmp_path / "rig", code, "--hub", url, "--ca", str(authority))
        assert code_ == 0, complaints
        assert f'  ca_file = "{authority}"\n' in said
        with running(tmp_path / "rig", None, "--ca", str(authority)) as agent:
            assert agent.registered().startswith("rig-7-")
            assert agent.said[0].endswith(f" at {url}")


def enrol(home: Path, code: str, *options: str) -> tuple[int, str, str]:
    """Run `qubix-agent enroll`, with the code on its standard input."""
    shown = subprocess.run(
        [command("qubix-agent"), "enroll", *options],
        env=environment(home),
        input=f"{code}\n",
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return shown.returncode, shown.stdout, shown.stderr


def test_a_proxy_that_was_asked_for(tmp_path: Path, authority: Path) -> None:
    """All goes through it, and the hub's certificate is verified all the same."""
    with tls_hub(tmp_path / "home") as url, proxy() as through:
        options = ("--ca", str(authority), "--proxy", f"http://127.0.0.1:{through.port}")
        with running(tmp_path / "home", url, *options) as agent:
            agent.registered()
        assert through.asked == [url.removeprefix("wss://")]
        with running(tmp_path / "home", url, *options[2:]) as agent:
            assert "is not trusted" in agent.complained("certificate")


def test_a_proxy_that_refuses(tmp_path: Path) -> None:
    """What the proxy says is said of the proxy."""
    with (
        proxy(403) as through,
        running(tmp_path, "wss://hub.example.org", "--proxy", f"http://127.0.0.1:{through.port}") as agent,
    ):
        said = agent.complained("proxy")
        assert said.endswith("the proxy does not let through to hub.example.org:443 (HTTP 403)")


def test_no_proxy_unless_asked_for(tmp_path: Path) -> None:
    """The environment's proxies are not the agent's."""
    dead: dict[str, Any] = dict.fromkeys(("http_proxy", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    with hub_process(tmp_path) as (_, url), running(tmp_path, url, **dead) as agent:
        agent.registered()


def test_a_token_is_in_no_listing_of_processes(tmp_path: Path) -> None:
    """Neither its command line nor what it says holds the token."""
    token = new_token(Role.PROVIDER)
    (tmp_path / "token").write_text(token)
    with started(
        ["qubix-agent", "--hub", "ws://127.0.0.1:1", "--token-file", str(tmp_path / "token")], tmp_path
    ) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert "connection refused" in said
        assert token not in said
        assert token not in Path(f"/proc/{process.pid}/cmdline").read_text()
    shown = run(["qubix-agent", "--token-file", str(tmp_path / "token"), "config", "show"], tmp_path)
    assert token not in shown.stdout
