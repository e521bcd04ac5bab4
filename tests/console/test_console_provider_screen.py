"""One provider's screen, as a person sees it."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from rich.cells import cell_len
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Static

from qubix_tui.client import ConnectionState
from qubix_tui.console.app import QubixApp
from qubix_tui.console.screens.fleet import FleetScreen
from qubix_tui.console.screens.provider import ProviderScreen
from qubix_tui.console.widgets.gpu_grid import GpuGrid, arrange
from qubix_tui.console.widgets.gpu_panel import GpuPanel
from qubix_tui.console.widgets.host_panel import HostPanel
from qubix_tui.protocol import channels, events
from qubix_tui.protocol.marketplace import FleetSnapshot, ProviderRemoved
from qubix_tui.protocol.records import GpuMetrics, Metrics, ProviderState
from tests.console.provider_stage import (
    NOW,
    PROVIDER_ID,
    StandInConnection,
    console,
    gpu,
    history,
    metrics,
    record,
)

SIZES = [(80, 24), (120, 40), (200, 60)]
NOTE = "no NVIDIA GPU found (NVML not installed)"


class Stage:
    """The console on one provider's screen, with the hub in the test's hands."""

    def __init__(self, app: QubixApp, connection: StandInConnection, pilot: Pilot[None]) -> None:
        self.app, self.connection, self.pilot = app, connection, pilot

    @property
    def screen(self) -> ProviderScreen:
        """The screen, which must be in front."""
        assert isinstance(self.app.screen, ProviderScreen)
        return self.app.screen

    async def lines(self) -> list[str]:
        """Give what is on the screen, once it is up to date."""
        await self.pilot.pause()
        self.screen._paint()
        self.screen._on_tick()
        await self.pilot.pause()
        return [strip.text for strip in self.screen._compositor.render_strips()]

    async def text(self) -> str:
        """Give what is on the screen as one text."""
        return "\n".join(await self.lines())


@asynccontextmanager
async def stage(size: tuple[int, int] = (120, 40), *, ascii_only: bool = False) -> AsyncIterator[Stage]:
    """Open the console on the provider."""
    app, connection = console(ascii_only=ascii_only)
    async with app.run_test(size=size) as pilot:
        app.open_provider(PROVIDER_ID)
        await pilot.pause()
        yield Stage(app, connection, pilot)


@pytest.mark.parametrize("size", SIZES)
async def test_every_gpu_is_in_view(size: tuple[int, int]) -> None:
    """With up to 16 GPUs each has its numbers and curves on the screen, with no scrolling and nothing cut."""
    async with stage(size) as shown:
        for count in (1, 2, 3, 8, 16):
            gpus = [gpu(index, temp_c=88 if index == count - 1 else 60) for index in range(count)]
            shown.connection.now = NOW + count
            shown.connection.snapshot(record(count), metrics(gpus), history(count))
            lines = await shown.lines()
            grid = shown.screen.query_one(GpuGrid)
            assert len(grid.panels) == count
            assert grid.max_scroll_y == 0
            for panel in grid.panels:
                assert shown.screen.region.contains_region(panel.region)
                assert panel.region.size == grid.panels[0].region.size
            text = "\n".join(lines)
            assert all(cell_len(line) == size[0] for line in lines)
            assert text.count("22.1/24G") == count
            assert text.count("88°") == 1
            assert f"{count}× RTX 4090" in text
            assert "CPU  34% of 32" in text
            assert "last 10 min" in text
            assert re.search(r"⣿|⣶|⣤", text)
            assert "esc" in lines[-1]


@pytest.mark.parametrize("size", SIZES)
async def test_a_machine_without_a_gpu(size: tuple[int, int]) -> None:
    """One plain line says why there is none; the host's four graphs take the room; nothing is 0."""
    async with stage(size) as shown:
        shown.connection.snapshot(record(0), metrics(0, gpu_note=NOTE), history(0))
        lines = await shown.lines()
        assert not shown.screen.query_one(GpuGrid).display
        assert shown.screen.query_one(HostPanel).region.height == size[1] - 1 - 3 - 1 - 1
    text = "\n".join(lines)
    assert NOTE in text
    assert "no GPU · Lisbon · 0.45/h" in text
    for name in ("CPU", "RAM", "net ↓", "net ↑"):
        assert any(re.search(rf"^ *{name} [│┤]|  {name} [│┤]", line) for line in lines), name


