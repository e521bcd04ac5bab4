"""The hub as this machine reaches it: the address, TLS, the token, and the time there."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from agent.doctor.finding import Finding, State
from agent.target import Target
from qubix_tui.client import (
    Address,
    BadUrl,
    ClientError,
    ConnectFailed,
    Connection,
    ConnectionState,
    RetryPolicy,
    check_url,
)
from qubix_tui.protocol.requests import Auth
from qubix_tui.protocol.tokens import Role

OPEN_SECONDS: Final = 15.0
"""How long a hub may take to greet."""

SKEW_SECONDS: Final = 2.0
"""How far the clock may be from the hub's."""

DAYS_LEFT: Final = 14
"""A certificate that ends sooner has most likely been forgotten."""

_DAY: Final = 86400.0


async def look_at_hub(
    target: Target, token_origin: str | None, context: ssl.SSLContext | None
) -> list[Finding]:
    """Look at all of it.

    Args:
        target: The hub.
        token_origin: Where the token came from, in words.
        context: What its certificate is verified by; None for the system's trust.
    """
    try:
        address = check_url(target.url, token=target.token, insecure=target.transport.insecure)
    except BadUrl as error:
        return [
            Finding("hub", State.FAIL, str(error), "an address that can be dialled", "see agent.toml, --hub")
        ]
    connection = Connection(
        target.url,
        token=target.token,
        retry=RetryPolicy(attempts=0),
        ssl_context=context,
        proxy=target.transport.proxy,
        insecure=target.transport.insecure,
        user_agent="qubix-agent doctor",
    )
    findings = [await _tls(address, target, context)]
    try:
        findings += [one async for one in _conversation(connection, address, target, token_origin)]
    finally:
        await connection.close()
    return findings


async def _conversation(
    connection: Connection, address: Address, target: Target, token_origin: str | None
) -> AsyncIterator[Finding]:
    began = time.monotonic()
    try:
        await _opened(connection)
    except ConnectFailed as error:
        if error.unreachable:
            yield Finding(
                "hub", State.FAIL, str(error), f"a hub that answers at {target.url}", _hub_remedy(target)
            )
            yield Finding("token", State.SKIP, "the hub was not reached")
        else:
            yield Finding("hub", State.OK, f"a hub answers at {address.place}")
            yield _refused(str(error), token_origin)
        yield Finding("clock", State.SKIP, "the hub's time is not known")
        return
    took = 1000 * (time.monotonic() - began)
    yield Finding(
        "hub", State.OK, f"QUBIX {connection.hub_version} at {target.url}, greeted after {took:.0f} ms"
    )
    yield await _token(connection, target, token_origin)
    yield _clock(connection.hub_time() - time.time())


async def _opened(connection: Connection) -> None:
    settled = asyncio.Event()

    def settle(state: ConnectionState) -> None:
        if state is not ConnectionState.CONNECTING:
            settled.set()

    connection.on_state(settle)
    await connection.start()
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            await settled.wait()
    except TimeoutError:
        pass
    await connection.wait_open(timeout=0)


def _hub_remedy(target: Target) -> str:
    through = f", or the proxy {target.transport.proxy}" if target.transport.proxy else ""
    return f"start the hub, or name another one (hub.url in agent.toml, --hub){through}"


async def _tls(address: Address, target: Target, context: ssl.SSLContext | None) -> Finding:
    needed = f"a certificate for {address.host} that is trusted, and good for {DAYS_LEFT} days more"
    if not address.secure:
        return _in_the_clear(address, target)
    if target.transport.proxy is not None:
        return Finding("tls", State.SKIP, "the certificate is not looked at through a proxy; it is verified")
    verified = context or ssl.create_default_context()
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            _, writer = await asyncio.open_connection(address.host, address.port, ssl=verified)
    except ssl.SSLCertVerificationError as error:
        return Finding(
            "tls", State.FAIL, f"not trusted: {error.verify_message}", needed, _trust_remedy(error, context)
        )
    except ssl.SSLError as error:
        return Finding("tls", State.FAIL, f"no TLS is spoken there ({error.reason})", needed, "use ws://?")
    except OSError:
        return Finding("tls", State.SKIP, "the hub was not reached")
    try:
        return _certificate(writer, needed)
    finally:
        writer.transport.abort()


def _certificate(writer: asyncio.StreamWriter, needed: str) -> Finding:
    certificate: dict[str, Any] = writer.get_extra_info("peercert")
    version = writer.get_extra_info("ssl_object").version()
    days = (ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()) / _DAY
    shown = f"{version}, a trusted certificate, good for {days:.0f} days more"
    if days < DAYS_LEFT:
        return Finding("tls", State.WARN, shown, needed, "tell the hub's operator to renew it")
    return Finding("tls", State.OK, shown, needed)


def _in_the_clear(address: Address, target: Target) -> Finding:
    if target.transport.insecure:
        return Finding(
            "tls",
            State.WARN,
            f"none: everything, the token too, goes to {address.place} in the clear",
            "wss://, unless every machine between is trusted",
            "have the hub speak TLS, and leave hub.insecure",
        )
    return Finding("tls", State.OK, "none is needed: what is said does not leave this machine")


def _trust_remedy(error: ssl.SSLCertVerificationError, context: ssl.SSLContext | None) -> str:
    said = error.verify_message.lower()
    if "expired" in said or "not yet valid" in said:
        return "look at this machine's clock; if that is right, the hub's certificate has to be renewed"
    if "mismatch" in said:
        return "name the hub as its certificate does (hub.url in agent.toml, --hub)"
    if context is None:
        return "for a private authority: its certificates by hub.ca_file in agent.toml, or --ca"
    return "look whether hub.ca_file (--ca) holds the authority that signed the hub's certificate"


async def _token(connection: Connection, target: Target, origin: str | None) -> Finding:
    needed = "a provider's token"
    if target.token is None:
        return Finding("token", State.FAIL, "there is none", needed, _ENROLL)
    try:
        reply = await connection.request("auth", Auth(token=target.token))
    except ClientError as error:
        return _refused(str(error), origin)
    role, subject = reply.data.role, reply.data.subject
    shown = f"{origin}: {role}{f', {subject}' if subject else ''}"
    if role != Role.PROVIDER:
        return Finding("token", State.FAIL, f"{shown}; that role publishes nothing", needed, _ENROLL)
    return Finding("token", State.OK, shown, needed)


def _refused(sentence: str, origin: str | None) -> Finding:
    shown = f"{origin}: {sentence}" if origin else sentence
    return Finding("token", State.FAIL, shown, "a provider's token that the hub knows", _ENROLL)


_ENROLL: Final = "have the hub's operator run qubix enroll new, and run qubix-agent enroll here"


def _clock(skew: float) -> Finding:
    direction = "behind" if skew > 0 else "ahead of"
    shown = f"{abs(skew):.1f} s {direction} the hub's" if abs(skew) >= 0.1 else "as the hub's"
    needed = f"within {SKEW_SECONDS:g} s of the hub's"
    if abs(skew) > SKEW_SECONDS:
        return Finding("clock", State.WARN, shown, needed, "keep it by the network: timedatectl set-ntp true")
    return Finding("clock", State.OK, shown, needed)
