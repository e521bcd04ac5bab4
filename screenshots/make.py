"""Makes the pictures: the real console, on a real hub, with this machine's own agent and a simulated fleet.

``python -m screenshots.make [NAME…]`` writes ``screenshots/NAME.svg`` and ``.png``. Rendering takes Chromium,
and the picture of several hubs a redis-server.
"""

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from screenshots import in_browser
from tests.end_to_end.processes import hub_process
from tests.redis_server import redis_server

if TYPE_CHECKING:
    from textual.pilot import Pilot

    from qubix_tui.console.app import QubixApp

HERE = Path(__file__).parent
FLEET_SIZE = 128
PATIENCE = 30.0
FONTS = "'JetBrains Mono', 'DejaVu Sans Mono', 'Menlo', 'Consolas', monospace"

Drive = Callable[["QubixApp", "Pilot[None]"], Awaitable[None]]


class Picture(NamedTuple):
    """One picture: the terminal, whether the simulated fleet is there, what to press, hubs on one store."""

    columns: int
    rows: int
    crowded: bool
    drive: Drive
    hubs: int = 1


async def until(look: Callable[[], bool], what: str) -> None:
    """Wait for something to be so."""
    async with asyncio.timeout(PATIENCE):
        while not look():
            await asyncio.sleep(0.05)
    print(f"  {what}", file=sys.stderr)


async def settle(app: "QubixApp", _pilot: "Pilot[None]") -> None:
    """Let half a minute of history build up."""
    await until(lambda: len(app.fleet.rows) > 0, "the fleet is there")
    await asyncio.sleep(float(os.environ.get("QUBIX_SCREENSHOT_SECONDS", "30")))


async def open_own(app: "QubixApp", pilot: "Pilot[None]") -> None:
    """Open this very machine."""
    await settle(app, pilot)
    await pilot.press("enter")
    await asyncio.sleep(5)


async def open_simulated(app: "QubixApp", pilot: "Pilot[None]") -> None:
    """Open a machine with many GPUs."""
    await settle(app, pilot)
    many = max(app.fleet.rows.values(), key=lambda row: (row.record.is_online, row.record.gpu_count or 0))
    app.open_provider(many.record.id)
    await pilot.press("1")
    await asyncio.sleep(float(os.environ.get("QUBIX_SCREENSHOT_SECONDS", "30")))


async def run_benchmark(app: "QubixApp", pilot: "Pilot[None]") -> None:
    """Have this very machine measured, and look at what that prints."""
    own = await own_machine(app)
    app.open_provider(own)
    await pilot.pause()
    await pilot.press("b")
    await until(lambda: any(row.job.progress is not None for row in app.jobs.rows.values()), "a job runs")
    await asyncio.sleep(float(os.environ.get("QUBIX_SCREENSHOT_SECONDS", "30")) / 2)


async def own_machine(app: "QubixApp") -> str:
    """Give this very machine's id, once its agent has registered."""
    rows = app.fleet.rows
    await until(lambda: any(not row.record.simulated for row in rows.values()), "this machine is there")
    return next(key for key, row in rows.items() if not row.record.simulated)


async def show_hub(_app: "QubixApp", pilot: "Pilot[None]") -> None:
    """What the hub itself does."""
    await pilot.press("h")
    await asyncio.sleep(float(os.environ.get("QUBIX_SCREENSHOT_SECONDS", "30")))


async def light(app: "QubixApp", pilot: "Pilot[None]") -> None:
    """The light theme."""
    app.theme = "qubix-light"
    await settle(app, pilot)


async def show_help(app: "QubixApp", pilot: "Pilot[None]") -> None:
    """The keys."""
    await settle(app, pilot)
    await pilot.press("question_mark")
    await pilot.pause()


PICTURES = {
    "fleet": Picture(160, 44, True, settle),
    "fleet-80x24": Picture(80, 24, True, settle),
    "fleet-200x60": Picture(200, 60, True, settle),
    "fleet-light": Picture(140, 40, True, light),
    "this-machine": Picture(140, 40, False, settle),
    "provider-this-machine": Picture(140, 40, False, open_own),
    "provider": Picture(160, 50, True, open_simulated),
    "job": Picture(140, 40, False, run_benchmark),
    "hub": Picture(140, 40, True, show_hub),
    "hubs": Picture(140, 40, True, show_hub, hubs=3),
    "help": Picture(120, 40, True, show_help),
}


BROWSER = "browser"
"""The picture that is taken of a page, and has no SVG."""


async def take(picture: Picture, url: str, token: str) -> str:
    """Run the console, drive it, and give its screen as SVG."""
    from qubix_tui.console.app import QubixApp

    app = QubixApp(url, token)
    async with app.run_test(size=(picture.columns, picture.rows), notifications=True, tooltips=True) as pilot:
        await picture.drive(app, pilot)
        await pilot.pause()
        return app.export_screenshot(title="qubix")


