"""`qubix jobs`, `qubix cancel` and `qubix why`: what jobs there are, and how they do."""

import argparse
import asyncio
import json
import sys

from qubix_tui.cli.asking import ask
from qubix_tui.cli.common import Parser, RawFormatter, Target, add_hub_options, find_hub
from qubix_tui.cli.job_text import LogPrinter, harmless, job_lines, money, percent
from qubix_tui.cli.reading import get_record
from qubix_tui.cli.submit import an_id, run_to_the_end, whole
from qubix_tui.cli.table import print_table
from qubix_tui.cli.watch import printable as escaped
from qubix_tui.protocol.answers import Match
from qubix_tui.protocol.checks import printable
from qubix_tui.protocol.codec import encode_record
from qubix_tui.protocol.job_records import Job, JobState, Receipt
from qubix_tui.protocol.requests import JobRef
from qubix_tui.protocol.types import Count, Wire

EXAMPLES = """\
examples:
  qubix jobs
  qubix jobs --state running --json | jq -r '.jobs[].id'
  qubix jobs show JOB            its attempts, what each cost, and its result
  qubix jobs logs JOB --follow   what it prints, until it is over (exit codes as of qubix submit --follow)

Cancel one with qubix cancel JOB; ask why one waits with qubix why JOB.
"""

CANCEL_EXAMPLES = """\
examples:
  qubix cancel JOB --wait

exit codes: 0 wanted (with --wait: cancelled) · 1 refused, or it ended otherwise before · 2 wrong usage ·
3 no hub answers · 130 Ctrl-C
"""

PER_PAGE = 500


class JobsPage(Wire, frozen=True, kw_only=True):
    """What `/api/jobs` answers."""

    jobs: list[Job]
    pages: Count
    total: Count


class JobDocument(Wire, frozen=True, kw_only=True):
    """What `/api/jobs/<id>` answers."""

    job: Job
    receipts: list[Receipt]

    def print_json(self) -> None:
        """Print it as one document."""
        print_json({"job": self.job, "receipts": self.receipts})

    def print_end(self) -> None:
        """Say how the job ended, and print its result."""
        job = self.job
        reason = f": {job.reason}" if job.reason else ""
        words = f"{job.id} is {job.state.value}{reason}; it cost {money(job.cost_micros)}"
        print(printable(words, 2_000), file=sys.stderr)
        _print_result(job)


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommands."""
    parser = subparsers.add_parser(
        "jobs",
        help="list jobs, show one, read its log",
        description="List the jobs, the newest first.",
        epilog=EXAMPLES,
        formatter_class=RawFormatter,
    )
    parser.add_argument("--state", choices=[state.value for state in JobState], help="only those in it")
    parser.add_argument("--limit", metavar="N", type=whole, default=100, help="so many (default: 100)")
    parser.set_defaults(run=run_list)
    actions = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    show = actions.add_parser("show", help="all about one", description="Show one job, and its receipts.")
    show.set_defaults(run=run_show)
    logs = actions.add_parser("logs", help="what it printed", description="Print what a job printed.")
    logs.add_argument("--follow", action="store_true", help="and what it prints, until it is over")
    logs.set_defaults(run=run_logs)
    cancel = subparsers.add_parser(
        "cancel",
        help="end a job",
        description="Cancel a job. One that runs is asked to end, and killed when it does not.",
        epilog=CANCEL_EXAMPLES,
        formatter_class=RawFormatter,
    )
    cancel.add_argument("--wait", action="store_true", help="wait until it is gone")
    cancel.set_defaults(run=run_cancel)
    why = subparsers.add_parser(
        "why",
        help="why a job waits",
        description="Tell why a job waits: for each rule how many providers meet it, and the nearest miss.",
    )
    why.set_defaults(run=run_why)
    for one in (show, logs, cancel, why):
        one.add_argument("job_id", metavar="JOB", type=an_id, help="as qubix jobs lists it")
    for one in (parser, show, cancel, why):
        one.add_argument("--json", action="store_true", help="one document, for scripts")
    for one in (parser, show, logs, cancel, why):
        add_hub_options(one)


def run_list(arguments: argparse.Namespace) -> int:
    """List the jobs."""
    jobs, total = _read_jobs(find_hub(arguments), arguments.state, arguments.limit)
    if arguments.json:
        print_json({"jobs": jobs, "total": total})
        return 0
    if not jobs:
        print("No jobs. Submit one: qubix submit WORKLOAD", file=sys.stderr)
        return 0
    print_table(
        ("ID", "STATE", "DONE", "WORKLOAD", "PROVIDER", "SUBMITTED", "COST", "REASON"),
        [_row(job) for job in jobs],
    )
    if total > len(jobs):
        print(f"{total - len(jobs)} more; --limit shows more of them", file=sys.stderr)
    return 0


def _read_jobs(target: Target, state: str | None, limit: int) -> tuple[list[Job], int]:
    jobs: list[Job] = []
    page, pages, total = 1, 1, 0
    wanted = f"&state={state}" if state else ""
    per_page = max(1, min(limit, PER_PAGE))
    while page <= pages and len(jobs) < limit:
        part = get_record(target, f"/api/jobs?perPage={per_page}&page={page}{wanted}", JobsPage)
        jobs += part.jobs
        page, pages, total = page + 1, part.pages, part.total
    return jobs[:limit], total


def _row(job: Job) -> tuple[str, ...]:
    return (
        job.id,
        job.state.value,
        percent(job.progress),
        job.workload,
        job.provider_id or "—",
        # To the minute, in UTC: seconds would push the rest off an ordinary terminal.
        job.created_at[:16].replace("T", " "),
        money(job.cost_micros),
        printable(job.reason or "", 60),
    )


def run_show(arguments: argparse.Namespace) -> int:
    """Show one job."""
    document = read_job(find_hub(arguments), arguments.job_id)
    if arguments.json:
        document.print_json()
        return 0
    print("\n".join(job_lines(document.job, document.receipts)))
    if document.job.result is not None:
        print("\nresult")
        _print_result(document.job)
    return 0


def run_logs(arguments: argparse.Namespace) -> int:
    """Print a job's log."""
    target = find_hub(arguments)
    if arguments.follow:
        return run_to_the_end(target, arguments.job_id, follow=True)
    from qubix_tui.cli.job_follow import read_log

    printer = LogPrinter(sys.stdout, sys.stderr)
    for piece in read_log(target, arguments.job_id):
        printer.show(piece)
    return 0


