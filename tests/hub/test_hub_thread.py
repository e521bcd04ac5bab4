"""The hub on a thread of its own."""

import socket
import threading
import urllib.request

import pytest

from qubix_tui.hub.config import HubConfig
from qubix_tui.hub.server import Hub
from qubix_tui.hub.thread import HubThread, event_loop_factory


def threads() -> list[str]:
    """The hub threads that run."""
    return [thread.name for thread in threading.enumerate() if thread.name == "qubix-hub"]


def test_it_listens_when_start_returns_and_is_gone_when_stop_does() -> None:
    """`start` gives the address; `stop`, again or before a start, is no error."""
    prepared: list[Hub] = []
    hub = HubThread(HubConfig(port=0), prepare=prepared.append)
    hub.stop()
    url = hub.start()
    assert url == hub.url == prepared[0].url
    with urllib.request.urlopen(url.replace("ws://", "http://") + "/readyz", timeout=5) as response:
        assert response.status == 200
    assert threads() == ["qubix-hub"]
    hub.stop()
    hub.stop()
    assert threads() == []
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=5)


def test_start_raises_what_the_hub_could_not_do() -> None:
    """In the thread that asked: a port that is taken, an address without TLS, a mistake while preparing."""
    first = HubThread(HubConfig(port=0))
    port = int(first.start().rpartition(":")[2])
    try:
        with pytest.raises(OSError, match="address already in use"):
            HubThread(HubConfig(port=port)).start()
        with pytest.raises(ValueError, match="--insecure"):
            HubThread(HubConfig(port=0, host="0.0.0.0")).start()

        def broken(_: Hub) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            HubThread(HubConfig(port=0), prepare=broken).start()
    finally:
        first.stop()
    assert threads() == []


def test_the_loop_is_uvloops_where_there_is_one() -> None:
    """It takes in messages a tenth cheaper."""
    uvloop = pytest.importorskip("uvloop")
    loop = event_loop_factory()()
    assert isinstance(loop, uvloop.Loop)
    loop.close()
