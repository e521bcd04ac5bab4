"""What applies to a hub: a flag before the environment, before ``hub.toml``, before the default.

Also the commands that write, check and show this: `qubix hub config init|check|show`.
"""

import argparse
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from qubix_tui import home
from qubix_tui.cli.common import EXIT_FAILED, CommandError, Parser, RawFormatter

if TYPE_CHECKING:
    from qubix_tui.cli.hub_settings import Settings
    from qubix_tui.cli.hub_toml import Given
    from qubix_tui.hub.config import HubConfig

FILE_NAME = "hub.toml"

FLAGS = {
    "host": "listen.host",
    "port": "listen.port",
    "unix_socket": "listen.unix_socket",
    "insecure": "listen.insecure",
    "tls_cert": "tls.cert",
    "tls_key": "tls.key",
    "allow_origin": "access.allow_origins",
    "public_name": "access.public_names",
    "no_anonymous": "access.anonymous",
    "trusted_proxy": "access.trusted_proxies",
    "data": "storage.data",
    "log_level": "log.level",
    "log_format": "log.format",
    "drain_seconds": "shutdown.drain_seconds",
}
"""Which setting each flag gives, by its name in the parsed arguments. None there: it was not given."""

ENVIRONMENT = {
    "QUBIX_HUB_HOST": "listen.host",
    "QUBIX_HUB_PORT": "listen.port",
    "QUBIX_HUB_UNIX_SOCKET": "listen.unix_socket",
    "QUBIX_HUB_TLS_CERT": "tls.cert",
    "QUBIX_HUB_TLS_KEY": "tls.key",
    "QUBIX_HUB_DATA": "storage.data",
    "QUBIX_HUB_LOG_LEVEL": "log.level",
    "QUBIX_HUB_LOG_FORMAT": "log.format",
}

EXAMPLES = """\
examples:
  qubix hub config init                 a commented hub.toml in QUBIX_HOME, where the hub looks for it
  qubix hub config check /etc/qubix/hub.toml
  qubix hub --config /etc/qubix/hub.toml config show --json
"""


class Applied(msgspec.Struct, frozen=True):
    """What applies to a hub.

    Attributes:
        settings: Every value.
        origins: Where each came from, by key: a flag, a variable, a line, or ``default``.
        file: The file that was read, if any.
    """

    settings: "Settings"
    origins: dict[str, str]
    file: Path | None

    def values(self) -> dict[str, Any]:
        """Give every value by its key, in the order of the file."""
        tables = msgspec.to_builtins(self.settings)
        return {key: tables[key.partition(".")[0]][key.partition(".")[2]] for key in self.origins}


def apply(
    arguments: argparse.Namespace, directory: Path, environment: Mapping[str, str] = os.environ
) -> Applied:
    """Settle every setting of a hub.

    Args:
        arguments: The flags, as `add_parser` of `qubix hub` defines them; None where not given.
        directory: QUBIX_HOME.
        environment: The variables.

    Raises:
        ConfigError: A value can't be used; the message says where it was given.
    """
    from qubix_tui.cli import hub_toml
    from qubix_tui.cli.hub_settings import SETTINGS, Settings

    file = arguments.config or directory / FILE_NAME
    if arguments.config is None and not file.exists():
        file = None
    given = {
        "storage.data": hub_toml.Given(str(directory / "hub"), "default"),
        **(hub_toml.read(file) if file else {}),
        **_from_environment(environment),
        **_from_flags(arguments),
    }
    _check_tls(given)
    tables: dict[str, dict[str, Any]] = {}
    for key, one in given.items():
        table, _, name = key.partition(".")
        tables.setdefault(table, {})[name] = one.value
    origins = {key: given[key].origin if key in given else "default" for key in SETTINGS}
    return Applied(msgspec.convert(tables, Settings), origins, file)


def hub_config(settings: "Settings") -> "HubConfig":
    """Give what of the settings is the hub's own."""
    from qubix_tui.hub.config import HubConfig
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
    )


