"""`qubix hub move`: a hub's state from its database to a Redis, or back, while no hub runs."""

import argparse
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qubix_tui import home
from qubix_tui.cli import hub_config
from qubix_tui.cli.common import EXIT_FAILED, EXIT_USAGE, CommandError, RawFormatter
from qubix_tui.cli.hub_engine import SQLITE, redis_address, redis_client

if TYPE_CHECKING:
    from qubix_tui.cli.hub_settings import Settings
    from qubix_tui.hub.engine.transfer import Tally

EXAMPLES = """\
examples:
  qubix hub move --from sqlite --to redis://redis.example.org:6379/0
  qubix hub --data /var/lib/qubix/hub move --from redis://redis.example.org:6379/0 --to sqlite

Stop the hub first, and set storage.engine before it is started again. Everything is read back and compared
before the source is left; a source that was moved is kept, and no hub starts on it.
"""


def add_move_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add ``move`` below `qubix hub`."""
    move = commands.add_parser(
        "move",
        help="carry its state to another engine",
        description="Carry a hub's providers, tokens, jobs, ledger, audit and newest events to another one.",
        epilog=EXAMPLES,
        formatter_class=RawFormatter,
    )
    move.add_argument("--from", dest="source", metavar="ENGINE", required=True, help="sqlite, or a Redis")
    move.add_argument("--to", dest="target", metavar="ENGINE", required=True, help="sqlite, or a Redis")
    move.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Move it, and say what was moved."""
    from qubix_tui.cli.local_hub import locked_data
    from qubix_tui.hub.engine.base import EngineUnavailable
    from qubix_tui.hub.engine.transfer import MoveFailed

    source, target = arguments.source, arguments.target
    if (source == SQLITE) == (target == SQLITE):
        raise CommandError("one of --from and --to is sqlite, the other one a Redis", EXIT_USAGE)
    settings = hub_config.apply(arguments, home.home_dir()).settings
    assert settings.storage.data is not None  # hub_config.apply knows where
    try:
        with locked_data(Path(settings.storage.data)) as data:
            tally = asyncio.run(_move(source, target, data, settings))
    except (EngineUnavailable, MoveFailed) as error:
        raise CommandError(str(error), EXIT_FAILED) from None
    for name, count in sorted(tally.counts.items()):
        print(f"{count:>9}  {name}")
    print(f"moved; set storage.engine to {target} before the hub is started again")
    return 0


async def _move(source: str, target: str, data: Path, settings: "Settings") -> "Tally":
    from qubix_tui.cli.local_hub import DATABASE
    from qubix_tui.hub.engine.transfer import copy
    from qubix_tui.hub.engine.transfer_sqlite import DatabaseSource, DatabaseTarget

    storage = settings.storage
    redis_client()
    from qubix_tui.hub.engine.redis import PREFIX
    from qubix_tui.hub.engine.redis_transfer import RedisStore

    address = redis_address(target if source == SQLITE else source, storage.engine_password_file)
    path = data / DATABASE
    async with RedisStore(address, prefix=PREFIX, max_age=storage.max_age_seconds) as store:
        if source == SQLITE:
            database = DatabaseSource(path)
            tally = await copy(database, store)
            await database.leave()
        else:
            tally = await copy(store, DatabaseTarget(path))
            await store.leave()
    return tally
