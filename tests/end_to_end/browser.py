"""A headless Chromium under test, driven over its DevTools protocol, and always ended with its children."""

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import psutil
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.end_to_end.processes import wait_for

Message = dict[str, Any]

PATIENCE = 20.0
"""Seconds that a page may take for anything."""


def chromium_program() -> str:
    """Where Chromium is; the test is skipped where there is none, and fails in CI."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    if os.environ.get("CI"):
        pytest.fail("there is no Chromium, and CI has to have one")
    pytest.skip("there is no Chromium on this machine")


@contextlib.contextmanager
def chromium(directory: Path, *options: str) -> Iterator[str]:
    """Run a browser whose every file is in ``directory``; gives the address of its DevTools."""
    with (directory / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            [
                chromium_program(),
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--disable-sync",
                "--no-first-run",
                # Whether a page may reach this machine is to be the hub's word, as it is in other browsers.
                "--disable-features=LocalNetworkAccessChecks",
                "--remote-debugging-port=0",
                f"--user-data-dir={directory / 'profile'}",
                *options,
            ],
            env={"PATH": os.environ["PATH"], "HOME": str(directory)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            yield wait_for(lambda: _devtools(process, directory), "Chromium to start", 2 * PATIENCE)
        finally:
            _end(process)


def _devtools(process: "subprocess.Popen[bytes]", directory: Path) -> str | None:
    """The address that a started browser wrote down."""
    if process.poll() is not None:
        raise AssertionError(f"Chromium ended: {(directory / 'chromium.log').read_text(errors='replace')}")
    try:
        lines = (directory / "profile" / "DevToolsActivePort").read_text().splitlines()
    except FileNotFoundError:
        return None
    return f"ws://127.0.0.1:{lines[0]}{lines[1]}" if len(lines) == 2 else None


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a browser and all that it has started."""
    family: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    for child in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(family, timeout=PATIENCE)


class Page:
    """One page: what is typed into its console, and what the browser tells of it."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self._told: list[Message] = []

    async def _ask(self, method: str, **params: Any) -> Message:
        number = next(self._numbers)
        session = {"sessionId": self._session} if self._session else {}
        await self._socket.send(json.dumps({"id": number, "method": method, "params": params, **session}))
        while True:
            message = await self._recv()
            if message.get("id") == number:
                assert "error" not in message, message
                result: Message = message["result"]
                return result
            self._told.append(message)

    async def _recv(self) -> Message:
        async with asyncio.timeout(PATIENCE):
            message: Message = json.loads(await self._socket.recv())
        return message

    async def attach(self) -> Self:
        """Make an empty page."""
        target = await self._ask("Target.createTarget", url="about:blank")
        attached = await self._ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network"):
            await self._ask(f"{domain}.enable")
        return self

    async def visit(self, url: str) -> None:
        """Go to an address, and wait until it is loaded."""
        navigated = await self._ask("Page.navigate", url=url)
        assert "errorText" not in navigated, navigated
        await self.told("Page.loadEventFired")

    async def told(self, method: str, where: Callable[[Message], bool] = lambda _: True) -> Message:
        """The next event of a kind that satisfies ``where``; those before it are passed over."""
        while True:
            while self._told:
                message = self._told.pop(0)
                if message.get("method") == method and where(message["params"]):
                    params: Message = message["params"]
                    return params
            self._told.append(await self._recv())

    async def type(self, line: str) -> Any:
        """Enter a line into the page's console, as a person does, and give its value where it has one."""
        result = await self._ask(
            "Runtime.evaluate", expression=line, replMode=True, awaitPromise=True, userGesture=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    async def press(self, character: str) -> None:
        """Press a key that types a character."""
        for kind in ("keyDown", "keyUp"):
            await self._ask("Input.dispatchKeyEvent", type=kind, key=character, text=character)

    async def shows(self, element: str, text: str) -> None:
        """Wait until the element of an id has some text in it."""
        look = f"document.getElementById({json.dumps(element)}).textContent.includes({json.dumps(text)})"
        await self.type(
            "await new Promise((done) => { const look = () =>"
            f" {look} ? done() : requestAnimationFrame(look); look(); }})"
        )

    async def logged(self) -> list[Any]:
        """What the page next says by `console.log`, each argument as JSON would have it."""
        call = await self.told("Runtime.consoleAPICalled", lambda params: params["type"] == "log")
        return [await self._value(argument) for argument in call["args"]]

    async def _value(self, argument: Message) -> Any:
        if "objectId" not in argument:
            return argument.get("value")
        given = await self._ask(
            "Runtime.callFunctionOn",
            objectId=argument["objectId"],
            functionDeclaration="function () { return this; }",
            returnByValue=True,
        )
        return given["result"]["value"]


@contextlib.asynccontextmanager
async def page(devtools: str, url: str) -> AsyncIterator[Page]:
    """A page of a running browser that shows ``url``."""
    async with connect(devtools, max_size=None, compression=None, proxy=None) as socket:
        shown = await Page(socket).attach()
        await shown.visit(url)
        yield shown


def options_for(hosts: Sequence[str]) -> list[str]:
    """Options that make a browser find some made-up host names on this machine."""
    rules = ", ".join(f"MAP {host} 127.0.0.1" for host in hosts)
    return [f"--host-resolver-rules={rules}"]
