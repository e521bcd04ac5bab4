"""Ask a running hub one thing over the WebSocket, and take its answer, however many pages that has."""

import asyncio
from collections.abc import Sequence
from typing import Any

from qubix_tui.cli.common import CommandError, Target
from qubix_tui.protocol.events import Event
from qubix_tui.protocol.types import Wire

ANSWER_SECONDS = 20.0


async def ask(target: Target, request: str, data: Wire | None = None) -> Any:  # noqa: ANN401 - any answer
    """Send one request and give the ``data`` of its reply.

    Raises:
        CommandError: No hub answers, or it refuses; its message says why.
    """
    pages = await ask_pages(target, request, None, data)
    return pages[0]


async def ask_pages(
    target: Target, request: str, reply: str | None, data: Wire | None = None
) -> Sequence[Any]:
    """Send one request and give the ``data`` of each page of its reply.

    Args:
        target: Which hub, and the token to show there.
        request: The request's type.
        reply: The type of a reply that comes in pages, None for one that does not.
        data: The request's data.

    Raises:
        CommandError: No hub answers, or it refuses; its message says why.
    """
    from qubix_tui.cli.dial import dialled
    from qubix_tui.client import ClientError, Refused

    pages: list[Any] = []
    whole = asyncio.Event()

    def take(event: Event) -> None:
        pages.append(event.data)
        if event.data.page >= event.data.pages:
            whole.set()

    async with dialled(target) as connection:
        if reply is not None:
            connection.on(reply, take)
        try:
            first = await connection.request(request, data, timeout=ANSWER_SECONDS)
            if reply is None:
                return [first.data]
            async with asyncio.timeout(ANSWER_SECONDS):
                await whole.wait()
        except Refused as error:
            # The path of a member is for programs.
            raise CommandError(f"the hub at {target.url} refuses: {error.message}") from None
        except ClientError as error:
            raise CommandError(f"the hub at {target.url}: {error}") from None
        except TimeoutError:
            raise CommandError(f"the hub sent no whole list within {ANSWER_SECONDS:g} s") from None
    return pages
