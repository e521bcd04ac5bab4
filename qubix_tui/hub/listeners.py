"""The sockets that a hub listens on: TCP, with TLS or without, and maybe a Unix one.

It opens its own, or takes those that it is handed: these stay open in whoever opened them, and clients that
come while no hub is there wait in them for the next one.
"""

import contextlib
import functools
import logging
import socket
import ssl
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from websockets.asyncio.server import Server, ServerConnection, serve, unix_serve

from qubix_tui.hub.addresses import is_loopback
from qubix_tui.hub.config import HubConfig
from qubix_tui.hub.framed_connection import CLOSING_SECONDS, READ_LIMIT, WRITE_LIMIT
from qubix_tui.hub.session import Session, SessionOwner

HANDSHAKE_SECONDS = 10.0
"""How long a client may take for its handshake, and before that for the one of TLS."""

BACKLOG = 1024
"""Connections that the kernel keeps until they are accepted."""

_websockets_logger = logging.getLogger("qubix.hub.websockets")
_websockets_logger.setLevel(logging.WARNING)


class Listeners:
    """Opens and closes the sockets of one hub.

    Args:
        config: Which they are.
        handed: Sockets in place of the address in ``config``: TCP ones, and maybe Unix ones beside them. They
            are bound, and may listen already; closed with the rest.

    Raises:
        ValueError: It would listen beyond loopback without TLS, and was not told to.
    """

    def __init__(self, config: HubConfig, handed: Sequence[socket.socket] = ()) -> None:
        self._config = config
        self._handed = handed
        self._tls: ssl.SSLContext | None = None
        self._servers: list[Server] = []
        self._has_unix = False
        tcp = [made.getsockname() for made in handed if made.family != socket.AF_UNIX]
        names = tcp or [(config.host, config.port)]
        self._host: str = names[0][0]
        self.port: int = names[0][1]
        """The TCP port, the real one from `open` on."""
        for host in (name[0] for name in names):
            if not (host == "localhost" or is_loopback(host) or config.insecure or config.tls_cert):
                raise ValueError(
                    f"{host} can be reached from other machines, and this hub speaks without TLS: "
                    "give it --tls-cert and --tls-key, listen on 127.0.0.1, or say --insecure if the network "
                    "is trusted"
                )

    @property
    def outlives(self) -> bool:
        """Whether whoever comes once these are closed waits for another hub, and is not refused."""
        return bool(self._handed)

    @property
    def url(self) -> str:
        """The address for clients; the first one where it listens on several."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'wss' if self._config.tls_cert else 'ws'}://{host}:{self.port}"

    async def open(
        self,
        owner: SessionOwner,
        handler: Callable[[ServerConnection], Any],
        process_request: Callable[..., Any],
    ) -> None:
        """Listen.

        Raises:
            OSError: It can't listen there; ``errno`` says why.
            ValueError: The TLS files or the Unix socket can't be used; the message says why.
        """
        config = self._config
        options: dict[str, Any] = {
            "process_request": process_request,
            "create_connection": cast("type[ServerConnection]", functools.partial(Session, owner=owner)),
            "compression": None,
            "server_header": None,
            "open_timeout": HANDSHAKE_SECONDS,
            "ping_interval": None,
            "close_timeout": CLOSING_SECONDS,
            "max_size": READ_LIMIT,
            "write_limit": WRITE_LIMIT,
            "logger": _websockets_logger,
            "backlog": BACKLOG,
        }
        tls: dict[str, Any] = {}
        if config.tls_cert is not None:
            self._tls = _make_context(config.tls_cert, config.tls_key)
            tls = {"ssl": self._tls, "ssl_handshake_timeout": HANDSHAKE_SECONDS}
        try:
            for made in self._handed:
                if made.family == socket.AF_UNIX:
                    self._servers.append(await unix_serve(handler, None, sock=made, **options))
                else:
                    self._servers.append(await serve(handler, sock=made, **tls, **options))
            if not self._handed:
                self._servers.append(await serve(handler, config.host, config.port, **tls, **options))
                self.port = self._servers[0].sockets[0].getsockname()[1]
            if config.unix_socket is not None:
                bound = bind_unix(config.unix_socket)
                self._servers.append(await unix_serve(handler, None, sock=bound, **options))
                self._has_unix = True
        except BaseException:
            self.close()
            await self.wait_closed()
            raise

    def reload_tls(self) -> None:
        """Read the TLS files again: connections from now on get what they hold now.

        Raises:
            ValueError: They can't be used, and those from before stay; or there is no TLS here.
        """
        if self._tls is None or self._config.tls_cert is None:
            raise ValueError("this hub speaks without TLS: there are no files to read again")
        # Into a context of its own first: a half-loaded pair would leave the one in use without either.
        _make_context(self._config.tls_cert, self._config.tls_key)
        self._tls.load_cert_chain(self._config.tls_cert, self._config.tls_key)

    def close(self) -> None:
        """Listen no more; connections stay. Again is no error."""
        for server in self._servers:
            server.close(close_connections=False)
        if self._has_unix and self._config.unix_socket is not None:
            self._has_unix = False
            with contextlib.suppress(OSError):
                self._config.unix_socket.unlink()

    async def wait_closed(self) -> None:
        """Wait until nothing is left of them."""
        servers, self._servers = self._servers, []
        for server in servers:
            await server.wait_closed()


def _make_context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        for path in (certificate, key):
            if path is not None:
                path.open("rb").close()
        # Without a way to ask for a password the library would ask on the terminal.
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        raise ValueError(
            f"{certificate} and {key or 'the key in it'} are no certificate (PEM) and its private key: "
            f"{error.reason or error}"
        ) from None
    except OSError as error:
        raise ValueError(f"can't read the TLS file {error.filename}: {error.strerror}") from None
    return context


def _no_password() -> str:
    raise ValueError("the TLS key is protected by a password; a hub needs one without")


def bind_unix(path: Path) -> socket.socket:
    """Make a Unix socket that its owner alone can connect to; one that nobody listens on is replaced.

    Raises:
        ValueError: The path is taken, or can't be used.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_left_over(path):
            path.unlink()
        listener.bind(str(path))
        # Nobody can connect before it listens.
        path.chmod(0o600)
    except OSError as error:
        listener.close()
        raise ValueError(f"can't listen on the Unix socket {path}: {error.strerror or error}") from None
    except BaseException:
        listener.close()
        raise
    return listener


def _is_left_over(path: Path) -> bool:
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return False
    if not is_socket:
        raise ValueError(f"{path} is there and is no socket; it is left as it is: give another --unix-socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.settimeout(1)
        try:
            caller.connect(str(path))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    raise ValueError(f"another program listens on {path}: end it, or give another --unix-socket")
