"""What applies to a hub: a flag before the environment, before ``hub.toml``, before the default.

Also the commands that write, check and show this: `qubix hub config init|check|show`.
"""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from qubix_tui import home
from qubix_tui.settings.commands import ConfigCommands

if TYPE_CHECKING:
    from qubix_tui.cli.hub_settings import Settings
    from qubix_tui.hub.config import HubConfig
    from qubix_tui.settings.layers import Applied
    from qubix_tui.settings.schema import Schema

FILE_NAME = "hub.toml"

EXAMPLES = """\
examples:
  qubix hub config init                 a commented hub.toml in QUBIX_HOME, where the hub looks for it
  qubix hub config check /etc/qubix/hub.toml
  qubix hub --config /etc/qubix/hub.toml config show --json
"""


def apply(
    arguments: argparse.Namespace, directory: Path, environment: Mapping[str, str] = os.environ
) -> "Applied[Settings]":
    """Settle every setting of a hub.

    Args:
        arguments: The flags, as `add_parser` of `qubix hub` defines them; None where not given.
        directory: QUBIX_HOME.
        environment: The variables.

    Raises:
        SettingsError: A value can't be used; the message says where it was given.
    """
    from qubix_tui.cli.hub_settings import HUB
    from qubix_tui.settings import layers

    defaults = {"storage.data": str(directory / "hub")}
    return layers.apply(HUB, arguments, directory, environment=environment, defaults=defaults)


def hub_config(settings: "Settings") -> "HubConfig":
    """Give what of the settings is the hub's own."""
    from qubix_tui.hub.config import HubConfig
    from qubix_tui.hub.job_state import JobSettings
    from qubix_tui.hub.limits import Limits

    listen, tls, access = settings.listen, settings.tls, settings.access
    limits = msgspec.structs.asdict(settings.limits)
    return HubConfig(
        host=listen.host,
        port=listen.port,
        unix_socket=_path(listen.unix_socket),
        insecure=listen.insecure,
        tls_cert=_path(tls.cert),
        tls_key=_path(tls.key),
        allow_origins=access.allow_origins,
        public_names=access.public_names,
        anonymous=access.anonymous,
        trusted_proxies=access.trusted_proxies,
        outbox_bytes=limits.pop("outbox_bytes"),
        limits=Limits(**limits),
        drain_seconds=settings.shutdown.drain_seconds,
        jobs=JobSettings(**msgspec.structs.asdict(settings.jobs)),
    )


def add_config_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add ``config`` below `qubix hub`."""
    ConfigCommands(FILE_NAME, _schema, lambda arguments: apply(arguments, home.home_dir())).add_parser(
        commands, examples=EXAMPLES
    )


def _schema() -> "Schema[Settings]":
    from qubix_tui.cli.hub_settings import HUB

    return HUB


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
