"""`qubix-agent config`: write, check and show ``agent.toml``."""

import argparse
from typing import TYPE_CHECKING

from qubix_tui import home
from qubix_tui.settings.commands import ConfigCommands

if TYPE_CHECKING:
    from agent.settings import AgentSettings
    from qubix_tui.settings.layers import Applied
    from qubix_tui.settings.schema import Schema

EXAMPLES = """\
examples:
  qubix-agent config init                 a commented agent.toml in QUBIX_HOME, where the agent looks for it
  qubix-agent config check /etc/qubix/agent.toml
  qubix-agent --config /etc/qubix/agent.toml config show --json
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand and its own."""
    ConfigCommands("agent.toml", _schema, _apply).add_parser(subparsers, examples=EXAMPLES)


def _schema() -> "Schema[AgentSettings]":
    from agent.settings import AGENT

    return AGENT


def _apply(arguments: argparse.Namespace) -> "Applied[AgentSettings]":
    from agent import settings

    return settings.apply(arguments, home.home_dir())