async def test_the_header_tells_who_and_what() -> None:
    """Name, state by glyph and word, job, GPUs, driver, CUDA, location, price, and the age of the data."""
    async with stage() as shown:
        busy = record(2, state=ProviderState.BUSY, current_job_id="train-7f")
        shown.connection.snapshot(busy, metrics(2))
        shown.connection.now = NOW + 0.4
        who, what = (await shown.lines())[1:3]
    assert re.fullmatch(r" rig-41  ▲ busy   train-7f +● live 0\.4s ", who)
    assert re.fullmatch(
        r" 2× RTX 4090 · driver 580\.65\.06 · CUDA 13\.0 · Lisbon · 0\.45/h +last 10 min ", what
    )


async def test_what_is_not_known_is_a_dash() -> None:
    """A provider that tells nothing of itself has dashes in place of values, and no number is made up."""
    async with stage() as shown:
        bare = record(
            1, gpu_model=None, driver_version=None, cuda_version=None, location=None, price_per_hour=None
        )
        shown.connection.snapshot(bare, Metrics(gpus=[GpuMetrics(index=0)]))
        text = await shown.text()
    assert "1× — · driver — · CUDA — · location — · —/h" in text
    assert "no job" in text
    for label in ("use ", "memory", "temp", "power", "clocks", "fan", "link", "health", "energy", "runs"):
        assert re.search(rf"{label} +—", text), label
    assert re.search(r"CPU +— of 32 +RAM +— +load +— +net ↓ +— ↑ +— +disk +— +up — +agent —", text)


async def test_simulated_is_labelled() -> None:
    """A made-up provider says SIM behind its name."""
    async with stage() as shown:
        shown.connection.snapshot(record(simulated=True), metrics())
        assert " rig-41 SIM  ● available" in await shown.text()


async def test_why_slow() -> None:
    """A GPU that is held back says by what, in words, and for how much of the last minute."""
    async with stage() as shown:
        shown.connection.snapshot(record(), metrics([gpu(throttle=["power_cap"])]))
        text = await shown.text()
    assert "slow: held back by power cap, 100% of the last minute" in text


@pytest.mark.parametrize("size", [SIZES[0], SIZES[2]])
async def test_a_gpu_that_is_lost_says_so(size: tuple[int, int]) -> None:
    """A lost and a sleeping GPU are told in words where their numbers would be."""
    async with stage(size) as shown:
        gpus = [
            GpuMetrics(index=0, state="lost"),
            GpuMetrics(index=1, state="asleep"),
            *map(gpu, range(2, 8)),
        ]
        shown.connection.snapshot(record(8), metrics(gpus))
        lines = await shown.lines()
    assert any("lost" in line for line in lines)
    assert any("asleep" in line for line in lines)
    assert not any(re.search(r"\b0%|\b0°|\b0/", line) for line in lines)


async def test_it_asks_for_the_snapshot_and_leaves_again() -> None:
    """The provider's channel is subscribed with a snapshot while the screen is there, and Esc ends it."""
    async with stage() as shown:
        channel = channels.provider_channel(PROVIDER_ID)
        assert shown.connection.asked[channel] == {"snapshot": True, "recover": False}
        handlers = len(shown.connection.handlers)
        await shown.pilot.press("escape")
        await shown.pilot.pause()
        assert isinstance(shown.app.screen, FleetScreen)
        assert channel not in shown.connection.subscribed
        assert len(shown.connection.handlers) == handlers - 1
        assert len(shown.connection.state_handlers) == 1


