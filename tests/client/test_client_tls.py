"""TLS for real: a private authority that is trusted, and the same one that is not."""

import re
import ssl
from pathlib import Path

from qubix_tui.client import Connection, ConnectionState, RetryPolicy, connect
from tests.client.scripted_hub import ScriptedHub, until

HERE = Path(__file__).parent
CERTIFICATE = HERE / "localhost_certificate.pem"
"""Signs itself for localhost and 127.0.0.1; valid to the year 2125 and good for nothing but this test."""

TOKEN = "qbx_o" + "0" * 72


async def secure_hub() -> tuple[ScriptedHub, str]:
    """A hub that listens with TLS, and its address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, HERE / "localhost_key.pem")
    hub = ScriptedHub()
    await hub.listen(ssl=context)
    return hub, hub.url.replace("ws://", "wss://")


async def test_a_trusted_authority_is_shown_the_token() -> None:
    """With the authority in its context the client opens, and the token arrives."""
    hub, url = await secure_hub()
    trusting = ssl.create_default_context(cafile=str(CERTIFICATE))
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
    assert re.search("is not trusted: self.signed certificate", connection.last_error or "")
    assert not hub.peers
    await connection.close()
    await hub.stop()
