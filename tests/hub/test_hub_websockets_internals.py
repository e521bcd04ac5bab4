"""What the hub relies on inside of the websockets library: these fail when it moves."""

import asyncio
import inspect
from importlib.metadata import version

from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection
from websockets.protocol import Protocol, State
from websockets.server import ServerProtocol

from qubix_tui.hub.incoming import at_frame_boundary
from qubix_tui.hub.session import Session
from qubix_tui.protocol.records import Metrics
from tests.hub.wire import eventually, running


def test_the_minor_version_is_the_one_that_was_read() -> None:
    """A newer one has to be read first: see the description of `qubix_tui.hub.framed_connection`."""
    assert version("websockets").startswith("17.4")


def test_the_names_are_there() -> None:
    """Methods that are overridden or called, with the parameters that they have."""
    for name, parameters in {
        "process_event": ["self", "event"],
        "data_received": ["self", "data"],
        "eof_received": ["self"],
        "connection_made": ["self", "transport"],
        "connection_lost": ["self", "exc"],
        "pause_writing": ["self"],
        "resume_writing": ["self"],
        "send_data": ["self"],
    }.items():
        for owner in (Connection, ServerConnection, Session):
            assert list(inspect.signature(getattr(owner, name)).parameters) == parameters
    assert list(inspect.signature(Protocol.send_close).parameters) == ["self", "code", "reason"]
    assert list(inspect.signature(Protocol.fail).parameters) == ["self", "code", "reason"]


def test_a_frame_is_written_in_one_piece_and_nothing_follows_a_close_frame() -> None:
    """Each frame is appended whole to what `send_data` writes; CLOSING comes with the close frame."""
    protocol = ServerProtocol()
    protocol.state = State.OPEN
    protocol.send_pong(b"x")
    protocol.send_close(1000, "bye")
    assert [len(data) for data in protocol.data_to_send()] == [3, 7]
    assert protocol.state is State.CLOSING


async def test_an_open_connection_keeps_little() -> None:
    """No task, nothing of the handshake; few enough attributes that all connections share their names."""
    async with running() as hub, await hub.client() as client:
        (session,) = hub.hub.caretaker.clients
        assert isinstance(session, Session)
        await eventually(lambda: not session.server.handler_tasks)
        assert len(vars(session)) < 30
        assert len(vars(session.protocol)) < 30
        assert session.request is not None
        assert not session.request.headers
        assert await client.heard() == []
        await client.socket.close()
        await eventually(lambda: not hub.hub.caretaker.clients)


async def test_whole_messages_are_read_past_the_librarys_parser() -> None:
    """Between two frames, wherever the last one came from; anything else than a whole text is left to it."""
    async with running() as hub, await hub.client() as client:
        (session,) = hub.hub.caretaker.clients
        assert isinstance(session, Session)
        for fragments in ([b'{"type":', b'"ping"}'], [b'{"type":"ping"}']):
            assert at_frame_boundary(session.protocol)
            await client.socket.send(part.decode() for part in fragments)
            assert (await client.recv())["type"] == "pong"
        await (await client.socket.ping())
        assert at_frame_boundary(session.protocol)
        client.socket.transport.write(b"\x81")
        await eventually(lambda: not at_frame_boundary(session.protocol))


async def test_the_librarys_own_frames_land_between_ours() -> None:
    """Pongs while events flow: every frame arrives whole, none is lost."""
    async with running() as hub, await hub.client() as client:
        (session,) = hub.hub.caretaker.clients
        assert isinstance(session, Session)
        assert session.send_in_progress is None
        assert session.paused is False
        assert session.state is State.OPEN
        assert not session.connection_lost_waiter.done()
        await client.subscribe("provider:a")
        pongs = []
        for seq in range(200):
            hub.hub.broadcast_gpu_metrics("a", Metrics(seq=seq))
            pongs.append(await client.socket.ping())
            if seq % 20 == 0:
                await asyncio.sleep(0.001)
        assert [m["data"]["metrics"]["seq"] for m in await client.heard()] == list(range(200))
        async with asyncio.timeout(10):
            await asyncio.gather(*pongs)
