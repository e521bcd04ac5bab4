"""What ended a connection or an attempt at one: a plain sentence, and how to react."""

import errno
import re
import socket
import ssl
from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import urlsplit

import msgspec
from websockets.exceptions import InvalidHandshake, InvalidProxyStatus, InvalidStatus, ProxyError

from qubix_tui.client.address import Address
from qubix_tui.protocol.errors import CloseCode

SHORTEST_RESTART_SECONDS: Final = 0.2
LONGEST_RESTART_SECONDS: Final = 300.0
"""A hub that restarts and asks for less patience, or for more, is not believed."""

REPLACED_WAIT_SECONDS: Final = 60.0
"""How long a client stays away that was replaced by a newer session, or cut for flooding."""

_ERRNO: Final = re.compile(r"\[Errno (\d+)\]")


class Reaction(Enum):
    """What a client does about a failure."""

    BACKOFF = "backoff"
    RESTARTING = "restarting"
    """Waits exactly as long as the hub said."""
    STOP = "stop"
    """Trying again by itself can't help: a person has to do something."""


class Remedy(Enum):
    """What a person has to do where trying again can't help."""

    CREDENTIAL = "another token"
    """Show another token."""
    UPDATE = "a newer program"
    """Use a newer version of this program."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a connection ended, or did not come to be.

    Args:
        sentence: For a person: what happened, and what to do where something can be done.
        reaction: What the client does about it.
        wait: Seconds that have to pass first, where that is known.
        unreachable: True where no hub answered.
        fresh: Whether the next connection must not ask for what it missed (it did not keep up with it).
        remedy: What a person has to do, where that is known.
    """

    sentence: str
    reaction: Reaction = Reaction.BACKOFF
    wait: float | None = None
    unreachable: bool = False
    fresh: bool = False
    remedy: Remedy | None = None


def explain_exception(
    error: Exception, address: Address, *, token: bool, proxy: str | None = None
) -> Failure:
    """Say why an attempt failed.

    Args:
        error: What dialling raised.
        address: What was dialled.
        token: Whether a token was shown.
        proxy: The proxy that was to be gone through, if any.
    """
    if isinstance(error, ProxyError):
        return Failure(_proxy_sentence(error, address), unreachable=True)
    if isinstance(error, InvalidStatus):
        return _explain_status(error, address, token=token)
    if isinstance(error, InvalidHandshake | EOFError):
        return Failure(f"what answers at {address.place} is not a WebSocket server", unreachable=True)
    if proxy is not None and isinstance(error, TimeoutError):
        return Failure(f"{address.place} did not answer in time through the proxy", unreachable=True)
    if proxy is not None and not isinstance(error, ssl.SSLError):
        # Nothing but the proxy was dialled.
        return Failure(f"the proxy: {_network_sentence(error, _proxy_address(proxy))}", unreachable=True)
    return Failure(_network_sentence(error, address), unreachable=True)


def _proxy_address(proxy: str) -> Address:
    parts = urlsplit(proxy)
    secure = parts.scheme == "https"
    return Address(proxy, parts.hostname or "", parts.port or (443 if secure else 80), secure)


def _proxy_sentence(error: ProxyError, address: Address) -> str:
    if isinstance(error, InvalidProxyStatus):
        return f"the proxy does not let through to {address.place} (HTTP {error.response.status_code})"
    return "what answers at the proxy's address is no HTTP proxy"


def _network_sentence(error: Exception, address: Address) -> str:
    if isinstance(error, TimeoutError):
        return f"{address.place} did not answer in time"
    if isinstance(error, socket.gaierror):
        return f"the host name {address.host} is not known ({error.strerror})"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of {address.place} is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"{address.place} does not speak TLS (is it a ws:// address?)"
    if isinstance(error, ConnectionResetError | ConnectionAbortedError):
        hint = " (is it a ws:// address?)" if address.secure else ""
        return f"{address.place} broke the connection off before it was open{hint}"
    if _all_refused(error):
        return f"nothing listens at {address.place} (connection refused)"
    reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    return f"can't connect to {address.place}: {reason}"


