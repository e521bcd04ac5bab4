"""What several hubs on one address listen on, with real sockets."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qubix_tui.cli.worker_sockets import WorkerSockets, deal
from qubix_tui.hub.config import HubConfig

PATIENCE = 10.0


@contextlib.contextmanager
def opened(
    config: HubConfig | None = None, count: int = 2, first_port: int | None = None
) -> Iterator[WorkerSockets]:
    """Some workers' sockets, closed with the block."""
    sockets = WorkerSockets(config or HubConfig(port=0), count, first_port=first_port)
    with contextlib.closing(sockets):
        yield sockets


def listening(sockets: WorkerSockets, number: int) -> socket.socket:
    """A worker's first socket, as its process would have it."""
    made = sockets.of(number)[0].dup()
    made.settimeout(PATIENCE)
    made.listen(128)
    return made


def call(address: tuple[str, int]) -> socket.socket:
    """Connect."""
    return socket.create_connection(address, timeout=PATIENCE)


def free_ports() -> int:
    """The first of two ports that are free."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port: int = first.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError), socket.create_server(("127.0.0.1", port + 1)):
                return port


def test_a_free_port_is_the_same_for_all() -> None:
    """Each worker has a socket of its own, and clients are told one address."""
    with opened(count=3) as sockets:
        names = {sockets.of(number)[0].getsockname() for number in range(3)}
        assert len(names) == 1
        ((host, port),) = names
        assert sockets.url == f"ws://{host}:{port}"
        assert len({sockets.of(number)[0].fileno() for number in range(3)}) == 3


def test_newcomers_are_dealt_out() -> None:
    """Of many some reach each worker; nobody has to be quick for that."""
    with opened() as sockets, listening(sockets, 0) as first, listening(sockets, 1) as second:
        address = first.getsockname()
        with contextlib.ExitStack() as callers:
            for _ in range(60):
                callers.enter_context(call(address))
            reached = 0
            first.settimeout(0)
            with contextlib.suppress(BlockingIOError):
                while True:
                    first.accept()[0].close()
                    reached += 1
            assert 0 < reached < 60
            for _ in range(60 - reached):
                second.accept()[0].close()


def test_who_waits_for_a_worker_that_is_gone_reaches_its_next_start() -> None:
    """A connection made while no process has the socket is accepted by the next that does."""
    with opened(count=1) as sockets:
        listening(sockets, 0).close()
        with call(sockets.of(0)[0].getsockname()), listening(sockets, 0) as again:
            again.accept()[0].close()


def test_those_who_are_let_go_come_to_the_others() -> None:
    """They are reset, and whoever connects from then on reaches a worker that is there."""
    with opened() as sockets:
        listening(sockets, 0).close()
        address = sockets.of(0)[0].getsockname()
        with call(address) as waiting:
            sockets.let_go(0)
            with pytest.raises(ConnectionResetError):
                waiting.recv(1)
        with listening(sockets, 1) as other:
            for _ in range(20):
                with call(address):
                    other.accept()[0].close()
        assert sockets.of(0)[0].getsockname() == address


def test_a_worker_holds_nothing_of_the_others() -> None:
    """Else who waits for another one could not be let go."""
    with opened() as sockets:
        theirs = sockets.of(1)
        assert sockets.keep_only(0) == sockets.of(0)
        assert [one.fileno() for one in theirs] == [-1]
        assert all(one.fileno() >= 0 for one in sockets.of(0))


@pytest.mark.parametrize("shared", [False, True], ids=["another program", "other workers"])
def test_an_address_that_others_have_is_not_shared_with_them(shared: bool) -> None:
    """Though the kernel would let workers of one user share it with those of another hub."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(OSError, match="in use"):
            WorkerSockets(HubConfig(port=other.getsockname()[1]), 2)


def test_each_has_a_port_of_its_own_where_that_is_asked_for() -> None:
    """One after the other from the first on, on loopback, beside the address of all."""
    first = free_ports()
    with opened(HubConfig(port=0, host="127.0.0.2"), first_port=first) as sockets:
        for number in range(2):
            shared, own = (one.getsockname() for one in sockets.of(number))
            assert shared[0] == "127.0.0.2"
            assert own == ("127.0.0.1", first + number)
        assert sockets.url.startswith("ws://127.0.0.2:")


def test_a_port_of_a_worker_that_is_taken_is_named() -> None:
    """In one sentence that says which setting to change."""
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(
            ValueError, match=f"{taken.getsockname()[1]}.*in use; begin elsewhere with listen.worker_port"
        ),
    ):
        WorkerSockets(HubConfig(port=0), 1, first_port=taken.getsockname()[1])


def test_the_unix_socket_is_one_for_all(tmp_path: Path) -> None:
    """Who connects before any worker is there waits; the path is gone at the end, and none is taken over."""
    path = tmp_path / "hub.sock"
    config = HubConfig(port=0, unix_socket=path)
    with opened(config) as sockets:
        assert sockets.of(0)[-1] is sockets.of(1)[-1]
        with socket.socket(socket.AF_UNIX) as caller:
            caller.settimeout(PATIENCE)
            caller.connect(str(path))
            sockets.of(1)[-1].accept()[0].close()
        with pytest.raises(ValueError, match="another program listens on"):
            WorkerSockets(config, 2)
    assert not path.exists()


def test_others_can_not_reach_it_without_tls() -> None:
    """As with one hub, and nothing is left open."""
    with pytest.raises(ValueError, match="speaks without TLS"):
        WorkerSockets(HubConfig(host="0.0.0.0", port=0), 2)


class Handed:
    """A socket as a supervisor may hand it over, with nothing behind it."""

    def __init__(self, address: int) -> None:
        self._address = address

    def getsockname(self) -> int:
        return self._address


@given(st.lists(st.integers(0, 3), max_size=9), st.integers(1, 6))
def test_every_worker_has_every_address_and_every_socket_a_worker(addresses: list[int], count: int) -> None:
    """However many sockets there are of each address; and the load on those of one differs by one at most."""
    handed = cast("list[socket.socket]", [Handed(address) for address in addresses])
    dealt = deal(handed, count)
    for of_one in dealt:
        assert {one.getsockname() for one in of_one} == set(addresses)
        assert len(set(map(id, of_one))) == len(of_one)
    for address in set(addresses):
        group = [one for one in handed if one.getsockname() == address]
        loads = [sum(any(one is got for got in of_one) for of_one in dealt) for one in group]
        assert min(loads) >= 1
        assert max(loads) - min(loads) <= 1
