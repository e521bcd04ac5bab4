"""A picture of the console in a real browser: `qubix web`, and Chromium driven over its DevTools protocol."""

import asyncio
import base64
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

WIDTH, HEIGHT = 1280, 760


async def take(url: str, chromium: str, seconds: float, path: Path) -> None:
    """Serve the console of a hub, look at it for so long, and keep a picture of that.

    Args:
        url: The hub's address.
        chromium: The browser.
        seconds: How long the page is open before.
        path: Where the picture goes.
    """
    with tempfile.TemporaryDirectory() as profile:
        async with (
            _served(url) as link,
            _browser(chromium, Path(profile)) as devtools,
            connect(devtools, max_size=None, compression=None, proxy=None) as socket,
        ):
            target = await _ask(socket, 1, "Target.createTarget", url=link)
            attached = await _ask(
                socket, 2, "Target.attachToTarget", targetId=target["targetId"], flatten=True
            )
            await asyncio.sleep(seconds)
            session = attached["sessionId"]
            shot = await _ask(socket, 3, "Page.captureScreenshot", session=session, format="png")
    path.write_bytes(base64.b64decode(shot["data"]))


@asynccontextmanager
async def _served(url: str) -> AsyncIterator[str]:
    arguments = ("-m", "qubix_tui.cli.main", "web", "--port", "0", "--hub", url)
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield (await process.stdout.readline()).decode().removeprefix("open ").strip()
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def _browser(chromium: str, profile: Path) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
        *("--no-first-run", "--force-device-scale-factor=2", "--remote-debugging-port=0"),
        *(f"--window-size={WIDTH},{HEIGHT}", f"--user-data-dir={profile}"),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        address = ""
        while not address.startswith("DevTools listening on "):
            address = (await process.stderr.readline()).decode()
        yield address.removeprefix("DevTools listening on ").strip()
    finally:
        process.kill()
        await process.wait()


async def _ask(
    socket: ClientConnection, number: int, method: str, *, session: str | None = None, **params: str | bool
) -> dict[str, Any]:
    message = {"id": number, "method": method, "params": params}
    await socket.send(json.dumps(message if session is None else {**message, "sessionId": session}))
    while True:
        reply: dict[str, Any] = json.loads(await socket.recv())
        if reply.get("id") == number:
            result: dict[str, Any] = reply["result"]
            return result
