"""One provider's screen: its jobs, what its owner allows, its health, and the way to its neighbours."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from textual.pilot import Pilot

from qubix_tui.client import Refused
from qubix_tui.console.app import QubixApp
from qubix_tui.console.options import Options
from qubix_tui.console.screens.fleet import FleetScreen
from qubix_tui.console.screens.provider import ProviderScreen
from qubix_tui.console.widgets.about_panel import benchmark_lines
from qubix_tui.protocol import channels, events
from qubix_tui.protocol.errors import ErrorCode
from qubix_tui.protocol.events import Event, JobProgressed, Submitted
from qubix_tui.protocol.job_records import Job, JobProgress, JobState, Requirements
from qubix_tui.protocol.marketplace import FleetSnapshot, JobsSnapshot, JobStateChanged
from qubix_tui.protocol.records import GpuProcess, ProviderState, Workload, WorkloadParam
from qubix_tui.protocol.requests import SubmitJob
from qubix_tui.protocol.types import to_timestamp
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
from tests.console.snapshots import Snapshot

SIZES = [(80, 24), (120, 40), (200, 60)]

WORKLOADS = [
    Workload(name="benchmark", description="measures this machine", gpus=1),
    Workload(
        name="train",
        description="fine-tunes a model",
        gpus=2,
        params=[
            WorkloadParam(name="epochs", type="integer", default=3, min=1, max=100),
            WorkloadParam(name="model", type="string", choices=["small", "large"]),
        ],
    ),
]

PROCESS = GpuProcess(pid=4711, name="python3", mem_used_mb=20_000, kind="compute")

RESULT = {
    "figures": [
        {"name": "fp32", "value": 81.2, "unit": "TFLOP/s", "what": "multiply-adds in registers"},
        {"name": "disk_read", "value": None, "unit": "GB/s", "what": "direct reads"},
    ]
}


def job(name: str, state: JobState, **more: Any) -> Job:
    """A job of this provider."""
    known: dict[str, Any] = {"workload": "train", "attempt": 1, "created_at": to_timestamp(NOW - 500)}
    return Job(id=name, state=state, provider_id=PROVIDER_ID, **{**known, **more})


JOBS = [
    job(
        "train-7f",
        JobState.RUNNING,
        started_at=to_timestamp(NOW - 192),
        price_per_hour=0.45,
        progress=JobProgress(progress=62, status=JobState.RUNNING, message="epoch 3", cost_micros=24_000),
    ),
    job(
        "render-1",
        JobState.FAILED,
        workload="render",
        started_at=to_timestamp(NOW - 450),
        finished_at=to_timestamp(NOW - 400),
        reason="exit_code: 3",
        cost_micros=6_000,
    ),
    job(
        "bench-1",
        JobState.COMPLETED,
        workload="benchmark",
        started_at=to_timestamp(NOW - 7000),
        finished_at=to_timestamp(NOW - 6900),
        result=RESULT,
        cost_micros=12_000,
    ),
]


class Stage:
    """The console on one provider's screen, with the hub in the test's hands."""

    def __init__(self, app: QubixApp, connection: StandInConnection, pilot: Pilot[None]) -> None:
        self.app, self.connection, self.pilot = app, connection, pilot

    @property
    def screen(self) -> ProviderScreen:
        """The screen, which must be in front."""
        assert isinstance(self.app.screen, ProviderScreen)
        return self.app.screen

    def say(self, data: Any, kind: str = events.MARKETPLACE_UPDATE) -> None:
        """Let the hub say something."""
        for handler in list(self.connection.handlers):
            handler(Event(type=kind, data=data, channel=channels.MARKETPLACE))

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
async def stage(
    size: tuple[int, int] = (120, 40),
    *,
    jobs: Sequence[Job] | None = JOBS,
    options: Options | None = None,
    **more: Any,
) -> AsyncIterator[Stage]:
    """Open the console on a busy provider with two GPUs."""
    app, connection = console()
    if options is not None:
        app.options = options
    app.monotonic = lambda: 1000.0
    async with app.run_test(size=size, notifications=True) as pilot:
        app.open_provider(PROVIDER_ID)
        await pilot.pause()
        shown = Stage(app, connection, pilot)
        known = {"state": ProviderState.BUSY, "current_job_id": "train-7f", "workloads": WORKLOADS, **more}
        gpus = [
            gpu(
                0,
                pcie_link_gen=4,
                pcie_link_width=8,
                pcie_link_gen_max=4,
                pcie_link_width_max=16,
                ecc_corrected=4,
                mem_temp_c=78,
                throttle=["power cap"],
            ),
            gpu(
                1,
                xid=79,
                processes=[GpuProcess(pid=4711, name="python3", mem_used_mb=20_000, kind="compute")],
            ),
        ]
        connection.snapshot(record(2, **known), metrics(gpus), history(2))
        if jobs is not None:
            shown.say(JobsSnapshot(jobs=list(jobs), page=1, pages=1))
        yield shown


@pytest.mark.parametrize("size", SIZES)
async def test_the_curves(size: tuple[int, int], snapshot: Snapshot) -> None:
    """Two GPUs, the machine, the running job with its start on the graphs; all else where it is wide."""
    async with stage(size) as shown:
        text = await shown.text()
        assert "train-7f 62%, 3m12s, 0.02 so far" in text
        assert "train-7f" in text.split("last 10 min", 1)[1], "its start is marked on the graphs"
        assert ("what its owner allows" in text) is (size[0] == 200)
        snapshot(shown.app, f"provider-{size[0]}x{size[1]}")


@pytest.mark.parametrize("size", SIZES)
async def test_the_details(size: tuple[int, int], snapshot: Snapshot) -> None:
    """`i`: the job, health, processes, what may be run and at which price, past jobs and the benchmark."""
    async with stage(size) as shown:
        await shown.pilot.press("i")
        text = await shown.text()
        assert "train-7f (train), attempt 1" in text
        assert "62%, runs for 3m12s, cost so far 0.02" in text
        assert "PCIe 4.0×8 of 4.0×16" in text
        if size != (80, 24):
            assert "driver error Xid 79" in text
            assert "4711  python3  19.5G  compute" in text
            assert "epochs: integer, 1 to 100, else 3" in text
            assert "model: string, one of small, large, to be given" in text
            assert "render-1 (render): exit_code: 3" in text
        if size[1] == 60:
            assert "fp32  81.2 TFLOP/s  (multiply-adds in registers)" in text
            assert "disk_read  — GB/s" in text
        snapshot(shown.app, f"provider-details-{size[0]}x{size[1]}")
        await shown.pilot.press("i")
        assert ("what its owner allows" in await shown.text()) is (size[0] == 200)


async def test_jobs_are_asked_for_once_and_not_for_good() -> None:
    """The channel of all jobs is heard until its snapshot is whole, and no longer."""
    async with stage(jobs=None) as shown:
        assert channels.ALL_JOBS in shown.connection.subscribed
        await shown.pilot.press("i")
        assert "asking the hub" in await shown.text()
        shown.say(JobsSnapshot(jobs=[], page=1, pages=1))
        assert channels.ALL_JOBS not in shown.connection.subscribed
        assert "none that the hub still knows" in await shown.text()
        shown.app.books.need_jobs()
        assert channels.ALL_JOBS not in shown.connection.subscribed


async def test_a_job_that_ends_is_past_at_once() -> None:
    """What the marketplace says of a job is seen without asking again."""
    async with stage((120, 60)) as shown:
        await shown.pilot.press("i")
        ended = job(
            "train-7f",
            JobState.COMPLETED,
            started_at=to_timestamp(NOW - 192),
            finished_at=to_timestamp(NOW),
            cost_micros=24_000,
        )
        shown.say(JobStateChanged(job=ended))
        assert "completed    3m12s     0.02  train-7f (train)" in await shown.text()


async def test_progress_ticks_in_the_header() -> None:
    """What the job says of itself is seen where it is told."""
    async with stage() as shown:
        told = JobProgress(progress=63, status=JobState.RUNNING, cost_micros=25_000)
        shown.say(
            JobProgressed(job_id="train-7f", progress=told, timestamp=to_timestamp(NOW)), events.JOB_PROGRESS
        )
        assert "63%, 3m12s" in await shown.text()


async def test_the_next_provider_is_a_key_away() -> None:
    """`]` and `[` go through the fleet's table, round its ends; Esc still goes back to it, to that row."""
    async with stage() as shown:
        names = ["rig-40", PROVIDER_ID, "rig-42"]
        fleet = [record(1, id=name, name=name, worker_id=f"w-{name}") for name in names]
        shown.say(FleetSnapshot(providers=fleet, page=1, pages=1))
        table = shown.app.screen_stack[0]
        assert isinstance(table, FleetScreen)
        table.table.sort_rows()
        order = list(table.table.ids)
        seen = [order.index(PROVIDER_ID)]
        for key in (
            "right_square_bracket",
            "right_square_bracket",
            "right_square_bracket",
            "left_square_bracket",
        ):
            await shown.pilot.press(key)
            await shown.pilot.pause()
            seen.append(order.index(shown.screen.provider_id))
        begin = seen[0]
        assert seen == [begin, *((begin + step) % 3 for step in (1, 2, 3, 2))]
        last = shown.screen.provider_id
        await shown.pilot.press("escape")
        assert shown.app.screen.id == table.id
        assert table.table.cursor_id == last


