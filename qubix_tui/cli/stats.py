"""`qubix stats`: the hub's connections and subscriptions, and the hubs that share its store."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from qubix_tui.cli.common import RawFormatter, add_hub_options, find_hub
from qubix_tui.cli.reading import get, no_hub
from qubix_tui.cli.watch import printable as escaped
from qubix_tui.protocol.checks import printable

EXAMPLES = """\
examples:
  qubix stats
  qubix stats --json | jq .stats.totalClients
  qubix stats --json | jq -r '.stats.nodes[]?.name'
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "stats",
        help="connections and subscriptions of the hub",
        description="Show how many clients the hub has and what they subscribe to.",
        epilog=EXAMPLES,
        formatter_class=RawFormatter,
    )
    add_hub_options(parser)
    parser.add_argument("--json", action="store_true", help="the hub's own document, for scripts")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Ask once and print."""
    target = find_hub(arguments)
    document = get(target, "/api/websocket/stats")
    if arguments.json:
        on_terminal = sys.stdout.isatty()
        text = json.dumps(document, ensure_ascii=not on_terminal)
        print(escaped(text.encode()).decode() if on_terminal else text)
        return 0
    try:
        stats = document["stats"]
        clients, distinct = stats["totalClients"], stats["totalSubscriptions"]
        lines = [f"{target.url}: clients {clients:d}, distinct subscriptions {distinct:d}"]
        lines += [
            f"{entry['subscriberCount']:>7d}  {printable(entry['subscriptionId'])}"
            for entry in stats["subscriptionDetails"]
        ]
        lines += _hubs(stats.get("nodes", []))
    except (KeyError, TypeError, ValueError):
        raise no_hub(target) from None
    print("\n".join(lines))
    return 0


def _hubs(nodes: Sequence[dict[str, Any]]) -> list[str]:
    """Give a line for each hub on the store; none where it has only one hub, ever."""
    if not nodes:
        return []
    return [
        f"hubs on this store: {len(nodes)}",
        *(
            f"{'>' if node.get('isThis') else ' '} {printable(node['name'])}  "
            f"connections {node['connections']:d}, providers {node['providers']:d}, "
            f"version {printable(node['version'])}, heard {node['ageSeconds']:.1f} s ago"
            for node in nodes
        ),
    ]
