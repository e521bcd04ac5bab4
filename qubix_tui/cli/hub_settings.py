"""What may be set for a hub: the tables of ``hub.toml``, each setting with its default and its reason.

The commented file that `qubix hub config init` writes, the check of a file, and the list in
``docs/operating.md`` all follow these structs.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from qubix_tui.cli.hub_config import FILE_NAME
from qubix_tui.cli.hub_engine import SQLITE, check_engine
from qubix_tui.hub import addresses
from qubix_tui.hub.config import HubConfig
from qubix_tui.hub.framed_connection import READ_LIMIT
from qubix_tui.hub.job_state import MIN_LEASE_SECONDS
from qubix_tui.hub.limits import Limits
from qubix_tui.hub.outbox import DEFAULT_BOUND
from qubix_tui.hub.proxies import TrustedProxies
from qubix_tui.settings.schema import Given, Schema, SettingsError, Text

_HUB = HubConfig()
_LIMITS = Limits()

MAX_WORKERS = 64
"""Hubs on one machine. Each hears of all that the others do: more of them would only listen to each other."""

Count = Annotated[int, Meta(ge=1, le=10**9)]
Rate = Annotated[float, Meta(gt=0, le=1e9)]
"""Per second."""


class Listen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where clients reach the hub."""

    host: Annotated[Text, Meta(description="The address to listen on. 0.0.0.0 or :: for all of them.")] = (
        _HUB.host
    )
    port: Annotated[int, Meta(ge=0, le=65535, description="0 picks a free one.")] = _HUB.port
    unix_socket: Annotated[
        Text | None,
        Meta(description="Also listen on this Unix socket.", examples=["/run/qubix/hub.sock"]),
    ] = None
    insecure: Annotated[
        bool, Meta(description="Listen beyond this machine without TLS. Only in a network that is trusted.")
    ] = _HUB.insecure
    workers: Annotated[
        int,
        Meta(
            ge=1,
            le=MAX_WORKERS,
            description="How many hubs share this address, each a process of its own: one for each core. "
            "More than one need a Redis.",
        ),
    ] = 1
    worker_port: Annotated[
        Annotated[int, Meta(ge=1, le=65535)] | None,
        Meta(
            description="With workers: the first of as many ports on 127.0.0.1, one for each, by which "
            "Prometheus tells them apart.",
            examples=[3101],
        ),
    ] = None


class Tls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TLS, where the hub itself speaks it. SIGHUP reads the files again."""

    cert: Annotated[
        Text | None,
        Meta(description="The certificate, with those between it and its root (PEM).", examples=["tls.pem"]),
    ] = None
    key: Annotated[
        Text | None,
        Meta(
            description="Its private key, where that is a file of its own (PEM, without a password).",
            examples=["tls.key"],
        ),
    ] = None


class AccessRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is let in, and from where."""

    allow_origins: Annotated[
        tuple[Text, ...],
        Meta(
            description="Origins beside this machine's own whose web pages may connect.",
            examples=[["https://console.example.org"]],
        ),
    ] = ()
    public_names: Annotated[
        tuple[Text, ...],
        Meta(
            description="Names by which clients reach the hub, beside localhost and any IP address.",
            examples=[["hub.example.org"]],
        ),
    ] = ()
    anonymous: Annotated[
        bool, Meta(description="Whether clients on this very machine may look without a token.")
    ] = _HUB.anonymous
    trusted_proxies: Annotated[
        tuple[Text, ...],
        Meta(
            description="Proxies whose X-Forwarded-For is believed: addresses, networks, unix (the socket). "
            "With any, nobody is anonymous.",
            examples=[["127.0.0.1", "10.0.0.0/8"]],
        ),
    ] = ()


