"""The sockets of several hubs that share an address.

Each worker has a listening socket of its own on that address (``SO_REUSEPORT``), and the kernel deals
newcomers out among them: with one socket for all, whoever is first takes all that wait. Whoever starts the
workers keeps the sockets open, so that who connects to a worker which is gone waits for its next start.
"""

import contextlib
import socket
from collections import defaultdict
from collections.abc import Iterable, Sequence

from qubix_tui.hub.config import HubConfig
from qubix_tui.hub.listeners import BACKLOG, Listeners, bind_unix

Address = tuple[socket.AddressFamily, tuple[str, int]]


class WorkerSockets:
    """Opens what some workers listen on.

    Args:
        config: The address, and maybe a Unix socket, which all of them share.
        count: How many they are.
        first_port: Where the ports on 127.0.0.1 begin that each has for itself; None for none.
        handed: Sockets that listen already, in place of the address.

    Raises:
        OSError: It can't listen there.
        ValueError: The Unix socket or the ports of workers can't be used, or it would listen beyond loopback
            without TLS.
    """

    def __init__(
        self,
        config: HubConfig,
        count: int,
        *,
        first_port: int | None = None,
        handed: Sequence[socket.socket] = (),
    ) -> None:
        self._unix_path = config.unix_socket
        self._handed = deal(handed, count)
        self._own: list[list[socket.socket]] = [[] for _ in range(count)]
        self._ports: list[list[socket.socket]] = [[] for _ in range(count)]
        self._unix: list[socket.socket] = []
        try:
            self._addresses = [] if handed else _free_addresses(config)
            for number in range(count):
                self._own[number] = [_bind(address) for address in self._addresses]
                if first_port is not None:
                    self._ports[number] = [_bind_own(first_port + number)]
            self.url: str = Listeners(config, self._handed[0] or self._own[0]).url
            """The address for clients."""
            if config.unix_socket is not None:
                self._unix = [bind_unix(config.unix_socket)]
                # Those who come before a worker listens wait.
                self._unix[0].listen(BACKLOG)
        except BaseException:
            self.close()
            raise

    def of(self, number: int) -> list[socket.socket]:
        """Give what a worker (from 0) listens on, the address for clients first."""
        return [*self._handed[number], *self._own[number], *self._ports[number], *self._unix]

    def keep_only(self, number: int) -> list[socket.socket]:
        """Give the same in the worker's own process, and close there what is not for it.

        Else nobody who connects to another worker would be let go when that one's socket is closed.
        """
        kept = self.of(number)
        for other in self._all():
            if other not in kept:
                other.close()
        return kept

    def let_go(self, number: int) -> None:
        """Leave the newcomers of a worker to the others: those who wait are reset, and can come back at once.

        Its next socket listens once the worker does. Sockets that were handed over are not ours to close.
        """
        # Bound before the other one is closed, the address is never anybody else's.
        fresh = [_bind(address) for address in self._addresses]
        for waiting in self._own[number]:
            waiting.close()
        self._own[number] = fresh

    def close(self) -> None:
        """Close them here; workers keep theirs."""
        for one in self._all():
            one.close()
        if self._unix and self._unix_path is not None:
            self._unix = []
            with contextlib.suppress(OSError):
                self._unix_path.unlink()

    def _all(self) -> Iterable[socket.socket]:
        for group in (*self._handed, *self._own, *self._ports, self._unix):
            yield from group


def deal(handed: Sequence[socket.socket], count: int) -> list[list[socket.socket]]:
    """Deal sockets out among some workers: each worker has each address, and no socket is left out.

    A socket that is the only one of its address goes to all. Where there are several (``ReusePort=``), each
    goes to as few workers as may be, for these alone are balanced by the kernel.
    """
    groups: dict[object, list[socket.socket]] = defaultdict(list)
    for one in handed:
        groups[one.getsockname()].append(one)
    dealt: list[list[socket.socket]] = [[] for _ in range(count)]
    for group in groups.values():
        for turn in range(max(count, len(group))):
            dealt[turn % count].append(group[turn % len(group)])
    return dealt


def _free_addresses(config: HubConfig) -> list[Address]:
    """Give the addresses of a host, with a port on which nobody listens.

    Raises:
        OSError: Somebody does, or there is no such host.
    """
    found = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    port = config.port
    addresses: dict[Address, None] = {}
    for family, _, _, _, name in found:
        # Not shared: another hub with workers, of the same user, would else go unnoticed.
        with _bind((family, (str(name[0]), port)), shared=False) as probe:
            port = probe.getsockname()[1]
        addresses[family, (str(name[0]), port)] = None
    return list(addresses)


def _bind_own(port: int) -> socket.socket:
    try:
        return _bind((socket.AF_INET, ("127.0.0.1", port)), shared=False)
    except OSError as error:
        raise ValueError(
            f"a worker can't listen on 127.0.0.1:{port}: {error.strerror}; begin elsewhere with "
            "listen.worker_port"
        ) from None


def _bind(address: Address, *, shared: bool = True) -> socket.socket:
    family, name = address
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(name)
    except BaseException:
        made.close()
        raise
    return made
