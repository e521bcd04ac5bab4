"""How an HTTP request is read and its answer is written."""

import math
from collections.abc import Mapping, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Final, TypeVar
from urllib.parse import parse_qsl, unquote

from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from qubix_tui.protocol import channels, codec

JSON_TYPE: Final = "application/json"
HTML_TYPE: Final = "text/html; charset=utf-8"

DEFAULT_PER_PAGE: Final = 100
MAX_PER_PAGE: Final = 500
"""So many records are 350 to 700 KiB; a reply that is not read within seconds is cut."""

METHODS: Final = ("GET", "HEAD")

_MAX_PAGE: Final = 1_000_000
_MAX_QUERY_FIELDS: Final = 20

_Item = TypeVar("_Item")


class RefusedRequest(Exception):
    """A request that can't be answered as asked.

    Args:
        status: The HTTP status to answer with.
        message: A sentence for a person.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Page:
    """Which part of a list is asked for.

    Args:
        query: Says which page, and how long pages are.
        total: How long the list is.
    """

    def __init__(self, query: Mapping[str, str], total: int) -> None:
        self._per_page = whole_number(query, "perPage", default=DEFAULT_PER_PAGE, most=MAX_PER_PAGE)
        # A page after the last is empty, no error: the list may have shrunk under a reader's hands.
        self._number = whole_number(query, "page", default=1, most=_MAX_PAGE)
        self._total = total

    def of(self, records: Sequence[_Item]) -> Sequence[_Item]:
        """Give the page's part of the list."""
        start = (self._number - 1) * self._per_page
        return records[start : start + self._per_page]

    def response(self, request: Request, name: str, records: Sequence[object]) -> Response:
        """Answer with the page: ``{"success", <name>: [...], "page", "pages", "total"}``."""
        body = {
            "success": True,
            name: records,
            "page": self._number,
            "pages": max(1, math.ceil(self._total / self._per_page)),
            "total": self._total,
        }
        return json_response(request, body)


def error_response(
    request: Request, status: int, message: str, *, retry_after: float | None = None
) -> Response:
    """Refuse a request, or a WebSocket handshake: ``{"success": false, "error": message}``.

    Args:
        request: What is refused (a HEAD gets no body).
        status: 4xx or 5xx.
        message: One sentence for a person.
        retry_after: Seconds after which trying again may help.
    """
    headers = {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(METHODS)
    if retry_after is not None:
        headers["Retry-After"] = str(math.ceil(retry_after))
    return json_response(request, {"success": False, "error": message}, status=status, headers=headers)


def json_response(
    request: Request,
    body: Mapping[str, object],
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Answer with a JSON document."""
    return write_response(request, codec.encode_record(body), JSON_TYPE, status=status, headers=headers)


def write_response(
    request: Request,
    body: bytes,
    content_type: str,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Answer with some bytes, which a HEAD does not get."""
    fields = Headers(
        {
            "Date": formatdate(usegmt=True),
            "Connection": "close",
            "Content-Type": content_type,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            **(headers or {}),
        }
    )
    return Response(status, HTTPStatus(status).phrase, fields, b"" if request.method == "HEAD" else body)


def split_target(target: str) -> tuple[list[str], dict[str, str]]:
    """Split a request's target into the decoded segments of its path and its query."""
    path, _, query = target.partition("?")
    try:
        # Decoded after splitting: an encoded slash stays within its segment.
        segments = [unquote(segment, errors="strict") for segment in path.removeprefix("/").split("/")]
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=_MAX_QUERY_FIELDS)
    except ValueError:
        raise RefusedRequest(
            400,
            f"the path and query are to be percent-encoded UTF-8, with at most {_MAX_QUERY_FIELDS} fields",
        ) from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise RefusedRequest(400, "the query names a field twice")
    return segments, fields


def whole_number(query: Mapping[str, str], name: str, *, default: int, most: int, least: int = 1) -> int:
    """Read a number from a query.

    Raises:
        RefusedRequest: It is none, or out of range.
    """
    text = query.get(name)
    if text is None:
        return default
    # Longer ones are out of range anyway, and int() refuses thousands of digits in its own way.
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and least <= int(text) <= most):
        raise RefusedRequest(400, f"{name}: expected a whole number from {least} to {most}")
    return int(text)


def checked_id(text: str) -> str:
    """Give a text that is an id.

    Raises:
        RefusedRequest: It is none.
    """
    if not channels.is_id(text):
        raise RefusedRequest(400, "expected an id: 1 to 64 of A-Z a-z 0-9 . _ -")
    return text
