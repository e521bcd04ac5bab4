"""What can go wrong for a user of the client. Every message is a sentence for a person."""

from qubix_tui.protocol.errors import ErrorCode


class ClientError(Exception):
    """Base of the client's own exceptions."""


class BadUrl(ClientError, ValueError):
    """The address can't be dialled as it is written."""


class InsecureToken(BadUrl):
    """A token would have to cross a network in the clear."""


class ConnectFailed(ClientError):
    """The connection did not open.

    Args:
        message: Why, as one sentence.
        unreachable: True where no hub was reached, False where one answered and refused.
    """

    def __init__(self, message: str, *, unreachable: bool) -> None:
        super().__init__(message)
        self.unreachable = unreachable


class ConnectionLost(ClientError):
    """The connection is not open, or went away before the answer came."""


class RequestTimeout(ClientError, TimeoutError):
    """The hub did not answer in time; it may or may not have done what was asked."""


class Refused(ClientError):
    """The hub answered a request with an ``error``.

    Args:
        code: Its code.
        message: Its sentence.
        field: Path of the member at fault, if it is one member's.
        retry_after: Seconds to wait before asking again, where waiting helps.
    """

    def __init__(
        self, code: ErrorCode, message: str, *, field: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message if field is None else f"{message} ({field})")
        self.code = code
        self.message = message
        self.field = field
        self.retry_after = retry_after


class SlowConsumer(ClientError):
    """Ordered updates came faster than they were taken, for longer than the queue holds."""