async def test_what_was_seen_is_still_there_when_one_comes_back() -> None:
    """The history that this console saw outlives the screen: the hour's graph is not begun anew."""
    async with stage() as shown:
        rows = len(shown.screen._watched.history)
        await shown.pilot.press("escape")
        await shown.pilot.pause()
        shown.app.open_provider(PROVIDER_ID)
        await shown.pilot.pause()
        assert len(shown.screen._watched.history) == rows > 0


async def test_the_benchmark_is_started_by_a_key() -> None:
    """A job for this provider and no other; then one is where the job is."""
    async with stage() as shown:
        shown.connection.replies["job:submit"] = Event(type="submitted", data=Submitted(job_id="bench-2"))
        await shown.pilot.press("b")
        await shown.app.workers.wait_for_complete()
        await shown.pilot.pause()
        wanted = SubmitJob(workload="benchmark", requires=Requirements(provider_id=PROVIDER_ID))
        assert shown.connection.requests == [("job:submit", wanted)]
        assert not isinstance(shown.app.screen, ProviderScreen)


async def test_a_benchmark_that_is_refused_says_why() -> None:
    """In the hub's words; one stays where one is."""
    async with stage() as shown:
        shown.connection.replies["job:submit"] = Refused(ErrorCode.FORBIDDEN, "this needs the role operator")
        await shown.pilot.press("b")
        await shown.app.workers.wait_for_complete()
        await shown.pilot.pause()
        (note,) = shown.app._notifications
        assert note.message == "this needs the role operator."
        assert shown.screen.provider_id == PROVIDER_ID


