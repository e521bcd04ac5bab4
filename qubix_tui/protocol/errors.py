"""Error and close codes, and the exception that a message which breaks the contract raises."""

from enum import IntEnum, StrEnum

from qubix_tui.protocol.types import RequestId


class ErrorCode(StrEnum):
    """``code`` of an ``error`` message."""

    BAD_JSON = "bad_json"
    UNKNOWN_TYPE = "unknown_type"
    INVALID = "invalid"
    TOO_LARGE = "too_large"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    RATE_LIMITED = "rate_limited"
    CONFLICT = "conflict"
    NO_PROVIDER = "no_provider"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


class CloseCode(IntEnum):
    """Why the hub closed a connection, where the WebSocket standard has no better word."""

    NORMAL = 1000
    RESTARTING = 1012
    UNAUTHENTICATED = 4001
    REVOKED = 4003
    SILENT = 4008
    REPLACED = 4009
    TOO_SLOW = 4013
    FLOODING = 4029


class ProtocolError(Exception):
    """A message that can't be accepted: what is wrong, and with which member.

    Args:
        code: The code to answer with.
        message: One sentence for a person, naming what was expected.
        field: Path of the member at fault (``data.metrics.cpuPercent``), if it is one member's.
        retry_after: Seconds to wait before trying again, where waiting helps.
        request_id: ``id`` of the message at fault, if it could be read.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        field: str | None = None,
        retry_after: float | None = None,
        request_id: RequestId | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.retry_after = retry_after
        self.request_id = request_id
