"""`qubix` without a subcommand: the console."""

import argparse
import asyncio
import gc
from collections.abc import Callable

from qubix_tui import home
from qubix_tui.cli.common import (
    DEFAULT_URL,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
    CommandError,
    Target,
    asked_url,
    find_hub,
    given_token,
)
from qubix_tui.protocol.tokens import Role

COLLECTED_AFTER = 50_000
"""Objects made, less those that went, after which the garbage collector looks for cycles."""

PROBE_SECONDS = 1.0
"""How long a hub on this machine may take to answer before one is started."""


def run(arguments: argparse.Namespace) -> int:
    """Open the console on the hub that is asked for or found; start one with an agent if there is none."""
    if asked_url(arguments) is not None:
        return show(find_hub(arguments), arguments)
    directory = home.home_dir()
    local = home.running_hub(home=directory) or DEFAULT_URL
    url, token = home.credentials_for(local, Role.OPERATOR, home=directory)
    target = Target(url, given_token(arguments) or token)
    if asyncio.run(answers(target)):
        return show(target, arguments)

    from qubix_tui.cli import demo

    return demo.run(arguments)


async def answers(target: Target) -> bool:
    """Whether a hub answers there."""
    from qubix_tui.cli.dial import dialled

    try:
        async with dialled(target, patience=PROBE_SECONDS):
            return True
    except CommandError as error:
        return error.code != EXIT_UNREACHABLE


def show(
    target: Target,
    arguments: argparse.Namespace,
    *,
    notices: tuple[str, ...] = (),
    news: Callable[[], str | None] | None = None,
) -> int:
    """Run the console until the user leaves it.

    Args:
        target: The hub to show.
        arguments: What `add_display_options` defines.
        notices: Sentences to put on the screen first.
        news: Asked each second for another one.

    Returns:
        The exit code.
    """
    from qubix_tui.client import BadUrl, check_url
    from qubix_tui.console.app import QubixApp
    from qubix_tui.console.options import Options

    try:
        check_url(target.url, token=target.token)
    except BadUrl as error:
        raise CommandError(str(error), EXIT_USAGE) from None
    options = Options(
        ascii_only=arguments.ascii,
        read_only=arguments.read_only,
        frames_per_second=arguments.fps,
        mouse=not arguments.no_mouse,
        directory=home.private_dir(home.home_dir() / "console"),
    )
    app = QubixApp(target.url, target.token, options=options, notices=notices, news=news)
    # The collector stops the painting. What is there by now stays, and a fleet's samples, ten thousand a
    # second, are no cycles: it need look neither at the one nor, that often, at the others.
    gc.freeze()
    gc.set_threshold(COLLECTED_AFTER, 20, 20)
    app.run(mouse=app.settings.display.mouse)
    return app.return_code or 0
