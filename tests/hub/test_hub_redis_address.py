"""What names a Redis, and what is never said of it; TLS and passwords against a real one."""

import re
import socket
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from qubix_tui.hub.engine.base import Change, EngineUnavailable, NewEvent
from qubix_tui.hub.engine.redis import RedisEngine
from qubix_tui.hub.engine.redis_address import RedisAddress, parse_redis
from tests.hub.wire import eventually
from tests.redis_server import redis_server

SECRET = "correct-horse"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://r", ("redis", "r", 6379, 0, None)),
        ("redis://r:7000/3", ("redis", "r", 7000, 3, None)),
        ("rediss://qubix@[::1]:6380/", ("rediss", "::1", 6380, 0, "qubix")),
        ("unix:///run/redis/redis.sock", ("unix", "/run/redis/redis.sock", 0, 0, None)),
        ("redis://a%40b@r", ("redis", "r", 6379, 0, "a@b")),
    ],
)
def test_addresses(text: str, expected: tuple[object, ...]) -> None:
    """Each part that is left out has its usual value."""
    found = parse_redis(text)
    assert (found.scheme, found.host, found.port, found.database, found.username) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "an engine is sqlite, redis://"),
        ("redis", "an engine is sqlite, redis://"),
        ("http://r", "an engine is sqlite, redis://"),
        ("redis://r:port", "an engine is sqlite, redis://"),
        ("redis://", "names a host"),
        ("redis:///0", "names a host"),
        ("redis://r/name", "its database by number"),
        ("redis://r/0?ssl_cert_reqs=none", "ends with its database"),
        ("unix://run/redis.sock", "path of a Unix socket is absolute"),
        (f"redis://u:{SECRET}@r", "a password in the engine's address can be read by others"),
    ],
)
def test_what_is_no_address_is_one_sentence(text: str, sentence: str) -> None:
    """It says what one looks like, and repeats no password."""
    with pytest.raises(ValueError, match=re.escape(sentence)) as refused:
        parse_redis(text)
    assert SECRET not in str(refused.value)


@given(st.text() | st.from_regex(r"(redis|rediss|unix)://.*", fullmatch=True))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    """Nothing else is raised; what is shown of an address leads to the same place."""
    try:
        found = parse_redis(text)
    except ValueError:
        return
    assert isinstance(found, RedisAddress)


def test_a_password_is_shown_nowhere() -> None:
    """Neither as text nor in a traceback."""
    address = parse_redis("redis://user@r", SECRET)
    assert address.password == SECRET
    assert SECRET not in f"{address} {address!r} {RedisEngine(address)!r}"


async def test_a_password_lets_in_and_a_wrong_one_is_explained() -> None:
    """The sentence says what to look at, without the password."""
    with redis_server(requirepass=SECRET) as server:
        engine = RedisEngine(parse_redis(server.url, SECRET))
        await engine.open()
        assert await engine.commit([], [], []) == []
        await engine.close()
        with pytest.raises(EngineUnavailable, match="does not let this hub in: see its user and") as refused:
            await RedisEngine(parse_redis(server.url, f"not {SECRET}")).open()
        assert SECRET not in str(refused.value)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


async def test_an_address_that_is_nearly_right_is_explained() -> None:
    """A database that there is not; TLS with one that speaks none, which waits for more."""
    port = free_port()
    with redis_server(port=str(port), bind="127.0.0.1"):
        with pytest.raises(EngineUnavailable, match="has no database of that number"):
            await RedisEngine(parse_redis(f"redis://127.0.0.1:{port}/99")).open()
        with pytest.raises(EngineUnavailable, match="see whether it runs, whether it speaks TLS there, and"):
            await RedisEngine(parse_redis(f"rediss://127.0.0.1:{port}/0")).open()


async def test_tls_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An authority that the system trusts lets in; else nothing is sent, and the reason is said."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(
        str(tmp_path / "redis.pem")
    )
    port = free_port()
    tls = {
        "tls-port": str(port),
        "bind": "127.0.0.1",
        "tls-auth-clients": "no",
        "tls-cert-file": str(tmp_path / "redis.pem"),
        "tls-key-file": str(tmp_path / "redis.pem"),
        "tls-ca-cert-file": str(tmp_path / "ca.pem"),
    }
    with redis_server(**tls):
        address = parse_redis(f"rediss://localhost:{port}/2")
        with pytest.raises(EngineUnavailable, match="certificate verify failed"):
            await RedisEngine(address).open()
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        engine = RedisEngine(address)
        await engine.open()
        assert await engine.commit([], [], []) == []
        await engine.close()


async def test_the_settings_of_the_guide_are_enough() -> None:
    """What docs/scaling.md has an operator write, its user with few rights above all, lets a hub do all."""
    guide = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()
    block = guide.partition("In its `redis.conf`:\n\n```\n")[2].partition("\n```")[0]
    lines = dict(line.split(" ", 1) for line in block.splitlines())
    assert set(lines) == {"appendonly", "appendfsync", "maxmemory-policy", "user"}
    lines["user"] = lines["user"].replace("PASSWORD", SECRET)
    with redis_server(**lines) as server:
        address = parse_redis(f"unix://qubix@{server.socket}", SECRET)
        engine = RedisEngine(address)
        await engine.open()
        epoch = engine.epoch
        await engine.commit([], [Change("t", "a", b"1"), Change("t", "a", None)], [NewEvent("x", "T", b"{}")])
        assert len((await engine.replay("x", 0, limit=9)).events) == 1
        assert await engine.load("t") == await engine.read("t", ["a"]) == {}
        assert engine.cluster.node is not None
        received: list[bytes] = []
        engine.cluster.receive(lambda _, message: received.append(message))
        engine.cluster.send(engine.cluster.node, b"to itself")
        await eventually(lambda: received == [b"to itself"])
        server.kill()
        server.start()
        await eventually(lambda: engine.available)
        assert await engine.commit([], [], [NewEvent("x", "T", b"{}")]) == [2]
        await engine.close()
        server.kill()
        server.start()
        await engine.open()
        assert engine.epoch == epoch, "the user may ask for appendfsync, which is always"
        await engine.close()
