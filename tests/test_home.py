"""QUBIX_HOME: private files, tokens made once, and local tokens for the local hub alone."""

import os
import stat
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import platformdirs
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qubix_tui import home
from qubix_tui.protocol import tokens
from qubix_tui.protocol.tokens import Role

LOCAL = "ws://127.0.0.1:3001"


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty QUBIX_HOME."""
    monkeypatch.setenv("QUBIX_HOME", str(tmp_path / "state" / "home"))
    return home.home_dir()


def mode(path: Path) -> int:
    """Give the permission bits of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def write_record(directory: Path, **changes: Any) -> None:
    """Write hub.json as this process would, with changes."""
    record = {"url": LOCAL, "pid": os.getpid(), "started": psutil.Process().create_time()}
    (directory / "hub.json").write_bytes(msgspec.json.encode(record | changes))


def test_home_is_private(directory: Path) -> None:
    """It is made for its owner alone, its missing parents with it."""
    assert mode(directory) == 0o700
    assert home.home_dir() == directory


def test_home_without_qubix_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset or empty, QUBIX_HOME means the platform's state directory."""
    monkeypatch.setattr(platformdirs, "user_state_dir", lambda *_, **__: str(tmp_path / "qubix"))
    monkeypatch.delenv("QUBIX_HOME", raising=False)
    assert home.home_dir() == tmp_path / "qubix"
    monkeypatch.setenv("QUBIX_HOME", "")
    assert home.home_dir() == tmp_path / "qubix"


def test_home_in_the_way_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file where the directory should be is an error that says which, and what to do."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("QUBIX_HOME", str(path))
        with pytest.raises(home.HomeError, match=f"{path}.*QUBIX_HOME"):
            home.home_dir()


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, Role.PROVIDER])
def test_token_is_made_once(directory: Path, role: Role) -> None:
    """The first call makes it, private; all later ones give the same. Nothing else is left behind."""
    assert home.local_token(role, home=directory) is None
    token = home.ensure_local_token(role, home=directory)
    assert tokens.is_token(token)
    assert home.ensure_local_token(role, home=directory) == token
    assert home.local_token(role, home=directory) == token
    assert mode(directory / "tokens") == 0o700
    assert mode(directory / "tokens" / role.value) == 0o600
    assert [path.name for path in (directory / "tokens").iterdir()] == [role.value]


def test_token_is_private_whatever_the_umask(directory: Path) -> None:
    """A generous umask makes nothing readable by others."""
    before = os.umask(0)
    try:
        home.ensure_local_token(Role.VIEWER, home=directory)
        home.write_hub_record(LOCAL, home=directory)
    finally:
        os.umask(before)
    assert mode(directory / "tokens") == 0o700
    assert mode(directory / "tokens" / "viewer") == 0o600
    assert mode(directory / "hub.json") == 0o600


def test_token_made_by_two_processes_at_once(directory: Path) -> None:
    """Processes that start together agree on one token."""
    start_at = time.time() + 1.5
    program = (
        "import sys, time; from pathlib import Path; from qubix_tui import home; "
        "from qubix_tui.protocol.tokens import Role; time.sleep(max(0, float(sys.argv[1]) - time.time())); "
        "print(home.ensure_local_token(Role.OPERATOR, home=Path(sys.argv[2])))"
    )
    command = [sys.executable, "-c", program, str(start_at), str(directory)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    made = {process.communicate(timeout=30)[0].strip() for process in started}
    assert made == {home.local_token(Role.OPERATOR, home=directory)}
    assert [path.name for path in (directory / "tokens").iterdir()] == ["operator"]


def test_token_made_by_many_threads_at_once(directory: Path) -> None:
    """Threads of one process agree too: none writes into what another has made."""
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: home.ensure_local_token(Role.VIEWER, home=directory), range(32)))
    assert made == {home.local_token(Role.VIEWER, home=directory)}


