"""How a hub is reached: whom to trust, and through which proxy."""

import ssl
from pathlib import Path
from typing import Final, NamedTuple


class TransportError(Exception):
    """The authorities to trust can't be read; the message says why."""


class Transport(NamedTuple):
    """How a hub is reached."""

    ca_file: Path | None = None
    """The authorities to trust, in place of the system's."""
    proxy: str | None = None
    insecure: bool = False
    """Whether a token may cross a network in the clear."""

    def ssl_context(self) -> ssl.SSLContext | None:
        """Give what a certificate is verified by; None for the system's trust.

        Raises:
            TransportError: The file of authorities can't be used.
        """
        if self.ca_file is None:
            return None
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except ssl.SSLError:
            raise TransportError(f"{self.ca_file} holds no certificate (PEM) of an authority") from None
        except OSError as error:
            raise TransportError(f"can't read the authority in {self.ca_file}: {error.strerror}") from None


SYSTEM_TRUST: Final = Transport()
