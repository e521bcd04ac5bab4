"""The listening sockets that a supervisor has opened for a service of ours: systemd's socket activation.

`LISTEN_FDS` says how many there are, from descriptor 3 on, and `LISTEN_PID` for whom (``sd_listen_fds(3)``).
They belong to the supervisor: whoever connects while the service is started again waits in them, and is not
refused.
"""

import os
import re
import socket
from collections.abc import MutableMapping

from qubix_tui.cli.common import EXIT_FAILED, CommandError

FIRST_DESCRIPTOR = 3
"""Where the protocol has them begin."""


def take_sockets(
    environment: MutableMapping[str, str] = os.environ, *, first: int = FIRST_DESCRIPTOR
) -> tuple[socket.socket, ...]:
    """Take what was handed over, and its variables out of the environment, so that no child takes it again.

    Args:
        environment: The variables.
        first: The first descriptor.

    Returns:
        The sockets, which the caller closes; none where nobody has handed over any to this very process.

    Raises:
        CommandError: What was handed over is no listening TCP socket.
    """
    count = environment.pop("LISTEN_FDS", "")
    process = environment.pop("LISTEN_PID", "")
    environment.pop("LISTEN_FDNAMES", None)
    if process != str(os.getpid()):
        return ()
    if re.fullmatch("[0-9]{1,2}", count) is None:
        raise CommandError(
            f"LISTEN_FDS={count[:20]} is no number of sockets from 0 to 99: start the hub without it, "
            "or by a socket unit",
            EXIT_FAILED,
        )
    sockets: list[socket.socket] = []
    try:
        for descriptor in range(first, first + int(count)):
            os.set_inheritable(descriptor, False)
            sockets.append(_listening(descriptor))
    except OSError:
        for taken in sockets:
            taken.close()
        raise CommandError(
            f"descriptor {descriptor}, handed over by the supervisor, is no listening TCP socket: "
            "a hub needs ListenStream= with an address and a port, and Accept=no",
            EXIT_FAILED,
        ) from None
    return tuple(sockets)


def _listening(descriptor: int) -> socket.socket:
    """Give the socket of a descriptor.

    Raises:
        OSError: It is none, or none that listens for TCP.
    """
    found = socket.socket(fileno=descriptor)
    stream = found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_STREAM
    if stream and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return found
    found.detach()
    raise OSError
