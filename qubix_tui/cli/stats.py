"""`qubix stats`: the hub's connections and subscriptions."""

import argparse
import json
import sys
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import ProxyHandler, Request, build_opener

from qubix_tui.cli.common import (
    EXIT_UNREACHABLE,
    EXIT_USAGE,
    CommandError,
    RawFormatter,
    Target,
    add_hub_options,
    find_hub,
)
from qubix_tui.cli.watch import printable as escaped
from qubix_tui.protocol.checks import printable

EXAMPLES = """\
examples:
  qubix stats
  qubix stats --json | jq .stats.totalClients
"""

TIMEOUT_SECONDS = 10


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
    document = _get(target, "/api/websocket/stats")
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
    except (KeyError, TypeError, ValueError):
        raise _no_hub(target) from None
    print("\n".join(lines))
    return 0


def _get(target: Target, path: str) -> dict[str, Any]:
    from qubix_tui.client import check_url

    try:
        check_url(target.url, token=target.token)
    except ValueError as error:
        raise CommandError(str(error), EXIT_USAGE) from None
    parts = urlsplit(target.url)
    scheme = {"ws": "http", "wss": "https"}[parts.scheme]
    request = Request(urlunsplit((scheme, parts.netloc, path, "", "")))  # noqa: S310 - http or https only
    if target.token is not None:
        request.add_header("Authorization", f"Bearer {target.token}")
    try:
        # Straight to the hub: a proxy that happens to be configured must not see the token.
        with build_opener(ProxyHandler({})).open(request, timeout=TIMEOUT_SECONDS) as response:
            return dict(json.load(response))
    except HTTPError as error:
        said = printable(f"{error.reason}: {_reason(error)}")
        raise CommandError(f"{target.url} answered {error.code} {said}") from None
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        why = getattr(reason, "strerror", None) or reason
        raise CommandError(f"no hub answers at {target.url}: {why}", EXIT_UNREACHABLE) from None
    except (ValueError, TypeError, HTTPException):
        raise _no_hub(target) from None


def _no_hub(target: Target) -> CommandError:
    return CommandError(f"what answers at {target.url} is not a QUBIX hub")


def _reason(error: HTTPError) -> str:
    try:
        return str(json.load(error)["error"])
    except (ValueError, KeyError, TypeError, OSError):
        return "it gave no reason"
