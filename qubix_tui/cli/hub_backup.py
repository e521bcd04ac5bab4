"""`qubix hub backup`: a copy of a hub's database, while it runs or not."""

import argparse
from pathlib import Path
from typing import Any

from qubix_tui import home
from qubix_tui.cli import hub_config
from qubix_tui.cli.common import EXIT_FAILED, CommandError, RawFormatter
from qubix_tui.cli.hub_engine import SQLITE

EXAMPLES = """\
examples:
  qubix hub backup /backup/hub-monday.sqlite3
  qubix hub --data /var/lib/qubix/hub backup /backup/hub.sqlite3

It runs beside the hub, as a user who may read its data. To restore one, see docs/operating.md.
"""


def add_backup_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add ``backup`` below `qubix hub`."""
    backup = commands.add_parser(
        "backup",
        help="copy its database while it runs",
        description="Copy a hub's database into one file, whole, while the hub goes on. Never overwrites.",
        epilog=EXAMPLES,
        formatter_class=RawFormatter,
    )
    backup.add_argument("file", metavar="FILE", type=Path, help="the copy; a file that is not there yet")
    backup.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Make the copy."""
    from qubix_tui.cli.local_hub import DATABASE
    from qubix_tui.hub.engine.backup import BackupFailed, back_up

    storage = hub_config.apply(arguments, home.home_dir()).settings.storage
    if storage.engine != SQLITE:
        raise CommandError(
            "this hub's state is in a Redis, which is backed up as any other: see docs/scaling.md",
            EXIT_FAILED,
        )
    assert storage.data is not None  # hub_config.apply knows where
    try:
        size = back_up(Path(storage.data) / DATABASE, arguments.file)
    except BackupFailed as error:
        raise CommandError(str(error)) from None
    print(f"{arguments.file}: {size} bytes")
    return 0
