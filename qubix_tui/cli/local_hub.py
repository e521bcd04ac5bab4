"""What a hub on a person's own machine needs: its data directory, locked, and the local tokens."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from qubix_tui import home
from qubix_tui.cli.common import CommandError
from qubix_tui.protocol.tokens import Role

if TYPE_CHECKING:
    from qubix_tui.cli.hub_settings import Settings
    from qubix_tui.hub.access import Access
    from qubix_tui.hub.config import HubConfig
    from qubix_tui.hub.engine.base import Engine


DATABASE = "hub.sqlite3"
"""The hub's database, in its data directory."""


class DataLocked(CommandError):
    """Another hub holds the data directory."""


@contextlib.contextmanager
def locked_data(directory: Path) -> Iterator[Path]:
    """Hold a hub's data directory for as long as the block runs.

    Raises:
        DataLocked: Another hub has it; the message says which process.
        HomeError: It can't be made.
    """
    import filelock

    home.private_dir(directory)
    lock = filelock.FileLock(directory / "lock", timeout=0)
    holder = directory / "pid"
    try:
        lock.acquire()
    except filelock.Timeout:
        with contextlib.suppress(OSError):
            raise DataLocked(
                f"the hub with process id {holder.read_text().strip()} already uses {directory}; "
                "stop it, or give this one a directory of its own with --data DIR"
            ) from None
        raise DataLocked(f"another hub already uses {directory}") from None
    except OSError as error:
        raise CommandError(f"can't lock {directory}: {error.strerror}") from None
    try:
        holder.write_text(f"{os.getpid()}\n")
        yield directory
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def local_engine(data: Path, settings: "Settings | None" = None) -> "Engine":
    """Give the store of a hub whose data directory is ``data``; opened by the hub's start.

    Args:
        data: The directory.
        settings: How much history is kept, beside the jobs; None for the defaults.
    """
    from qubix_tui.cli.hub_settings import Settings
    from qubix_tui.hub.engine.local import LocalEngine

    settings = settings or Settings()
    bounds = settings.storage
    return LocalEngine(
        data / DATABASE,
        max_events=bounds.events_per_channel,
        max_age=bounds.max_age_seconds,
        max_bytes=bounds.max_bytes + settings.jobs.retention_bytes,
    )


def local_access(config: "HubConfig", directory: Path) -> "Access":
    """Give the access rules of a hub of this user: its local operator and provider tokens are known."""
    from qubix_tui.hub.access import Access

    access = Access(
        allowed_origins=config.allow_origins,
        public_names=config.public_names,
        anonymous=config.anonymous,
        trusted_proxies=bool(config.trusted_proxies),
    )
    for role in (Role.OPERATOR, Role.PROVIDER):
        access.add_token(home.ensure_local_token(role, home=directory), role, f"local-{role.value}")
    return access
