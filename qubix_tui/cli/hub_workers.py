"""`qubix hub --workers N`: several hubs on one machine that share an address."""

import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from qubix_tui.cli import logs
from qubix_tui.cli.common import EXIT_FAILED, CommandError
from qubix_tui.cli.hub_engine import hub_engine
from qubix_tui.cli.hub_service import cant_listen, serve
from qubix_tui.cli.worker_sockets import WorkerSockets
from qubix_tui.cli.worker_supervisor import Supervisor
from qubix_tui.hub.config import HubConfig
from qubix_tui.notify import Notifier

if TYPE_CHECKING:
    from qubix_tui.cli.hub_settings import Settings


def supervise(
    settings: "Settings",
    config: HubConfig,
    directory: Path,
    notifier: Notifier,
    *,
    handed: Sequence[socket.socket] = (),
) -> int:
    """Run as many hubs as are set, until they are told to end.

    Args:
        settings: What was settled for them.
        config: What of that is a hub's own.
        directory: QUBIX_HOME.
        notifier: The supervisor of this process, if there is one.
        handed: Sockets that listen already, in place of the address.

    Returns:
        The exit code.

    Raises:
        CommandError: They can't run; the message says why and what to do.
        HomeError: A file of QUBIX_HOME can't be used.
    """
    if sys.platform != "linux":
        raise CommandError(
            "--workers needs Linux, which deals clients out among them: run hubs on ports of their own, "
            "behind a balancer (docs/scaling.md)"
        )
    # What can't be had is said once, and what workers need is loaded before they are forked.
    with hub_engine(settings):
        pass
    own_config = msgspec.structs.replace(config, unix_socket=None)

    def work(number: int, sockets: list[socket.socket], notifier: Notifier) -> None:
        log = settings.log
        logs.configure(level=log.level, log_format=log.format, fields={"worker": number})
        serve(settings, own_config, directory, notifier, sockets=sockets, is_worker=True)

    listen = settings.listen
    try:
        sockets = WorkerSockets(config, listen.workers, first_port=listen.worker_port, handed=handed)
    except OSError as error:
        raise cant_listen(error, config) from None
    except ValueError as error:
        raise CommandError(str(error), EXIT_FAILED) from None
    supervisor = Supervisor(sockets, work, count=listen.workers, directory=directory, notifier=notifier)
    return supervisor.run(config.drain_seconds)