async def test_waiting_is_a_sentence() -> None:
    """Before the hub answers it says what is waited for; nothing spins, and nothing is 0."""
    async with stage() as shown:
        text = await shown.text()
    assert "Asking the hub for rig-41." in text
    assert "no sample yet" in text
    assert "CPU" not in text


async def test_a_provider_of_the_fleet_is_named_at_once() -> None:
    """What the fleet knows is shown before the hub has answered."""
    app, connection = console()
    async with app.run_test(size=(120, 40)) as pilot:
        connection.emit(
            events.MARKETPLACE_UPDATE,
            FleetSnapshot(providers=[record(4, state=ProviderState.PAUSED)], page=1, pages=1),
        )
        app.open_provider(PROVIDER_ID)
        await pilot.pause()
        text = await Stage(app, connection, pilot).text()
    assert "‖ paused" in text
    assert "rig-41 has sent no sample yet" in text
    assert "4× RTX 4090" in text
    assert "GPU 3" in text


async def test_a_provider_nobody_knows() -> None:
    """The hub's answer that there is none is a sentence; when it registers, it is there."""
    async with stage() as shown:
        shown.connection.snapshot(None, None)
        assert "The hub knows no provider rig-41." in await shown.text()
        shown.connection.emit(events.PROVIDER_REGISTERED, record())
        shown.connection.sample(NOW, metrics())
        text = await shown.text()
    assert "knows no provider" not in text
    assert "● available" in text
    assert "22.1/24G" in text


async def test_an_offline_provider() -> None:
    """Offline is told with its reason and how old what is shown is; the values are dimmed."""
    async with stage() as shown:
        shown.connection.snapshot(record(), metrics())
        shown.connection.now = NOW + 50
        shown.connection.status(ProviderState.OFFLINE, reason="no word for 45s")
        text = await shown.text()
        assert shown.screen.query_one(GpuPanel).is_stale
        assert shown.screen.query_one(HostPanel).is_stale
    assert "○ offline, no word for 45s" in text
    assert "rig-41 is offline; what you see is from 50s ago." in text
    assert "○ stale 50s" in text


async def test_a_removed_provider() -> None:
    """Removed is told, and what was known of it stays to be read."""
    async with stage() as shown:
        shown.connection.snapshot(record(), metrics())
        shown.connection.emit(events.MARKETPLACE_UPDATE, ProviderRemoved(provider_id=PROVIDER_ID))
        text = await shown.text()
    assert "rig-41 was removed from the hub" in text
    assert "22.1/24G" in text


async def test_a_provider_that_falls_silent() -> None:
    """Samples that stop are late first, then stale with a sentence, while its state is still as it was."""
    async with stage() as shown:
        shown.connection.snapshot(record(), metrics())
        shown.connection.now = NOW + 8
        assert "○ late 8s" in await shown.text()
        shown.connection.now = NOW + 20
        assert "rig-41 sends no samples; what you see is from 20s ago." in await shown.text()
        shown.connection.sample(NOW + 20, metrics())
        text = await shown.text()
        assert "● live 0.0s" in text
        assert not shown.screen.query_one(GpuPanel).is_stale
    assert "what you see" not in text


async def test_the_hub_goes_and_comes_back() -> None:
    """While it is away values are dimmed with their age; then the graph goes on, the hub filling its gap."""
    async with stage() as shown:
        connection = shown.connection
        connection.snapshot(record(), metrics(), history())
        await shown.text()
        connection.change_state(ConnectionState.RECONNECTING)
        connection.now = NOW + 30
        text = await shown.text()
        assert shown.screen.query_one(GpuPanel).is_stale
        assert "○ stale 30s" in text
        assert "Attempt" in text
        connection.change_state(ConnectionState.OPEN)
        connection.snapshot(record(), metrics(), history(end=NOW + 30, use=20))
        text = await shown.text()
        assert "Attempt" not in text
        assert not shown.screen.query_one(GpuPanel).is_stale
        await shown.pilot.press("1")
        curve = next(line for line in await shown.lines() if re.search(r" 0 ┤", line))
    assert " " not in curve.split("┤")[1].split("  ")[0].strip()


