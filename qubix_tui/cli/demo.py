"""`qubix demo`: the embedded hub, an agent for this machine, and the console, with one command."""

import argparse
import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from qubix_tui import home
from qubix_tui.cli.common import CommandError, RawFormatter, Target, add_display_options
from qubix_tui.cli.local_hub import DataLocked, local_access, local_engine, locked_data
from qubix_tui.protocol import DEFAULT_PORT
from qubix_tui.protocol.tokens import Role

if TYPE_CHECKING:
    from qubix_tui.hub.thread import HubThread

EXAMPLES = """\
examples:
  qubix demo            this machine, live
  qubix demo --ascii    the same, on a terminal without glyphs

Leaving the console ends the hub and the agent with it.
"""

PORTS_TRIED = 20
STOP_SECONDS = 1.0
AGENT_STOP_SECONDS = 3.0


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "demo",
        help="this machine, live: hub, agent and console with one command",
        description="Start the embedded hub (unless this machine already runs one), an agent for this "
        "machine, and the console.",
        epilog=EXAMPLES,
        formatter_class=RawFormatter,
    )
    add_display_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the demo until the user leaves the console."""
    from qubix_tui.cli.console import show

    directory = home.home_dir()
    with contextlib.ExitStack() as stack:
        notices: list[str] = []
        url = stack.enter_context(local_hub(directory, notices))
        token = home.ensure_local_token(Role.OPERATOR, home=directory)
        news = stack.enter_context(local_agent(url, directory))
        return show(Target(url, token), arguments, notices=tuple(notices), news=news)


@contextlib.contextmanager
def local_hub(directory: Path, notices: list[str]) -> Iterator[str]:
    """Give the address of this user's hub, started on a thread of this process if none runs.

    Args:
        directory: QUBIX_HOME.
        notices: Gets a sentence where something is not as usual.
    """
    running = home.running_hub(home=directory)
    if running is not None:
        notices.append(f"The hub that already runs at {running} is used.")
        yield running
        return
    with contextlib.ExitStack() as stack:
        hub = _start_hub(directory, notices, stack)
        home.write_hub_record(hub.url, home=directory)
        try:
            yield hub.url
        finally:
            home.remove_hub_record(home=directory)
            hub.stop(STOP_SECONDS)


def _start_hub(directory: Path, notices: list[str], stack: contextlib.ExitStack) -> "HubThread":
    """Start the hub on the usual port or the next free one; another port has a data directory of its own."""
    from qubix_tui.hub.config import HubConfig
    from qubix_tui.hub.engine.base import EngineUnavailable
    from qubix_tui.hub.thread import HubThread

    for port in range(DEFAULT_PORT, DEFAULT_PORT + PORTS_TRIED):
        data = directory / ("hub" if port == DEFAULT_PORT else f"hub-{port}")
        config = HubConfig(host="127.0.0.1", port=port)
        with contextlib.ExitStack() as attempt:
            try:
                attempt.enter_context(locked_data(data))
                hub = HubThread(config, access=local_access(config, directory), engine=local_engine(data))
                hub.start()
            except DataLocked:
                continue
            except EngineUnavailable as error:
                raise CommandError(str(error)) from None
            except OSError as error:
                if error.errno not in {errno.EADDRINUSE, errno.EACCES}:
                    raise CommandError(f"can't start the hub: {error.strerror or error}") from None
                continue
            stack.push(attempt.pop_all())
        if port != DEFAULT_PORT:
            notices.append(f"Port {DEFAULT_PORT} is taken: the hub is at {hub.url}.")
        return hub
    last = DEFAULT_PORT + PORTS_TRIED - 1
    raise CommandError(
        f"ports {DEFAULT_PORT} to {last} are all taken; "
        "start a hub yourself with qubix hub --port 0, then qubix --hub URL"
    )


@contextlib.contextmanager
def local_agent(url: str, directory: Path) -> Iterator[Callable[[], str | None]]:
    """Run an agent for this machine, as a process of its own, for as long as the block runs.

    It holds the reading end of a pipe whose writing end only this process has: however this process ends,
    SIGKILL included, the pipe closes and the agent goes.

    Gives what tells, once, that the agent ended by itself, and why.
    """
    home.ensure_local_token(Role.PROVIDER, home=directory)
    log = home.private_dir(directory / "agent") / "agent.log"
    reading, writing = os.pipe()
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, writing)
        try:
            output = stack.enter_context(log.open("wb"))
            agent = subprocess.Popen(
                [
                    *(sys.executable, "-m", "agent", "--hub", url, "--lifeline", str(reading)),
                    *("--token-file", str(directory / "tokens" / Role.PROVIDER.value)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(reading,),
                # Out of the terminal's process group: Ctrl-C is the console's key, and it ends the agent.
                start_new_session=True,
            )
        except OSError as error:
            raise CommandError(f"can't start the agent: {error.strerror}") from None
        finally:
            os.close(reading)
        try:
            yield _Obituary(agent, log)
        finally:
            agent.terminate()
            try:
                agent.wait(AGENT_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                agent.kill()
                agent.wait()


class _Obituary:
    """Tells once that the agent ended by itself, with the last that it said."""

    def __init__(self, agent: "subprocess.Popen[bytes]", log: Path) -> None:
        self._agent = agent
        self._log = log
        self._told = False

    def __call__(self) -> str | None:
        if self._told or self._agent.poll() is None:
            return None
        self._told = True
        said = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        why = said[-1].removeprefix("qubix-agent: ") if said else f"exit code {self._agent.returncode}"
        return f"The agent of this machine ended: {why}"
