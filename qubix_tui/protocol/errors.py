"""Error and close codes, and the exception that a message which breaks the contract raises."""

from enum import IntEnum, StrEnum

from qubix_tui.protocol.types import RequestId


class ErrorCode(StrEnum):
    """``code`` of an ``error`` message."""

    BAD_JSON = "bad_json"
    """The message is not JSON, or not UTF-8."""
    UNKNOWN_TYPE = "unknown_type"
    """The hub does not know the message's ``type``."""
    INVALID = "invalid"
    """A member is missing or has a wrong value; ``field`` says which."""
    TOO_LARGE = "too_large"
    """The message is longer than 64 KiB."""
    UNAUTHENTICATED = "unauthenticated"
    """A valid token is needed first."""
    FORBIDDEN = "forbidden"
    """The connection's role may not do this."""
    NOT_FOUND = "not_found"
    """There is no such provider, job or token."""
    RATE_LIMITED = "rate_limited"
    """Too many messages; ``retryAfter`` says how long to wait."""
    CONFLICT = "conflict"
    """It contradicts what is so now, such as a second agent with the same identity."""
    NO_PROVIDER = "no_provider"
    """No provider can run the job."""
    UNAVAILABLE = "unavailable"
    """The hub can't do this now."""
    INTERNAL = "internal"
    """The hub made a mistake; its log has more."""


class CloseCode(IntEnum):
    """Why the hub closed a connection, where the WebSocket standard has no better word."""

    NORMAL = 1000
    """The connection has done its work."""
    RESTARTING = 1012
    """The hub restarts: wait the seconds that the reason holds, then reconnect."""
    UNAUTHENTICATED = 4001
    """Not authenticated in time: stop, and say why."""
    REVOKED = 4003
    """The token was revoked or refused: stop, and say why."""
    SILENT = 4008
    """Nothing was heard for 60 s: reconnect with backoff."""
    REPLACED = 4009
    """A newer session of this provider took over: say so, and wait a minute."""
    TOO_SLOW = 4013
    """The client did not read: reconnect without ``since``, with a snapshot."""
    FLOODING = 4029
    """Too many messages for too long: say so, and wait a minute."""


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
