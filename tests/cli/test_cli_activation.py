"""What a process takes of the sockets that a supervisor may have left for it."""

import os
import socket

import pytest

from qubix_tui.cli.activation import take_sockets
from qubix_tui.cli.common import CommandError


@pytest.fixture
def descriptor() -> int:
    """A listening socket as it comes: a number."""
    listener = socket.create_server(("127.0.0.1", 0))
    return listener.detach()


def test_what_is_ours_is_taken_once(descriptor: int) -> None:
    """The sockets themselves, no child inherits them, and nothing is left in the environment for one."""
    os.set_inheritable(descriptor, True)
    environment = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "hub", "HOME": "/"}
    (taken,) = take_sockets(environment, first=descriptor)
    with taken:
        assert taken.fileno() == descriptor
        assert not taken.get_inheritable()
        assert environment == {"HOME": "/"}
    assert take_sockets(environment, first=descriptor) == ()


@pytest.mark.parametrize(
    "environment",
    [{}, {"LISTEN_FDS": "1"}, {"LISTEN_FDS": "1", "LISTEN_PID": "1"}, {"LISTEN_PID": str(os.getpid() + 1)}],
)
def test_what_is_another_process_s_is_left(environment: dict[str, str], descriptor: int) -> None:
    """Nothing is taken, and the descriptor stays as it was."""
    os.set_inheritable(descriptor, True)
    assert take_sockets(environment, first=descriptor) == ()
    assert os.get_inheritable(descriptor)
    os.close(descriptor)


@pytest.mark.parametrize("count", ["", "one", "-1", "²", "100", "9" * 5000])
def test_a_senseless_number_is_refused(count: str) -> None:
    """In a sentence; no descriptor is touched."""
    with pytest.raises(CommandError, match="is no number of sockets"):
        take_sockets({"LISTEN_FDS": count, "LISTEN_PID": str(os.getpid())})


def test_one_that_does_not_listen_is_refused() -> None:
    """A TCP socket that nobody can connect to would make a hub that nobody reaches."""
    with socket.socket() as idle:
        environment = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
        with pytest.raises(CommandError, match="no listening TCP socket"):
            take_sockets(environment, first=idle.fileno())
