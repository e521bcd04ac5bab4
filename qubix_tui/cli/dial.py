"""Open a connection for a command: at the first try, or say why not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from qubix_tui.cli.common import EXIT_FAILED, EXIT_UNREACHABLE, EXIT_USAGE, CommandError, Target
from qubix_tui.client import BadUrl, ConnectFailed, Connection, ConnectionState

OPEN_SECONDS = 10.0
"""How long a hub may take to greet."""


@asynccontextmanager
async def dialled(target: Target, *, patience: float = OPEN_SECONDS) -> AsyncIterator[Connection]:
    """Give an open connection, closed with the block. Once open it reconnects as the guide says.

    Args:
        target: Which hub, and the token to show there.
        patience: Seconds that the hub may take to greet.

    Raises:
        CommandError: The address is none, nobody answers, or the hub refuses; its message says which.
    """
    try:
        connection = Connection(target.url, token=target.token)
    except BadUrl as error:
        raise CommandError(str(error), EXIT_USAGE) from None
    settled = asyncio.Event()

    def settle(state: ConnectionState) -> None:
        if state is not ConnectionState.CONNECTING:
            settled.set()

    forget = connection.on_state(settle)
    try:
        await connection.start()
        try:
            async with asyncio.timeout(patience):
                await settled.wait()
            await connection.wait_open(timeout=0)
        except (ConnectFailed, TimeoutError) as error:
            raise _failure(error, target, patience) from None
        forget()
        yield connection
    finally:
        await connection.close()


def _failure(error: ConnectFailed | TimeoutError, target: Target, patience: float) -> CommandError:
    if isinstance(error, ConnectFailed):
        return CommandError(str(error), EXIT_UNREACHABLE if error.unreachable else EXIT_FAILED)
    return CommandError(f"{target.url} did not answer within {patience:g} s", EXIT_UNREACHABLE)