def _all_refused(error: Exception) -> bool:
    if isinstance(error, ConnectionRefusedError):
        return True
    # A name with several addresses: asyncio puts the messages of all of them into one OSError.
    numbers = {int(number) for number in _ERRNO.findall(str(error))}
    return numbers == {errno.ECONNREFUSED}


def _explain_status(error: InvalidStatus, address: Address, *, token: bool) -> Failure:
    status = error.response.status_code
    said = _body_sentence(error.response.body)
    suffix = f": {said}" if said else ""
    if status == 401:
        what = "refused the token" if token else "asks for a token and none was given"
        return _token_failure(f"the hub at {address.place} {what} (HTTP 401){suffix}")
    if status == 403:
        return Failure(f"the hub at {address.place} refused this client (HTTP 403){suffix}")
    if status == 421:
        hint = suffix or f"; start it with --public-name {address.host}"
        return Failure(f"the hub does not answer to the name {address.host} (HTTP 421){hint}")
    if status in {429, 503}:
        return Failure(f"the hub at {address.place} takes no connections right now (HTTP {status}){suffix}")
    return Failure(f"what answers at {address.place} is no QUBIX hub (HTTP {status})", unreachable=True)


def _token_failure(sentence: str) -> Failure:
    return Failure(sentence, Reaction.STOP, remedy=Remedy.CREDENTIAL)


def _body_sentence(body: bytes | bytearray | None) -> str:
    """The sentence in an error reply's body: JSON with ``error``, or one short line of text."""
    if not body:
        return ""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, ValueError):
        document = {"error": body.decode("utf-8", "replace").strip()}
    sentence = document.get("error") if isinstance(document, dict) else None
    return printable(sentence) if isinstance(sentence, str) and "<" not in sentence else ""


def explain_close(code: int | None, reason: str) -> Failure:
    """Say why an open connection ended, and what its close code asks of a client.

    Args:
        code: The code that the hub sent; None or 1006 where it sent none.
        reason: The text beside it.
    """
    said = printable(reason)
    suffix = f": {said}" if said else ""
    match code:
        case CloseCode.RESTARTING:
            wait = _restart_seconds(reason)
            reaction = Reaction.BACKOFF if wait is None else Reaction.RESTARTING
            return Failure("the hub is restarting", reaction, wait)
        case CloseCode.UNAUTHENTICATED:
            return _token_failure(f"the hub was shown no valid token (4001){suffix}")
        case CloseCode.REVOKED:
            return _token_failure(f"the hub refused or revoked the token (4003){suffix}")
        case CloseCode.SILENT:
            return Failure("the hub heard nothing from this client for too long (4008)")
        case CloseCode.REPLACED:
            return Failure(
                f"replaced by a newer session of this provider (4009){suffix}", wait=REPLACED_WAIT_SECONDS
            )
        case CloseCode.TOO_SLOW:
            return Failure(f"this client did not read fast enough (4013){suffix}", fresh=True)
        case CloseCode.FLOODING:
            return Failure(f"this client sent too much (4029){suffix}", wait=REPLACED_WAIT_SECONDS)
        case None | 1005 | 1006:
            return Failure("the connection to the hub was lost")
        case 1000 | 1001:
            return Failure(f"the hub closed the connection{suffix}")
        case _:
            return Failure(f"the hub closed the connection ({code}){suffix}")


def _restart_seconds(reason: str) -> float | None:
    match = re.search(r"\d+(?:\.\d+)?", reason)
    if match is None:
        return None
    return min(max(float(match[0]), SHORTEST_RESTART_SECONDS), LONGEST_RESTART_SECONDS)


def printable(text: str) -> str:
    """Make a stranger's text fit for one line: control characters replaced, cut at 200 characters."""
    return "".join(character if character.isprintable() else "�" for character in text[:200])
