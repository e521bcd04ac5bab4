"""Where a hub keeps its state: a database in its data directory, or a Redis."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qubix_tui.cli.common import EXIT_FAILED, CommandError

if TYPE_CHECKING:
    from qubix_tui.cli.hub_settings import Settings
    from qubix_tui.hub.engine.base import Engine
    from qubix_tui.hub.engine.redis_address import RedisAddress

SQLITE: Final = "sqlite"
"""The engine that is a file."""

PASSWORD_VARIABLE: Final = "QUBIX_ENGINE_PASSWORD"  # noqa: S105 - its name


def check_engine(text: str) -> None:
    """See whether something names an engine.

    Raises:
        ValueError: It does not.
    """
    from qubix_tui.hub.engine.redis_address import parse_redis

    if text != SQLITE:
        parse_redis(text)


def redis_address(
    text: str, password_file: str | None, environment: Mapping[str, str] = os.environ
) -> "RedisAddress":
    """Give the Redis that an engine's address names, with the password that goes with it.

    Args:
        text: Its address.
        password_file: Where the password is; else it is in `PASSWORD_VARIABLE`, or there is none.
        environment: The variables.

    Raises:
        CommandError: The address is none, or the file can't be read.
    """
    from qubix_tui.hub.engine.redis_address import parse_redis

    password = environment.get(PASSWORD_VARIABLE) or None
    if password_file is not None:
        try:
            password = Path(password_file).read_text(encoding="utf-8").strip()
        except UnicodeDecodeError:
            raise CommandError(f"the password file {password_file} is no text", EXIT_FAILED) from None
        except OSError as error:
            raise CommandError(
                f"can't read the password file {password_file}: {error.strerror}", EXIT_FAILED
            ) from None
        if not password:
            raise CommandError(f"the password file {password_file} is empty", EXIT_FAILED)
    try:
        return parse_redis(text, password)
    except ValueError as error:
        raise CommandError(str(error)) from None


def redis_client() -> None:
    """See whether the client for Redis is installed.

    Raises:
        CommandError: It is not.
    """
    try:
        import qubix_tui.hub.engine.redis_link  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "redis":
            raise
        raise CommandError(
            "a hub on Redis needs one more package: pip install '.[redis]' in the source tree", EXIT_FAILED
        ) from None


def redis_engine(address: "RedisAddress", settings: "Settings") -> "Engine":
    """Give the store of a hub on a Redis; opened by the hub's start.

    Raises:
        CommandError: The client for it is not installed.
    """
    redis_client()
    from qubix_tui.hub.engine.redis import RedisEngine

    bounds = settings.storage
    return RedisEngine(address, max_events=bounds.events_per_channel, max_age=bounds.max_age_seconds)


@contextlib.contextmanager
def hub_engine(settings: "Settings") -> Iterator["Engine"]:
    """Give the store that is set for a hub; a data directory is held for as long as the block runs.

    Raises:
        CommandError: It can't be had; the message says what to do.
        HomeError: The data directory can't be made.
    """
    from qubix_tui.cli.local_hub import local_engine, locked_data

    storage = settings.storage
    if storage.engine != SQLITE:
        yield redis_engine(redis_address(storage.engine, storage.engine_password_file), settings)
        return
    assert storage.data is not None  # hub_config.apply knows where
    with locked_data(Path(storage.data)) as data:
        yield local_engine(data, settings)
