"""`qubix token`: who may use a hub. Works on a running hub, with an operator's token."""

import argparse
import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from qubix_tui.cli.asking import ask, ask_pages
from qubix_tui.cli.common import EXIT_USAGE, CommandError, Parser, RawFormatter, add_hub_options, find_hub
from qubix_tui.cli.table import print_table
from qubix_tui.protocol import events
from qubix_tui.protocol.answers import AuditEntry, Issued, TokenRecord
from qubix_tui.protocol.codec import encode_record
from qubix_tui.protocol.requests import AuditRequest, IssueToken, TokenRef
from qubix_tui.protocol.tokens import hash_token

EXAMPLES = """\
examples:
  qubix token issue --role viewer --name wall --out wall.token
  qubix token list
  qubix token revoke 3f9a1c07b2d4
  qubix token audit --json | jq -r '.entries[] | select(.action == "login_refused") | .address'

A token is shown once, when it is made; the hub keeps its hash. A revoked one is refused at once, and its
connections are closed. The hub's own local tokens are files in its QUBIX_HOME: delete the file and restart
the hub to be rid of one.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand and its own."""
    parser = subparsers.add_parser(
        "token",
        help="make, list and revoke tokens",
        description="Make, list and revoke the tokens of a running hub.",
        epilog=EXAMPLES,
        formatter_class=RawFormatter,
    )
    actions = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser, required=True)
    issue = actions.add_parser("issue", help="make a token", description="Make a token and show it, once.")
    issue.add_argument(
        "--role", required=True, choices=("viewer", "operator", "provider"), help="what it may do"
    )
    issue.add_argument("--name", required=True, help="what it is for, in your words")
    issue.add_argument("--out", metavar="FILE", type=Path, help="write it there (0600; never over a file)")
    issue.set_defaults(run=run_issue)
    listing = actions.add_parser(
        "list", help="list the tokens", description="List what is known of the tokens."
    )
    listing.set_defaults(run=run_list)
    revoke = actions.add_parser(
        "revoke",
        help="revoke a token",
        description="Revoke a token; its connections are closed within a second.",
    )
    revoke.add_argument("token_id", metavar="ID", help="as qubix token list shows it")
    revoke.set_defaults(run=run_revoke)
    audit = actions.add_parser(
        "audit",
        help="what was done with tokens",
        description="Show what was done, or refused, the newest first.",
    )
    audit.add_argument(
        "--limit", metavar="N", type=_count, default=100, help="so many at most (default: 100)"
    )
    audit.set_defaults(run=run_audit)
    for action in (issue, listing, revoke, audit):
        add_hub_options(action)
        action.add_argument("--json", action="store_true", help="one document, for scripts")


def run_issue(arguments: argparse.Namespace) -> int:
    """Make a token."""
    target = find_hub(arguments)
    with _new_file(arguments.out) as file:
        wanted = IssueToken(role=arguments.role, name=arguments.name)
        issued: Issued = asyncio.run(ask(target, "token:issue", wanted))
        if file is not None:
            file.write(f"{issued.token}\n")
    if arguments.json:
        kept = {"token": issued.token} if file is None else {"file": str(arguments.out)}
        print(
            json.dumps({"tokenId": issued.token_id, "role": arguments.role, "name": arguments.name, **kept})
        )
        return 0
    if file is None:
        print(issued.token)
        print(
            f"This is {issued.token_id}; it is shown this once. Show it with --token-file.", file=sys.stderr
        )
    else:
        print(f"{issued.token_id} is in {arguments.out}")
    return 0


def run_list(arguments: argparse.Namespace) -> int:
    """List the tokens."""
    pages = asyncio.run(ask_pages(find_hub(arguments), "token:list", events.TOKENS))
    records: list[TokenRecord] = [record for page in pages for record in page.tokens]
    if arguments.json:
        print(json.dumps({"tokens": [json.loads(encode_record(record)) for record in records]}))
        return 0
    print_table(
        ("ID", "ROLE", "NAME", "CREATED", "BY", "PROVIDER", "OPEN", "STATE"), list(map(_row, records))
    )
    return 0


def run_revoke(arguments: argparse.Namespace) -> int:
    """Revoke a token."""
    target = find_hub(arguments)
    asyncio.run(ask(target, "token:revoke", TokenRef(token_id=arguments.token_id)))
    own = target.token is not None and hash_token(target.token).startswith(arguments.token_id)
    if arguments.json:
        print(json.dumps({"tokenId": arguments.token_id, "revoked": True, "own": own}))
    else:
        print(f"{arguments.token_id} is revoked")
    if own:
        print("That was the token this command showed: it can't be used here any more.", file=sys.stderr)
    return 0


def run_audit(arguments: argparse.Namespace) -> int:
    """Show the audit."""
    wanted = AuditRequest(limit=arguments.limit)
    pages = asyncio.run(ask_pages(find_hub(arguments), "audit:list", events.AUDIT, wanted))
    entries: list[AuditEntry] = [entry for page in pages for entry in page.entries]
    if arguments.json:
        print(json.dumps({"entries": [json.loads(encode_record(entry)) for entry in entries]}))
        return 0
    print_table(
        ("AT", "ACTION", "WHO", "FROM", "WHAT", "DETAIL"),
        [
            (e.at, e.action, e.who or e.token_id or "—", e.address or "—", e.subject or "—", e.detail or "")
            for e in entries
        ],
    )
    return 0


@contextlib.contextmanager
def _new_file(path: Path | None) -> Iterator[IO[str] | None]:
    """Make a file for a token before it is asked for; it is gone again where none came."""
    if path is None:
        yield None
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise CommandError(f"{path} exists, and is not written over; give another name", EXIT_USAGE) from None
    except OSError as error:
        raise CommandError(f"can't make {path}: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            yield file
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _row(record: TokenRecord) -> tuple[str, ...]:
    state = "local" if record.local else "good"
    return (
        record.token_id,
        record.role.value,
        record.name or "—",
        record.created_at or "—",
        record.created_by or "—",
        record.provider_id or "—",
        str(record.connections),
        f"revoked {record.revoked_at}" if record.revoked_at else state,
    )


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 1000000")
    return int(text)
