"""What a hub is told of how to listen, and whom to answer."""

from pathlib import Path

import msgspec

from qubix_tui.hub.job_state import JobSettings
from qubix_tui.hub.limits import Limits
from qubix_tui.hub.outbox import DEFAULT_BOUND
from qubix_tui.protocol import DEFAULT_PORT


class HubConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How a hub listens, and whom it answers.

    Attributes:
        host: The address to listen on.
        port: 0 picks a free one.
        unix_socket: A Unix socket to listen on beside that; its clients count as this machine's.
        tls_cert: The certificate (PEM, with its chain) for TLS; None for none.
        tls_key: Its private key (PEM).
        allow_origins: Origins beside the loopback ones whose pages may connect.
        public_names: Names beside the loopback ones by which clients reach it.
        anonymous: Whether a loopback client without a token may look.
        trusted_proxies: Addresses and networks (``unix``: the Unix socket) whose ``X-Forwarded-For`` is
            believed. With any, nobody is anonymous.
        insecure: Listen beyond loopback without TLS.
        limits: How much clients may ask.
        outbox_bytes: Bytes that may wait for one client before it is cut.
        drain_seconds: How long clients may take to leave when it ends.
        jobs: How long it waits for agents, and how long it keeps finished jobs.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    unix_socket: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    allow_origins: tuple[str, ...] = ()
    public_names: tuple[str, ...] = ()
    anonymous: bool = True
    trusted_proxies: tuple[str, ...] = ()
    insecure: bool = False
    limits: Limits = Limits()
    outbox_bytes: int = DEFAULT_BOUND
    drain_seconds: float = 10.0
    jobs: JobSettings = JobSettings()