def add_config_parser(parser: argparse.ArgumentParser) -> None:
    """Add ``config`` below `qubix hub`."""
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    config = commands.add_parser(
        "config",
        help="write, check or show hub.toml",
        description="Write, check or show a hub's settings. A flag goes before the environment, "
        "that before hub.toml, and that before the default.",
        epilog=EXAMPLES,
        formatter_class=RawFormatter,
    )
    actions = config.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser, required=True)
    where = f"(default: {FILE_NAME} in $QUBIX_HOME)"
    init = actions.add_parser("init", help="write a commented file with every default; never overwrites")
    init.add_argument("file", metavar="FILE", type=Path, nargs="?", help=where)
    init.set_defaults(run=run_init)
    check = actions.add_parser("check", help="read a file over: exit code 2 and a sentence if it is wrong")
    check.add_argument("file", metavar="FILE", type=Path, nargs="?", help=where)
    check.set_defaults(run=run_check)
    show = actions.add_parser("show", help="say what applies, and where each value comes from")
    show.add_argument("--config", metavar="FILE", type=Path, default=argparse.SUPPRESS, help=where)
    show.add_argument("--json", action="store_true", help="for scripts")
    show.set_defaults(run=run_show)


def run_init(arguments: argparse.Namespace) -> int:
    """Write a file to begin with."""
    from qubix_tui.cli.hub_toml import template

    path = _chosen_file(arguments)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(template())
    except FileExistsError:
        raise CommandError(f"{path} is there already, and is left as it is", EXIT_FAILED) from None
    except OSError as error:
        raise CommandError(f"can't write {path}: {error.strerror}", EXIT_FAILED) from None
    print(f"wrote {path}; it sets nothing yet: take the # away before what you want to change")
    return 0


def run_check(arguments: argparse.Namespace) -> int:
    """Read a file over."""
    from qubix_tui.cli import hub_toml

    path = _chosen_file(arguments)
    given = hub_toml.read(path)
    _check_tls(given)
    print(f"{path} is good; it sets {len(given)} of {_number_of_settings()} settings")
    return 0


def run_show(arguments: argparse.Namespace) -> int:
    """Say what applies."""
    from qubix_tui.cli.hub_toml import toml_value

    applied = apply(arguments, home.home_dir())
    values = applied.values()
    if arguments.json:
        settings = {key: {"value": value, "origin": applied.origins[key]} for key, value in values.items()}
        file = str(applied.file) if applied.file else None
        print(json.dumps({"file": file, "settings": settings}, indent=2, ensure_ascii=False))
        return 0
    print(f"file: {applied.file or f'none (no --config, and no {FILE_NAME} in QUBIX_HOME)'}")
    lines = [f"{key} = {'—' if value is None else toml_value(value)}" for key, value in values.items()]
    width = max(len(line) for line in lines if len(line) < 60)
    for line, origin in zip(lines, applied.origins.values(), strict=True):
        print(f"{line:{width}}  # {origin}")
    return 0


def _number_of_settings() -> int:
    from qubix_tui.cli.hub_settings import SETTINGS

    return len(SETTINGS)


def _chosen_file(arguments: argparse.Namespace) -> Path:
    chosen: Path = arguments.file or arguments.config or home.home_dir() / FILE_NAME
    return chosen


def _from_environment(environment: Mapping[str, str]) -> "dict[str, Given]":
    found = ((name, key, environment.get(name)) for name, key in ENVIRONMENT.items())
    return _checked(((name, key, text) for name, key, text in found if text), strict=False)


def _from_flags(arguments: argparse.Namespace) -> "dict[str, Given]":
    found = ((name, key, getattr(arguments, name)) for name, key in FLAGS.items())
    return _checked(
        (f"--{name.replace('_', '-')}", key, str(value) if isinstance(value, Path) else value)
        for name, key, value in found
        if value is not None
    )


def _checked(found: Iterable[tuple[str, str, object]], *, strict: bool = True) -> "dict[str, Given]":
    from qubix_tui.cli import hub_toml

    given = {}
    for origin, key, value in found:
        try:
            checked = hub_toml.check(key, value, strict=strict)
        except ValueError as error:
            raise hub_toml.ConfigError(f"{origin}: {error}") from None
        if key in hub_toml.PATH_KEYS:
            checked = str(Path(checked).expanduser().absolute())
        given[key] = hub_toml.Given(checked, origin)
    return given


def _check_tls(given: "Mapping[str, Given]") -> None:
    from qubix_tui.cli.hub_toml import ConfigError

    if "tls.key" in given and "tls.cert" not in given:
        raise ConfigError(
            f"{given['tls.key'].origin}: tls.key is of no use without tls.cert, the certificate"
        )


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