def test_token_that_appears_meanwhile_wins(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that another process made after we looked is given, not replaced."""
    other = tokens.new_token(Role.VIEWER)

    def new_token(_: Role) -> str:
        (directory / "tokens" / "viewer").write_text(other)
        monkeypatch.undo()
        return tokens.new_token(Role.VIEWER)

    monkeypatch.setattr(tokens, "new_token", new_token)
    assert home.ensure_local_token(Role.VIEWER, home=directory) == other
    assert (directory / "tokens" / "viewer").read_text() == other


@pytest.mark.parametrize("content", [b"", b"\n", b"qbx_v123", b"\xff\xfe", b"secret"])
def test_token_file_that_holds_none(directory: Path, content: bytes) -> None:
    """It is an error that names the file and shows nothing of it; and it stays as it is."""
    path = home.private_dir(directory / "tokens") / "viewer"
    path.write_bytes(content)
    for give in (home.local_token, home.ensure_local_token):
        with pytest.raises(home.HomeError, match="tokens/viewer") as caught:
            give(Role.VIEWER, home=directory)
        assert "secret" not in str(caught.value)
    assert path.read_bytes() == content


def test_token_file_with_blanks_around(directory: Path) -> None:
    """Blanks and line ends that an editor or a copy left do no harm."""
    token = tokens.new_token(Role.VIEWER)
    path = directory / "token"
    path.write_text(f"  {token}\r\n\n")
    assert home.read_token(path) == token
    with pytest.raises(FileNotFoundError):
        home.read_token(directory / "other")


def test_token_that_can_not_be_made(directory: Path) -> None:
    """What stands in the way is named."""
    (directory / "tokens").write_text("")
    with pytest.raises(home.HomeError, match="tokens"):
        home.ensure_local_token(Role.VIEWER, home=directory)


def test_hub_record_names_the_running_hub(directory: Path) -> None:
    """What a hub writes is read back while its process lives, and is gone when it takes it back."""
    assert home.running_hub(home=directory) is None
    home.write_hub_record("ws://127.0.0.1:1", home=directory)
    home.write_hub_record(LOCAL, home=directory)
    assert home.running_hub(home=directory) == LOCAL
    assert [path.name for path in directory.iterdir()] == ["hub.json"]
    home.remove_hub_record(home=directory)
    assert home.running_hub(home=directory) is None
    assert list(directory.iterdir()) == []
    home.remove_hub_record(home=directory)


def test_hub_record_that_can_not_be_written(directory: Path) -> None:
    """A directory in its place is an error that names it."""
    (directory / "hub.json").mkdir()
    with pytest.raises(home.HomeError, match=r"can't write .*hub\.json"):
        home.write_hub_record(LOCAL, home=directory)
    assert [path.name for path in directory.iterdir()] == ["hub.json"]


def test_hub_record_of_another_is_left(directory: Path) -> None:
    """Only the process that wrote it takes it back."""
    write_record(directory, pid=os.getppid())
    home.remove_hub_record(home=directory)
    assert (directory / "hub.json").exists()


def test_hub_record_of_a_dead_process(directory: Path) -> None:
    """A hub that was killed leaves a record that means nothing."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(timeout=30)
    write_record(directory, pid=process.pid)
    assert home.running_hub(home=directory) is None


def test_hub_record_of_a_process_nobody_waited_for(directory: Path) -> None:
    """A zombie has its pid still, but its port may be somebody else's."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    write_record(directory, pid=process.pid, started=psutil.Process(process.pid).create_time())
    assert home.running_hub(home=directory) == LOCAL
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert home.running_hub(home=directory) is None
    process.communicate()


def test_hub_record_of_a_pid_used_again(directory: Path) -> None:
    """A pid alone proves nothing: the process must be as old as the record says."""
    write_record(directory, started=psutil.Process().create_time() - 5)
    assert home.running_hub(home=directory) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"url":1,"pid":1,"started":1}',
        b'{"url":"\xff","pid":1,"started":1}',
        b'{"url":"ws://x","pid":-1,"started":1}',
        b'{"url":"ws://x","pid":0,"started":1}',
        b'{"url":"ws://x","pid":99999999999999999999,"started":1}',
        b'{"url":"ws://x","pid":9223372036854775807,"started":1}',
    ],
)
def test_hub_record_that_is_none(directory: Path, content: bytes) -> None:
    """Whatever the file holds, it is no hub and no crash."""
    (directory / "hub.json").write_bytes(content)
    assert home.running_hub(home=directory) is None
    home.remove_hub_record(home=directory)
    assert (directory / "hub.json").exists()


@pytest.mark.parametrize("asked", [LOCAL, "ws://localhost:3001", "ws://[::1]:3001/", "ws://LocalHost:3001/x"])
def test_credentials_for_the_local_hub(directory: Path, asked: str) -> None:
    """All names of loopback mean the recorded hub: its own address is dialled, with this user's token."""
    token = home.ensure_local_token(Role.OPERATOR, home=directory)
    write_record(directory)
    assert home.credentials_for(asked, Role.OPERATOR, home=directory) == (LOCAL, token)
    assert home.credentials_for(asked, Role.PROVIDER, home=directory) == (LOCAL, None)


@pytest.mark.parametrize(
    "asked",
    [
        "wss://127.0.0.1:3001",
        "http://127.0.0.1:3001",
        "ws://127.0.0.1:3002",
        "ws://127.0.0.1",
        "ws://rig-7:3001",
        "ws://127.0.0.1.example.org:3001",
        "ws://localhost:3001@example.org:3001",
        "ws://10.0.0.1:3001",
        "ws://0.0.0.0:3001",
        "ws://127.0.0.1:99999",
        "ws://127.0.0.1:port",
        "ws://[::1",
        "127.0.0.1:3001",
        "",
    ],
)
def test_credentials_for_anything_else(directory: Path, asked: str) -> None:
    """Another scheme, port or host never gets a local token, and is dialled as asked."""
    home.ensure_local_token(Role.OPERATOR, home=directory)
    write_record(directory)
    assert home.credentials_for(asked, Role.OPERATOR, home=directory) == (asked, None)


@pytest.mark.parametrize("url", ["ws://10.0.0.1:3001", "ws://[::", "wss://127.0.0.1:3001"])
def test_credentials_where_the_record_names_another_hub(directory: Path, url: str) -> None:
    """A record that is no loopback address, or none at all, gives no token away."""
    home.ensure_local_token(Role.OPERATOR, home=directory)
    write_record(directory, url=url)
    for asked in (LOCAL, "ws://10.0.0.1:3001"):
        assert home.credentials_for(asked, Role.OPERATOR, home=directory) == (asked, None)


def test_credentials_without_a_running_hub(directory: Path) -> None:
    """No record, or one of a hub that is gone: whoever listens there now gets no token."""
    home.ensure_local_token(Role.OPERATOR, home=directory)
    assert home.credentials_for(LOCAL, Role.OPERATOR, home=directory) == (LOCAL, None)
    write_record(directory, started=1.0)
    assert home.credentials_for(LOCAL, Role.OPERATOR, home=directory) == (LOCAL, None)


def test_credentials_by_the_default_ports(directory: Path) -> None:
    """An address without a port means 80, or 443 with TLS."""
    token = home.ensure_local_token(Role.VIEWER, home=directory)
    for recorded, asked in (
        ("ws://127.0.0.1:80", "ws://localhost"),
        ("wss://127.0.0.1:443", "wss://localhost/"),
    ):
        write_record(directory, url=recorded)
        assert home.credentials_for(asked, Role.VIEWER, home=directory) == (recorded, token)


def test_nothing_is_left_of_a_token_that_failed(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, for one: the sentence names the file, and nothing half-made stays."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(home.HomeError, match="tokens/operator: No space left on device"):
        home.ensure_local_token(Role.OPERATOR, home=directory)
    assert list((directory / "tokens").iterdir()) == []


@given(st.binary(max_size=60))
@settings(max_examples=50)
def test_any_hub_record_is_read_without_an_error(content: bytes) -> None:
    """Whatever lies there is no hub."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "hub.json").write_bytes(content)
        assert home.running_hub(home=Path(name)) is None


@given(st.text(max_size=30).map(lambda text: f"ws://{text}") | st.text(max_size=30))
@settings(max_examples=100)
def test_any_address_is_looked_at_without_an_error(asked: str) -> None:
    """Whatever a person types is dialled as it is, and shown no local token."""
    with tempfile.TemporaryDirectory() as name:
        write_record(Path(name))
        assert home.credentials_for(asked, Role.OPERATOR, home=Path(name)) == (asked, None)
