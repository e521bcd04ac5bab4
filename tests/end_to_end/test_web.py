"""`qubix web`: the console in a real browser, behind its gate."""

import base64
import contextlib
import http.client
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pyte
import pytest

from tests.end_to_end.browser import PATIENCE, Page, chromium, page
from tests.end_to_end.processes import first_line, hub_process, no_process_left, run, started, wait_for

pytest.importorskip("textual_serve")

COLUMNS, ROWS = 300, 120
"""More than a browser's window shows: what a screen paints beyond its size is left out."""


@contextmanager
def served(home: Path, hub: str) -> Iterator[str]:
    """Run `qubix web` for a hub; gives the link that it shows."""
    with started(["qubix", "web", "--port", "0", "--hub", hub], home) as process:
        line = first_line(process)
        assert line.startswith("open http://127.0.0.1:"), line
        yield line.removeprefix("open ")


class Answer(NamedTuple):
    """What a server says to a request."""

    status: int
    headers: Message
    text: str


def get(url: str, path: str, **headers: str) -> Answer:
    """Ask for a page without following where it leads."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read().decode())


class Shown:
    """What the page's terminal shows, from the frames that the browser got."""

    def __init__(self, shown: Page) -> None:
        self._page = shown
        self._screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self._screen)

    @property
    def text(self) -> str:
        """The screen as lines of text."""
        return "\n".join(line.rstrip() for line in self._screen.display)

    async def wait_for(self, wanted: str) -> None:
        """Wait until the screen has a text on it; fails with the screen when it does not."""
        deadline = time.monotonic() + PATIENCE
        while wanted not in self.text:
            assert time.monotonic() < deadline, (
                f"waited {PATIENCE:g} s for {wanted!r} on:\n{self.text.strip()}"
            )
            frame = await self._page.told("Network.webSocketFrameReceived")
            if frame["response"]["opcode"] == 2:
                self._stream.feed(base64.b64decode(frame["response"]["payloadData"]))


async def test_a_browser_shows_the_fleet_and_takes_keys(tmp_path: Path) -> None:
    """The link opens the console of the hub; a key changes the screen; the link is used up then."""
    home = tmp_path / "home"
    home.mkdir()
    browser_home = tmp_path / "browser"
    browser_home.mkdir()
    with (
        hub_process(home) as (_, hub),
        started(["qubix", "simulate", "--hub", hub, "--providers", "3"], home),
        served(home, hub) as link,
        chromium(browser_home, "--window-size=1200,800") as devtools,
    ):
        async with page(devtools, link) as shown:
            screen = Shown(shown)
            await screen.wait_for("SIMULATED DATA")
            await screen.wait_for("● available")
            await shown.press("?")
            await screen.wait_for("Leave")
            where = await shown.type("location.href")
            assert where == f"http://{urlsplit(link).netloc}/", "the code is in no address any longer"
            assert await shown.type("document.cookie") == "", "no script can read the cookie"
        async with page(devtools, link) as again:
            assert "used already" in await again.type("document.body.textContent")
    wait_for(lambda: no_process_left(home), "the page's console to end with its server")


def test_nothing_is_there_without_the_link(tmp_path: Path) -> None:
    """Page, files and WebSocket alike: 401 and a sentence; other hosts and origins are refused first."""
    with hub_process(tmp_path) as (_, hub), served(tmp_path, hub) as link:
        for path in ("/", "/ws", "/static/js/textual.js", "/static/", "/download/x"):
            answer = get(link, path)
            assert answer.status == 401
            assert "qubix web" in answer.text
        assert get(link, "/", Host="evil.example").status == 421
        assert get(link, "/ws", Origin="https://evil.example").status == 403
        wrong = get(link, "/?code=guessed")
        assert wrong.status == 401
        assert wrong.headers["Set-Cookie"] is None
        target = urlsplit(link)
        right = get(link, f"{target.path}?{target.query}")
        assert (right.status, right.headers["Location"]) == (303, "/")
        cookie = right.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        index = get(link, "/", Cookie=cookie.partition(";")[0])
        assert index.status == 200
        assert "frame-ancestors 'none'" in index.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--host", "0.0.0.0"], "0.0.0.0 can be reached from other machines"),
        (["--public-url", "console.example.org"], "--public-url is an address without a path"),
        (["--public-url", "https://console.example.org/x"], "--public-url is an address without a path"),
        (["--port", "70000"], "there is no port 70000"),
        (["--port", "many"], "invalid int value"),
    ],
)
def test_wrong_usage_is_one_sentence(tmp_path: Path, options: list[str], says: str) -> None:
    """It never listens beyond this machine unasked; what is wrong is said with what would be right."""
    ended = run(["qubix", "web", *options], tmp_path)
    assert ended.returncode == 2
    assert says in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    """With the port, and what to do."""
    with hub_process(tmp_path) as (_, hub):
        port = str(urlsplit(hub).port)
        ended = run(["qubix", "web", "--port", port, "--hub", hub], tmp_path)
        assert ended.returncode == 1
        assert re.fullmatch(
            rf"qubix: can't listen on 127\.0\.0\.1, port {port}: .*; give another --port\n", ended.stderr
        )