async def test_the_span_is_chosen_by_key() -> None:
    """`g` goes from ten minutes to an hour and to one minute; `1`, `2` and `3` name them."""
    async with stage() as shown:
        shown.connection.snapshot(record(), metrics(), history())
        spans = []
        for key in ("2", "g", "g", "g", "1", "3"):
            await shown.pilot.press(key)
            found = re.search(r"last (\d+ (min|h))", await shown.text())
            spans.append(found and found[1])
    assert spans == ["10 min", "1 h", "1 min", "10 min", "1 min", "1 h"]


async def test_a_job_is_marked_on_the_graphs() -> None:
    """Where a job began there is a line with its name."""
    async with stage() as shown:
        shown.connection.snapshot(record(), metrics(), history())
        shown.connection.now = NOW + 5
        shown.connection.status(ProviderState.BUSY, job_id="train-7f")
        shown.connection.now = NOW + 200
        lines = await shown.lines()
    named = [line for line in lines if re.search(r"10 min +train-7f +now", line)]
    assert len(named) == 2


async def test_the_progress_of_its_job_is_heard() -> None:
    """While it has a job, that job's channel is subscribed: the marketplace tells of states alone."""
    async with stage() as shown:
        job = channels.job_channel("train-7f")
        shown.connection.snapshot(record(), metrics(), history())
        shown.connection.status(ProviderState.BUSY, job_id="train-7f")
        await shown.lines()
        assert shown.connection.subscribed.count(job) == 1
        shown.connection.status(ProviderState.BUSY, job_id="render-1")
        await shown.lines()
        assert job not in shown.connection.subscribed
        assert channels.job_channel("render-1") in shown.connection.subscribed
        await shown.pilot.press("escape")
        await shown.pilot.pause()
        assert channels.job_channel("render-1") not in shown.connection.subscribed


async def test_many_gpus_scroll() -> None:
    """Where even small panels do not fit, the list scrolls by key, and the header stays."""
    async with stage((80, 24)) as shown:
        shown.connection.snapshot(record(40), metrics(40))
        await shown.text()
        grid = shown.screen.query_one(GpuGrid)
        assert grid.max_scroll_y > 0
        grid.focus()
        await shown.pilot.press("end")
        await shown.pilot.pause(0.3)
        lines = await shown.lines()
    assert any(line.lstrip().startswith("38 ") for line in lines)
    assert "rig-41" in lines[1]


async def test_gpus_come_and_go() -> None:
    """A GPU that appears gets a panel, one that the record no longer has loses it."""
    async with stage() as shown:
        shown.connection.snapshot(record(1), metrics(1))
        await shown.text()
        shown.connection.sample(NOW + 1, metrics(3))
        await shown.text()
        assert len(shown.screen.query(GpuPanel)) == 3
        shown.connection.sample(NOW + 2, metrics(1))
        await shown.text()
        assert len(shown.screen.query(GpuPanel)) == 1


async def test_more_gpus_than_anyone_has() -> None:
    """A provider that claims a million GPUs does not get a million panels."""
    async with stage() as shown:
        shown.connection.snapshot(record(10**6), metrics([gpu(10**9)]))
        await shown.text()
        assert len(shown.screen.query(GpuPanel)) == 64


async def test_text_from_outside_is_shown_as_it_is() -> None:
    """Markup in names is not obeyed, and what a terminal would obey is not shown."""
    async with stage() as shown:
        evil = "[b]x[/b][@click=app.quit]\x9b31m"
        named = record(name=evil, location=evil, cpu_model=evil, driver_version=evil)
        shown.connection.snapshot(named, metrics([gpu(name=evil, throttle=[evil])], gpu_note=evil))
        text = await shown.text()
        note = shown.screen.query_one("#gpu-note", Static).content
    assert "\x9b" not in text
    assert text.count("[b]x[/b][@click=app.quit]�31m") >= 5
    assert note == "[b]x[/b][@click=app.quit]�31m"


