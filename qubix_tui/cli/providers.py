"""`qubix providers`: who is there, and how each one does."""

import argparse
import asyncio
import contextlib
import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

from qubix_tui.cli import provider_show
from qubix_tui.cli.common import (
    CommandError,
    Parser,
    RawFormatter,
    Target,
    add_hub_options,
    find_hub,
)
from qubix_tui.protocol import channels
from qubix_tui.protocol.codec import encode_record
from qubix_tui.protocol.events import MARKETPLACE_UPDATE, Event
from qubix_tui.protocol.marketplace import FleetDigest, FleetSnapshot
from qubix_tui.protocol.records import Headline, Provider
from qubix_tui.protocol.types import from_timestamp

if TYPE_CHECKING:
    from qubix_tui.client import Connection

EXAMPLES = """\
examples:
  qubix providers
  qubix providers --json | jq -r '.providers[] | select(.isOnline) | .id'
  qubix providers show PROVIDER      all about one: its GPUs, newest metrics, last benchmark
"""

SNAPSHOT_SECONDS = 30.0
METRICS_SECONDS = 1.5
"""How long to wait for the newest sample of every provider that is online."""


class _Fleet:
    """One snapshot of the fleet, as it comes in."""

    def __init__(self) -> None:
        self.providers: dict[str, Provider] = {}
        self.headlines: dict[str, Headline] = {}
        self.whole = asyncio.Event()
        self.measured = asyncio.Event()

    def take(self, event: Event) -> None:
        match event.data:
            case FleetSnapshot(providers=providers, page=page, pages=pages):
                self.providers.update((provider.id, provider) for provider in providers)
                if page >= pages:
                    self.whole.set()
            case FleetDigest(providers=headlines):
                self.headlines.update((headline.provider_id, headline) for headline in headlines)
        online = {provider.id for provider in self.providers.values() if provider.is_online}
        if self.whole.is_set() and online <= self.headlines.keys():
            self.measured.set()


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "providers",
        help="list the providers and their newest metrics",
        description="List the providers and their newest metrics, once.",
        epilog=EXAMPLES,
        formatter_class=RawFormatter,
    )
    add_hub_options(parser)
    parser.add_argument(
        "--json", action="store_true", help="one document: the records, each with its newest metrics or null"
    )
    parser.set_defaults(run=run)
    actions = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    provider_show.add_parser(actions)


def run(arguments: argparse.Namespace) -> int:
    """Take one snapshot and print it."""
    target = find_hub(arguments)
    fleet, now = asyncio.run(_snapshot(target))
    if arguments.json:
        document = [_as_document(fleet, provider) for provider in fleet.providers.values()]
        print(json.dumps({"providers": document}, ensure_ascii=not sys.stdout.isatty()))
    elif not fleet.providers:
        print(f"No providers yet. On a machine with a GPU: qubix-agent --hub {target.url}", file=sys.stderr)
    else:
        _print_table(fleet, now)
    return 0


async def _snapshot(target: Target) -> tuple[_Fleet, float]:
    """Give the fleet as it is, and the hub's time."""
    from qubix_tui.cli.dial import dialled

    async with dialled(target) as connection:
        return await _collect(connection)


async def _collect(connection: "Connection") -> tuple[_Fleet, float]:
    fleet = _Fleet()
    connection.on(MARKETPLACE_UPDATE, fleet.take)
    connection.subscribe(channels.MARKETPLACE, snapshot=True, digest=0.5)
    try:
        await asyncio.wait_for(fleet.whole.wait(), SNAPSHOT_SECONDS)
    except TimeoutError:
        raise CommandError(f"the hub sent no whole list within {SNAPSHOT_SECONDS:g} s") from None
    # The values of a provider that has sent nothing yet stay unknown.
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(fleet.measured.wait(), METRICS_SECONDS)
    return fleet, connection.hub_time()


def _as_document(fleet: _Fleet, provider: Provider) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(encode_record(provider))
    headline = fleet.headlines.get(provider.id)
    document["metrics"] = None if headline is None else json.loads(encode_record(headline))
    return document


_HEAD = ("ID", "NAME", "STATE", "GPUS", "USE", "TEMP", "CPU", "RAM", "/H", "AGE")
_RIGHT = frozenset({"USE", "TEMP", "CPU", "RAM", "/H", "AGE"})


def _print_table(fleet: _Fleet, now: float) -> None:
    rows = [_row(fleet, provider, now) for provider in sorted(fleet.providers.values(), key=_by_name)]
    widths = [max(len(row[column]) for row in [_HEAD, *rows]) for column in range(len(_HEAD))]
    limit = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for row in [_HEAD, *rows]:
        cells = (
            cell.rjust(width) if head in _RIGHT else cell.ljust(width)
            for cell, width, head in zip(row, widths, _HEAD, strict=True)
        )
        print("  ".join(cells).rstrip()[:limit])


def _by_name(provider: Provider) -> tuple[str, str]:
    return provider.name or provider.id, provider.id


def _row(fleet: _Fleet, provider: Provider, now: float) -> tuple[str, ...]:
    headline = fleet.headlines.get(provider.id)
    known = f"{provider.gpu_count}× {provider.gpu_model or '—'}"
    gpus = {None: "—", 0: "none"}.get(provider.gpu_count, known)
    mark = " SIM" if provider.simulated else ""
    if headline is None:
        metrics = ("—",) * 4
        age = "—"
    else:
        metrics = (
            _number(headline.gpu_percent, "%"),
            _number(headline.gpu_temp, "°"),
            _number(headline.cpu_percent, "%"),
            _number(headline.ram_percent, "%"),
        )
        age = f"{max(0.0, now - from_timestamp(headline.timestamp)):.1f}s"
    return (
        provider.id,
        f"{provider.name or '—'}{mark}",
        provider.state.value,
        gpus,
        *metrics,
        "—" if provider.price_per_hour is None else f"{provider.price_per_hour:.2f}",
        age,
    )


def _number(value: float | None, unit: str) -> str:
    return "—" if value is None else f"{value:.0f}{unit}"