async def test_who_offers_no_benchmark_is_not_asked() -> None:
    """A sentence, and no request."""
    async with stage(workloads=[]) as shown:
        await shown.pilot.press("b")
        await shown.pilot.pause()
        (note,) = shown.app._notifications
        assert note.message == f"{PROVIDER_ID} does not offer the workload benchmark."
        assert shown.connection.requests == []


async def test_who_may_only_look_starts_nothing() -> None:
    """With ``--read-only`` the key does nothing and is not offered."""
    async with stage(options=Options(read_only=True)) as shown:
        await shown.pilot.press("b")
        await shown.pilot.pause()
        assert shown.connection.requests == []
        offered = {active.binding.id for active in shown.screen.active_bindings.values() if active.enabled}
        assert "provider.benchmark" not in offered


async def test_the_machine_in_numbers() -> None:
    """Cores one by one, clock, heat, swap and the disk's traffic, where they are known."""
    async with stage((200, 60)) as shown:
        text = await shown.text()
        for absent in ("cores ", "GHz", "swap", "r/w"):
            assert absent not in text.split("host", 1)[1].splitlines()[1]
        shown.connection.sample(
            NOW + 1,
            metrics(
                2,
                cpu_core_percents=[0, 50, 100, 25],
                cpu_mhz=3400,
                cpu_temp=61,
                swap_used_mb=1024,
                swap_total_mb=8192,
                disk_total_mb=1_900_000,
                disk_read_bytes_per_sec=12.4e6,
                disk_write_bytes_per_sec=0,
            ),
        )
        text = await shown.text()
        assert "34% of 32 3.4GHz  61°" in text
        assert "cores ⣠⣇" in text
        assert "swap   1.0/8G" in text
        assert "disk  71% of 2.0TB" in text
        assert "disk r/w  12.4M/s     0B/s" in text


@pytest.mark.parametrize(
    "result", [None, {}, {"figures": 3}, {"figures": [1, {"name": "\x1b[2J"}]}, [1], "x"]
)
def test_a_result_from_outside_is_shown_as_far_as_it_is_one(result: object) -> None:
    """Whatever a job left in the place of figures, nothing fails and nothing steers the terminal."""
    assert all(line.isprintable() for line in benchmark_lines(result))