def run_cancel(arguments: argparse.Namespace) -> int:
    """Cancel a job."""
    target = find_hub(arguments)
    asyncio.run(ask(target, "job:cancel", JobRef(job_id=arguments.job_id)))
    if arguments.wait:
        return run_to_the_end(target, arguments.job_id, as_json=arguments.json, wanted=JobState.CANCELLED)
    if arguments.json:
        print(json.dumps({"jobId": arguments.job_id, "cancelRequested": True}))
    else:
        print(f"{arguments.job_id} is to end; qubix jobs show {arguments.job_id} tells when it has")
    return 0


def run_why(arguments: argparse.Namespace) -> int:
    """Tell why a job waits."""
    match: Match = asyncio.run(ask(find_hub(arguments), "job:why", JobRef(job_id=arguments.job_id)))
    if arguments.json:
        print_json(match)
        return 0
    looked_at = "1 provider" if match.providers == 1 else f"{match.providers} providers"
    print(f"{match.job_id} waits; of {looked_at} so many meet each rule:")
    print_table(
        ("RULE", "MEET IT", "NEAREST MISS"),
        [(rule.rule, str(rule.passing), printable(rule.nearest or "", 1_024)) for rule in match.rules],
    )
    return 0


def read_job(target: Target, job_id: str) -> JobDocument:
    """Give a job's record and receipts.

    Raises:
        CommandError: There is no such job, or no hub.
    """
    return get_record(target, f"/api/jobs/{job_id}", JobDocument)


def _print_result(job: Job) -> None:
    if job.result is not None:
        text = json.dumps(job.result, ensure_ascii=False, indent=2)
        print(harmless(text) if sys.stdout.isatty() else text, flush=True)


def print_json(document: object) -> None:
    """Print one document for scripts, harmless on a terminal."""
    text = encode_record(document)
    print((escaped(text) if sys.stdout.isatty() else text).decode())
