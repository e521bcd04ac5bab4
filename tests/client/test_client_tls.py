"""TLS for real: a private authority that is trusted, and the same one that is not."""

import ssl

import trustme

from qubix_tui.client import Connection, ConnectionState, RetryPolicy, connect
from tests.client.scripted_hub import ScriptedHub, until

AUTHORITY = trustme.CA()
"""A private authority, made for this run."""

TOKEN = "qbx_o" + "0" * 72


async def secure_hub() -> tuple[ScriptedHub, str]:
    """A hub that listens with TLS, and its address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    hub = ScriptedHub()
    await hub.listen(ssl=context)
    return hub, hub.url.replace("ws://", "wss://")


async def test_a_trusted_authority_is_shown_the_token() -> None:
    """With the authority in its context the client opens, and the token arrives."""
    hub, url = await secure_hub()
    trusting = ssl.create_default_context()
    AUTHORITY.configure_trust(trusting)
    async with connect(url, token=TOKEN, ssl_context=trusting) as client:
        assert client.connection.state is ConnectionState.OPEN
        assert (await hub.peer()).headers["Authorization"] == f"Bearer {TOKEN}"
    await hub.stop()


async def test_an_unknown_authority_is_refused() -> None:
    """Without it the certificate is refused before anything is sent, and the sentence says so."""
    hub, url = await secure_hub()
    connection = Connection(url, token=TOKEN, retry=RetryPolicy(attempts=0))
    await connection.start()
    await until(lambda: connection.state is ConnectionState.DISCONNECTED)
    assert "is not trusted: unable to get local issuer" in (connection.last_error or "")
    assert not hub.peers
    await connection.close()
    await hub.stop()