class Storage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept, and where."""

    engine: Annotated[
        Text,
        Meta(
            description="sqlite (a file in the data directory), or a Redis or Valkey: redis://HOST:6379/0, "
            "rediss:// with TLS, unix:///PATH."
        ),
    ] = SQLITE
    engine_password_file: Annotated[
        Text | None,
        Meta(
            description="The password for it is in this file. Or in QUBIX_ENGINE_PASSWORD; never in the "
            "address.",
            examples=["/etc/qubix/redis.password"],
        ),
    ] = None
    data: Annotated[
        Text | None,
        Meta(
            description="The directory of the hub's data. Without it: hub/ in QUBIX_HOME.",
            examples=["/var/lib/qubix/hub"],
        ),
    ] = None
    events_per_channel: Annotated[
        Count, Meta(description="Newest events of each channel that a client which was away can catch up on.")
    ] = 1_000
    max_age_seconds: Annotated[Rate, Meta(description="Older events are dropped.")] = 3_600.0
    max_bytes: Annotated[
        int,
        Meta(
            ge=16 * 1024 * 1024,
            le=2**40,
            description="Size of the SQLite database, beside what jobs may take, beyond which the oldest "
            "events are dropped.",
        ),
    ] = 256 * 1024 * 1024


class Jobs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the hub waits for agents, and how long finished jobs are kept."""

    lease_seconds: Annotated[
        float,
        Meta(
            ge=MIN_LEASE_SECONDS,
            le=86_400,
            description="How long an agent may run a job without being heard. A tenth of it, 30 s at most, "
            "before its end the job ends by itself; as long after it another attempt may begin.",
        ),
    ] = _HUB.jobs.lease_seconds
    accept_seconds: Annotated[
        float, Meta(ge=1, le=600, description="How long an agent may take to answer an assignment.")
    ] = _HUB.jobs.accept_seconds
    retention_days: Annotated[
        float, Meta(gt=0, le=36_500, description="How long a finished job and its log are kept.")
    ] = _HUB.jobs.retention_days
    retention_bytes: Annotated[
        int,
        Meta(
            ge=1024 * 1024,
            le=2**40,
            description="What finished jobs and their logs may take together; the oldest go first.",
        ),
    ] = _HUB.jobs.retention_bytes


class ClientLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much clients may ask; a burst is what may come at once after a silence.

    The reasons are in the guide to operating a hub. Who asks for more is answered `rate_limited`.
    """

    messages_per_second: Annotated[Rate, Meta(description="Of one connection.")] = _LIMITS.messages_per_second
    messages_burst: Count = _LIMITS.messages_burst
    bytes_per_second: Annotated[Rate, Meta(description="Of one connection.")] = _LIMITS.bytes_per_second
    bytes_burst: Annotated[
        int,
        Meta(
            ge=READ_LIMIT, le=2**40, description="Never less than the largest message, which else never fits."
        ),
    ] = _LIMITS.bytes_burst
    subscribes_per_second: Annotated[Rate, Meta(description="Of one connection.")] = (
        _LIMITS.subscribes_per_second
    )
    subscribes_burst: Count = _LIMITS.subscribes_burst
    subscriptions: Annotated[Count, Meta(description="Held by one connection at once.")] = (
        _LIMITS.subscriptions
    )
    refusals_per_second: Annotated[
        Rate, Meta(description="How often one connection may be refused before it is closed.")
    ] = _LIMITS.refusals_per_second
    refusals_burst: Count = _LIMITS.refusals_burst
    connections: Annotated[
        Count, Meta(description="In all, handshakes included. Each needs a file: see LimitNOFILE, ulimit -n.")
    ] = _LIMITS.connections
    handshakes: Annotated[Count, Meta(description="Connections that have yet to finish theirs.")] = (
        _LIMITS.handshakes
    )
    strangers_per_address: Annotated[
        Count, Meta(description="Connections without a role, per IPv4 address or IPv6 /64.")
    ] = _LIMITS.strangers_per_address
    failed_logins_per_second: Annotated[Rate, Meta(description="Per IPv4 address or IPv6 /64.")] = (
        _LIMITS.failed_logins_per_second
    )
    failed_logins_burst: Count = _LIMITS.failed_logins_burst
    outbox_bytes: Annotated[
        int,
        Meta(
            ge=64 * 1024,
            le=2**30,
            description="What may wait for one client that reads too slowly before it is cut.",
        ),
    ] = DEFAULT_BOUND


class Log(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the hub writes to stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Annotated[
        Literal["text", "json"], Meta(description="json: one document a line, for a collector.")
    ] = "text"


class Shutdown(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the hub ends."""

    drain_seconds: Annotated[
        float,
        Meta(ge=0, le=3600, description="How long clients may take to leave, when the hub is told to end."),
    ] = _HUB.drain_seconds


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of ``hub.toml``."""

    listen: Listen = Listen()
    tls: Tls = Tls()
    access: AccessRules = AccessRules()
    storage: Storage = Storage()
    jobs: Jobs = Jobs()
    limits: ClientLimits = ClientLimits()
    log: Log = Log()
    shutdown: Shutdown = Shutdown()


FLAGS = {
    "host": "listen.host",
    "port": "listen.port",
    "unix_socket": "listen.unix_socket",
    "insecure": "listen.insecure",
    "workers": "listen.workers",
    "tls_cert": "tls.cert",
    "tls_key": "tls.key",
    "allow_origin": "access.allow_origins",
    "public_name": "access.public_names",
    "no_anonymous": "access.anonymous",
    "trusted_proxy": "access.trusted_proxies",
    "engine": "storage.engine",
    "engine_password_file": "storage.engine_password_file",
    "data": "storage.data",
    "retention": "jobs.retention_days",
    "log_level": "log.level",
    "log_format": "log.format",
    "drain_seconds": "shutdown.drain_seconds",
}
"""Which setting each flag of `qubix hub` gives."""

ENVIRONMENT = {
    "QUBIX_HUB_HOST": "listen.host",
    "QUBIX_HUB_PORT": "listen.port",
    "QUBIX_HUB_UNIX_SOCKET": "listen.unix_socket",
    "QUBIX_HUB_TLS_CERT": "tls.cert",
    "QUBIX_HUB_TLS_KEY": "tls.key",
    "QUBIX_HUB_ENGINE": "storage.engine",
    "QUBIX_HUB_ENGINE_PASSWORD_FILE": "storage.engine_password_file",
    "QUBIX_HUB_DATA": "storage.data",
    "QUBIX_HUB_LOG_LEVEL": "log.level",
    "QUBIX_HUB_LOG_FORMAT": "log.format",
}

_HEADING = """\
# How this hub listens, whom it lets in, and how much it takes.
# Every setting is shown with its default, or with an example where there is none; take the # away
# before those to change. `qubix hub config check` reads the file over, `qubix hub config show` tells
# what applies. A hub reads it when it starts.
"""


def _check_together(given: Mapping[str, Given]) -> None:
    _check_tls(given)
    _check_workers(given)


def _check_workers(given: Mapping[str, Given]) -> None:
    workers, engine = given.get("listen.workers"), given.get("storage.engine")
    if workers is None or workers.value == 1:
        if port := given.get("listen.worker_port"):
            raise SettingsError(
                f"{port.origin}: listen.worker_port is of no use without listen.workers above 1"
            )
        return
    if engine is None or engine.value == SQLITE:
        raise SettingsError(
            f"{workers.origin}: {workers.value} hubs can't share a SQLite file: give them a Redis, with "
            "--engine redis://HOST:6379/0 (docs/scaling.md says how), or run one, with --workers 1"
        )
    port = given.get("listen.worker_port")
    if port is not None and port.value + workers.value - 1 > 65535:
        raise SettingsError(
            f"{port.origin}: {workers.value} ports from {port.value} on go beyond 65535: begin lower"
        )


def _check_tls(given: Mapping[str, Given]) -> None:
    if "tls.key" in given and "tls.cert" not in given:
        raise SettingsError(
            f"{given['tls.key'].origin}: tls.key is of no use without tls.cert, the certificate"
        )


HUB = Schema(
    Settings,
    file_name=FILE_NAME,
    command="qubix hub config",
    heading=_HEADING,
    flags=FLAGS,
    environment=ENVIRONMENT,
    paths=frozenset(
        {"listen.unix_socket", "tls.cert", "tls.key", "storage.data", "storage.engine_password_file"}
    ),
    checks={
        "storage.engine": check_engine,
        "access.allow_origins": addresses.parse_allowed_origin,
        "access.public_names": addresses.parse_public_name,
        "access.trusted_proxies": lambda text: TrustedProxies([text]),
    },
    check_together=_check_together,
)
