"""Read one document from a hub over HTTP."""

import json
from http.client import HTTPException
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import ProxyHandler, Request, build_opener

from qubix_tui.cli.common import EXIT_UNREACHABLE, EXIT_USAGE, CommandError, Target
from qubix_tui.protocol import codec
from qubix_tui.protocol.checks import printable
from qubix_tui.protocol.errors import ProtocolError
from qubix_tui.protocol.types import Wire

TIMEOUT_SECONDS = 10

Record = TypeVar("Record", bound=Wire)


def get(target: Target, path: str) -> dict[str, Any]:
    """Give what a hub answers to a path.

    Raises:
        CommandError: No hub answers, or it refuses; its message says why.
    """
    try:
        return dict(json.loads(_read(target, path)))
    except (ValueError, TypeError):
        raise no_hub(target) from None


def get_record(target: Target, path: str, form: type[Record]) -> Record:
    """Give what a hub answers to a path, checked.

    Raises:
        CommandError: No hub answers, or it refuses; its message says why.
    """
    try:
        return codec.decode_record(_read(target, path), form)
    except ProtocolError:
        raise no_hub(target) from None


def _read(target: Target, path: str) -> bytes:
    from qubix_tui.client import check_url

    try:
        check_url(target.url, token=target.token)
    except ValueError as error:
        raise CommandError(str(error), EXIT_USAGE) from None
    parts = urlsplit(target.url)
    scheme = {"ws": "http", "wss": "https"}[parts.scheme]
    path, _, query = path.partition("?")
    request = Request(urlunsplit((scheme, parts.netloc, path, query, "")))  # noqa: S310 - http or https only
    if target.token is not None:
        request.add_header("Authorization", f"Bearer {target.token}")
    try:
        # Straight to the hub: a proxy that happens to be configured must not see the token.
        with build_opener(ProxyHandler({})).open(request, timeout=TIMEOUT_SECONDS) as response:
            document: bytes = response.read()
            return document
    except HTTPError as error:
        said = printable(f"{error.reason}: {_reason(error)}")
        raise CommandError(f"{target.url} answered {error.code} {said}") from None
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        why = getattr(reason, "strerror", None) or reason
        raise CommandError(f"no hub answers at {target.url}: {why}", EXIT_UNREACHABLE) from None
    except (ValueError, HTTPException):
        raise no_hub(target) from None


def no_hub(target: Target) -> CommandError:
    """Give the complaint about an answer that is not a hub's."""
    return CommandError(f"what answers at {target.url} is not a QUBIX hub")


def _reason(error: HTTPError) -> str:
    try:
        return str(json.load(error)["error"])
    except (ValueError, KeyError, TypeError, OSError):
        return "it gave no reason"