def local_fonts(svg: str) -> str:
    """Let a picture use fonts that are there: it must look the same without a network."""
    # Cells of one colour must join without a seam at any scale.
    crisp = "rect { shape-rendering: crispEdges; }"
    svg = re.sub(r"@font-face\s*\{.*?\}", "", svg, flags=re.DOTALL).replace("<style>", f"<style>{crisp}", 1)
    return re.sub(r"font-family:[^;]*Fira Code[^;]*;", f"font-family: {FONTS};", svg)


def render(svg: Path, chromium: str) -> None:
    """Render an SVG to a PNG beside it, at twice its size."""
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg.read_text(encoding="utf-8"))
    assert box is not None
    size = ",".join(str(int(float(value))) for value in box.groups())
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                *("--disable-background-networking", "--disable-sync", "--no-first-run"),
                *("--force-device-scale-factor=2", f"--user-data-dir={profile}", f"--window-size={size}"),
                *(f"--screenshot={svg.with_suffix('.png')}", svg.as_uri()),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )


def main(names: list[str]) -> int:
    """Make the pictures named, or all."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("screenshots: needs chromium to render PNGs (apt install chromium)", file=sys.stderr)
        return 1
    every = [*PICTURES, BROWSER]
    wrong = set(names) - set(every)
    if wrong:
        print(f"screenshots: no picture {', '.join(wrong)}; there are {', '.join(every)}", file=sys.stderr)
        return 2
    wanted = {name: PICTURES[name] for name in names or PICTURES if name in PICTURES}
    of_browser = not names or BROWSER in names
    for crowded, hubs in ((False, 1), (True, 1), (True, 3)):
        chosen = {
            name: picture
            for name, picture in wanted.items()
            if picture.crowded is crowded and picture.hubs == hubs
        }
        browser = of_browser and crowded and hubs == 1
        if chosen or browser:
            with tempfile.TemporaryDirectory() as directory:
                os.environ["QUBIX_HOME"] = directory
                with hubs_of(Path(directory), hubs) as urls:
                    fleet = FLEET_SIZE if crowded else 0
                    work = make(chosen, Path(directory), chromium, urls, fleet=fleet, browser=browser)
                    asyncio.run(work)
    return 0


@contextlib.contextmanager
def hubs_of(directory: Path, count: int) -> Iterator[Sequence[str]]:
    """Run the usual hub, or several as processes on a Redis of their own, and give their addresses."""
    from qubix_tui.cli.demo import local_hub

    with contextlib.ExitStack() as stack:
        if count == 1:
            yield [stack.enter_context(local_hub(directory, []))]
            return
        server = stack.enter_context(redis_server())
        hubs = [stack.enter_context(hub_process(directory, "--engine", server.url)) for _ in range(count)]
        yield [url for _, url in hubs]


async def make(
    chosen: dict[str, Picture],
    directory: Path,
    chromium: str,
    urls: Sequence[str],
    *,
    fleet: int,
    browser: bool,
) -> None:
    """Run this machine's agent and, for the crowded ones, a simulated fleet; take the pictures."""
    from qubix_tui import home
    from qubix_tui.cli.demo import local_agent
    from qubix_tui.protocol.tokens import Role

    url = urls[0]
    with local_agent(url, directory):
        token = home.ensure_local_token(Role.OPERATOR, home=directory)
        async with contextlib.AsyncExitStack() as stack:
            for number, one in enumerate(urls):
                await stack.enter_async_context(
                    simulated(one, directory, fleet // len(urls), seed=7 + number)
                )
            svgs = await asyncio.gather(*(take(picture, url, token) for picture in chosen.values()))
            if browser:
                seconds = float(os.environ.get("QUBIX_SCREENSHOT_SECONDS", "30"))
                await in_browser.take(url, chromium, seconds, HERE / f"{BROWSER}.png")
                print(HERE / f"{BROWSER}.png")
    for name, svg in zip(chosen, svgs, strict=True):
        path = HERE / f"{name}.svg"
        path.write_text(local_fonts(svg), encoding="utf-8")
        render(path, chromium)
        print(path.with_suffix(".png"))


class simulated:  # noqa: N801 - reads as a context
    """A simulated fleet as a process of its own, for as long as the block runs."""

    def __init__(self, url: str, directory: Path, providers: int, seed: int) -> None:
        self._arguments = ["simulate", "--providers", str(providers), "--seed", str(seed), "--hub", url]
        self._arguments += ["--token-file", str(directory / "tokens" / "operator")]
        self._wanted = providers > 0
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> None:
        if self._wanted:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "qubix_tui.cli.main",
                *self._arguments,
                stderr=asyncio.subprocess.DEVNULL,
            )

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            await self._process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
