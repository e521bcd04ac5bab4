"""Serves consoles to browsers with textual-serve, behind a gate: one process for each page that is open."""

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from aiohttp import web
from textual_serve.server import Server

from qubix_tui.web.gate import Gate

MAX_CONSOLES: Final = 8
"""Pages that may be open at once: each is a process with a connection to the hub."""

SHUTDOWN_SECONDS: Final = 2.0
"""How long consoles may take to end with the server."""

_TEMPLATES: Final = Path(__file__).with_name("templates")
"""Our own page: textual-serve's takes a font from another site, and wants a click before it takes keys."""

_PAGE: Final = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>QUBIX</title>
<body style="font: 16px/1.5 monospace; background: #0e1116; color: #d4dae3; margin: 3em">
<p>QUBIX</p><p>{sentence}</p></body></html>
"""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WebConsole(Server):
    """Consoles in browsers.

    Args:
        command: What runs one, for a shell.
        gate: Who is let in.
        url: Where browsers find it, without a path.
        say: Shows a sentence to whoever runs it.
    """

    def __init__(self, command: str, gate: Gate, url: str, say: Callable[[str], None]) -> None:
        super().__init__(command, title="QUBIX", public_url=url, templates_path=_TEMPLATES)
        self._gate = gate
        self._say = say
        self._open = 0
        socket_url = url.replace("http", "ws", 1)
        self._policy = (
            "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
            f"img-src 'self' data:; font-src 'self'; connect-src 'self' {socket_url}; "
            "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
        )

    async def run(self, listener: socket.socket) -> None:
        """Serve on a socket that listens, until the process is asked to end."""
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, ended.set)
        runner = web.AppRunner(await self._make_app(), access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
        await runner.setup()
        try:
            await web.SockSite(runner, listener).start()
            self._say(f"open {self._gate.link}")
            await ended.wait()
        finally:
            await runner.cleanup()

    async def _make_app(self) -> web.Application:
        app = await super()._make_app()

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._guard(request, handler)

        app.middlewares.append(guard)
        return app

    async def on_startup(self, app: web.Application) -> None:
        """Say nothing yet: `run` does, once it listens."""

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        """Run a console for a page, unless too many are open."""
        if self._open >= MAX_CONSOLES:
            # A page shows no answer to its WebSocket; it says that its session has ended.
            self._say(f"{MAX_CONSOLES} consoles are open in browsers; another one was turned away")
            raise web.HTTPServiceUnavailable
        self._open += 1
        try:
            return await super().handle_websocket(request)
        finally:
            self._open -= 1

    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await self._answer(request, handler)
        if not response.prepared:
            response.headers.update(
                {
                    "Cache-Control": "no-store",
                    "Content-Security-Policy": self._policy,
                    "Referrer-Policy": "no-referrer",
                    "X-Content-Type-Options": "nosniff",
                }
            )
        return response

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        gate = self._gate
        stranger = gate.refuse_stranger(request.headers)
        if stranger is not None:
            return _page(*stranger)
        code = request.query.get("code")
        if request.path == "/" and code is not None:
            return self._let_in(code)
        refusal = gate.refuse(request.headers, request.cookies.get(gate.cookie))
        return await handler(request) if refusal is None else _page(*refusal)

    def _let_in(self, code: str) -> web.Response:
        session = self._gate.redeem(code)
        if session is None:
            return _page(401, "This link was used already. The terminal of “qubix web” has the next one.")
        self._say(f"a browser was let in; for another one open {self._gate.link}")
        # Away from the address with the code, so that it is in no bookmark.
        response = web.Response(status=303, headers={"Location": "/"})
        response.set_cookie(
            self._gate.cookie, session, httponly=True, samesite="Lax", secure=self._gate.is_secure, path="/"
        )
        return response


def _page(status: int, sentence: str) -> web.Response:
    return web.Response(status=status, text=_PAGE.format(sentence=sentence), content_type="text/html")