async def test_it_rests_behind_another_screen() -> None:
    """Behind another view nothing is painted; what came meanwhile is there when it is in front again."""
    async with stage() as shown:
        shown.connection.snapshot(record(), metrics())
        await shown.text()
        screen = shown.screen
        shown.app.add_mode("other", Screen)
        shown.app.switch_mode("other")
        await shown.pilot.pause()
        assert shown.app.screen is not screen
        panel = screen.query_one(HostPanel)
        panel.show = pytest.fail  # type: ignore[assignment]
        shown.connection.sample(NOW + 1, metrics(cpu_percent=99))
        await shown.pilot.pause(0.3)
        del panel.show
        shown.app.switch_mode("fleet")
        await shown.pilot.pause()
        assert shown.app.screen is screen
        assert "CPU  99%" in await shown.text()


async def test_it_goes_on_behind_a_dialog() -> None:
    """What is dimmed behind the help is still of now."""
    async with stage() as shown:
        shown.connection.snapshot(record(), metrics())
        await shown.text()
        screen = shown.screen
        await shown.pilot.press("question_mark")
        await shown.pilot.pause()
        shown.connection.sample(NOW + 1, metrics(cpu_percent=99))
        panel = screen.query_one(HostPanel)
        async with asyncio.timeout(10):
            while not any("CPU  99%" in panel.render_line(y).text for y in range(panel.size.height)):
                await shown.pilot.pause(0.02)


async def test_a_burst_is_painted_once() -> None:
    """However many samples come at once, the panels are drawn at most ten times a second."""
    async with stage() as shown:
        shown.connection.snapshot(record(), metrics())
        await shown.text()
        drawn = 0
        panel = shown.screen.query_one(HostPanel)
        show = panel.changed

        def count(*, stale: bool = False) -> None:
            nonlocal drawn
            drawn += 1
            show(stale=stale)

        panel.changed = count  # type: ignore[method-assign]
        for step in range(1, 200):
            shown.connection.sample(NOW + step / 100, metrics())
        await shown.pilot.pause(0.15)
        assert 1 <= drawn <= 2


async def test_ascii_only_reaches_every_line() -> None:
    """Where only ASCII is to be used, this screen has nothing else."""
    async with stage(ascii_only=True) as shown:
        shown.connection.snapshot(record(2), metrics([gpu(0), GpuMetrics(index=1)]), history(2))
        lines = await shown.lines()
    assert [line for line in lines[:-1] if not line.isascii()] == []


async def test_another_theme_recolours_everything() -> None:
    """Panels that are on the screen take the colours of a new theme at once."""
    async with stage() as shown:
        shown.connection.snapshot(record(), metrics(), history())
        await shown.text()
        for theme in ("qubix-light", "qubix-contrast"):
            shown.app.theme = theme
            await shown.pilot.pause()
            accent = shown.app.get_css_variables()["accent"].lower()
            background = shown.app.get_css_variables()["background"].lower()
            for panel in (shown.screen.query_one(GpuPanel), shown.screen.query_one(HostPanel)):
                segments = [segment for row in range(panel.size.height) for segment in panel.render_line(row)]
                colours = {style.color.name for _, style, _ in segments if style and style.color}
                grounds = {style.bgcolor.name for _, style, _ in segments if style and style.bgcolor}
                assert accent in colours
                assert grounds == {background}


@pytest.mark.parametrize("width", [40, 80, 120, 200, 300])
@pytest.mark.parametrize("height", [1, 10, 19, 36, 56])
def test_panels_have_room(width: int, height: int) -> None:
    """For any number of GPUs all panels have a place; they are of one size, and scroll only if they must."""
    for count in range(1, 65):
        columns, rows, each = arrange(count, width, height)
        assert columns * rows >= count > columns * (rows - 1)
        assert columns == 1 or (width // columns) >= 38
        assert each >= 2
        if rows * each > height:
            assert columns == max(1, min(count, width // 38))
            assert height // rows < 2
