"""`qubix submit`: give the marketplace a job."""

import argparse
import asyncio
import json
import math
import sys
from typing import Any

from qubix_tui.cli.asking import ask
from qubix_tui.cli.common import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    CommandError,
    RawFormatter,
    Target,
    add_hub_options,
    find_hub,
)
from qubix_tui.protocol import channels
from qubix_tui.protocol.events import Submitted
from qubix_tui.protocol.job_records import JobState, Requirements
from qubix_tui.protocol.requests import SubmitJob

EXAMPLES = """\
examples:
  qubix submit benchmark --follow
  qubix submit train --param epochs=5 --param model=resnet50 --gpu-model 4090 --max-price 0.50
  qubix submit train --provider rig-7-3f9a1c --retries 2 --timeout 3600 --wait
  qubix submit nightly --key nightly-2026-01-31     the same key twice is one job

A parameter that reads as a JSON number, true or false is one; in quotes it stays a text: --param 'n="5"'.

exit codes: 0 submitted (with --wait or --follow: completed) · 1 refused, or the job failed or was cancelled ·
2 wrong usage · 3 no hub answers · 130 Ctrl-C, which leaves the job running
"""

SIMULATED_PREFIX = "sim-"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "submit",
        help="give the marketplace a job",
        description="Submit a job: the name of a workload that providers offer, and its parameters. "
        "Prints the job's id.",
        epilog=EXAMPLES,
        formatter_class=RawFormatter,
    )
    parser.add_argument("workload", metavar="WORKLOAD", type=an_id, help="what to run")
    parser.add_argument(
        "--param", metavar="NAME=VALUE", action="append", type=parameter, default=[], help="(repeat for more)"
    )
    parser.add_argument("--gpu-model", metavar="TEXT", help="only on a GPU whose model has this in its name")
    parser.add_argument("--min-gpu-mem", metavar="MIB", type=whole, help="only on a GPU with so much memory")
    parser.add_argument("--max-price", metavar="PRICE", type=amount, help="at most so much an hour")
    parser.add_argument("--provider", metavar="ID", type=an_id, help="on this provider and no other")
    parser.add_argument("--timeout", metavar="SECONDS", type=amount, help="how long it may run")
    parser.add_argument("--retries", metavar="N", type=whole, default=0, help="attempts after a failed one")
    parser.add_argument("--key", metavar="TEXT", help="submit it once, however often this is run")
    until = parser.add_mutually_exclusive_group()
    until.add_argument("--wait", action="store_true", help="wait until it is over")
    until.add_argument("--follow", action="store_true", help="show its progress and what it prints, too")
    parser.add_argument(
        "--json",
        action="store_true",
        help="one document and nothing else: the job's id, or its record once it is over",
    )
    add_hub_options(parser)
    parser.set_defaults(run=run)


def an_id(text: str) -> str:
    """Read an id.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    if not channels.is_id(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no id: 1 to 64 of A-Z a-z 0-9 . _ -")
    return text


def parameter(text: str) -> tuple[str, Any]:
    """Read ``NAME=VALUE``.

    Raises:
        argparse.ArgumentTypeError: It has another form.
    """
    name, sign, value = text.partition("=")
    if not sign or not channels.is_id(name):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, not {text!r}")
    try:
        read = json.loads(value)
    except ValueError:
        return name, value
    is_value = isinstance(read, bool | str | int) or (isinstance(read, float) and math.isfinite(read))
    return name, read if is_value else value


def whole(text: str) -> int:
    """Read a whole number.

    Raises:
        argparse.ArgumentTypeError: It is none, or negative.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise argparse.ArgumentTypeError(f"expected a whole number, not {text!r}")
    return int(text)


def amount(text: str) -> float:
    """Read a number.

    Raises:
        argparse.ArgumentTypeError: It is none, or negative.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"expected a number that is not negative, not {text!r}")
    return value


def run(arguments: argparse.Namespace) -> int:
    """Submit, and wait for the end where that is wanted."""
    target = find_hub(arguments)
    submitted: Submitted = asyncio.run(ask(target, "job:submit", _request(arguments)))
    job_id = submitted.job_id
    if submitted.offered is False and not arguments.json:
        print(
            f"qubix: nobody offers {arguments.workload} now, so {job_id} waits until somebody does; "
            f"qubix why {job_id} says more",
            file=sys.stderr,
        )
    if not (arguments.wait or arguments.follow):
        print(json.dumps({"jobId": job_id}) if arguments.json else job_id)
        return 0
    if not arguments.json:
        print(job_id, file=sys.stderr if arguments.follow else sys.stdout, flush=True)
    return run_to_the_end(target, job_id, follow=arguments.follow, as_json=arguments.json)


def _request(arguments: argparse.Namespace) -> SubmitJob:
    provider: str | None = arguments.provider
    return SubmitJob(
        workload=arguments.workload,
        params=dict(arguments.param),
        requires=Requirements(
            gpu_model=arguments.gpu_model,
            min_gpu_mem_mb=arguments.min_gpu_mem,
            max_price_per_hour=arguments.max_price,
            provider_id=provider,
            simulated=provider is not None and provider.startswith(SIMULATED_PREFIX),
        ),
        timeout_seconds=arguments.timeout,
        retries=arguments.retries,
        idempotency_key=arguments.key,
    )


def run_to_the_end(
    target: Target,
    job_id: str,
    *,
    follow: bool = False,
    as_json: bool = False,
    wanted: JobState = JobState.COMPLETED,
) -> int:
    """Wait until a job is over, and say how it ended.

    Args:
        target: Its hub.
        job_id: Which.
        follow: Show its progress and what it prints.
        as_json: Print its record.
        wanted: The state that gives the exit code 0.

    Returns:
        The exit code.

    Raises:
        CommandError: There is no such job, or its hub was given up.
    """
    from qubix_tui.cli.jobs import read_job

    try:
        state = asyncio.run(_follow(target, job_id, follow=follow, quiet=as_json))
    except KeyboardInterrupt:
        print(
            f"\n{job_id} goes on; qubix jobs logs {job_id} --follow shows it again, "
            f"qubix cancel {job_id} ends it",
            file=sys.stderr,
        )
        return EXIT_INTERRUPTED
    document = read_job(target, job_id)
    if as_json:
        document.print_json()
    else:
        document.print_end()
    return 0 if state is wanted else EXIT_FAILED


async def _follow(target: Target, job_id: str, *, follow: bool, quiet: bool) -> JobState:
    from qubix_tui.cli.dial import dialled
    from qubix_tui.cli.job_follow import Follower
    from qubix_tui.client import ClientError

    async with dialled(target) as connection:
        follower = Follower(
            job_id, log_from=target if follow and not quiet else None, quiet=quiet or not follow
        )
        try:
            return await follower.follow(connection)
        except ClientError as error:
            raise CommandError(f"the hub at {target.url}: {error}") from None
