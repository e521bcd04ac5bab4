"""The jobs, one job, and the form for a new one, as a person uses them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from textual.command import CommandList
from textual.pilot import Pilot
from textual.widgets import Input, Select, Static

from qubix_tui.client import ConnectionState, Refused
from qubix_tui.console.app import QubixApp
from qubix_tui.console.options import Options
from qubix_tui.console.screens.job import JobScreen
from qubix_tui.console.screens.job_actions import WhyScreen
from qubix_tui.console.screens.jobs import JobsScreen
from qubix_tui.console.screens.pick import PickScreen
from qubix_tui.console.screens.provider import ProviderScreen
from qubix_tui.console.screens.submit import SubmitScreen
from qubix_tui.console.widgets.log_view import LogView
from qubix_tui.console.widgets.record_list import RecordList
from qubix_tui.protocol import channels, events
from qubix_tui.protocol.answers import Match, MatchRule
from qubix_tui.protocol.errors import ErrorCode
from qubix_tui.protocol.events import Event, JobLogged, JobProgressed, Ok, Submitted
from qubix_tui.protocol.job_records import Job, JobProgress, JobState, Receipt, Requirements
from qubix_tui.protocol.marketplace import FleetSnapshot, JobSnapshot, JobsSnapshot, JobStateChanged
from qubix_tui.protocol.requests import JobRef, SubmitJob
from qubix_tui.protocol.types import to_timestamp
from tests.console.provider_stage import StandInConnection, console
from tests.console.records import NOW, provider
from tests.console.snapshots import Snapshot
from tests.console.test_console_app import until
from tests.console.test_console_job_log import piece
from tests.console.test_console_submission import TRAIN

SIZES = [(80, 24), (120, 40), (200, 60)]


def job(name: str, state: JobState, **more: Any) -> Job:
    """A job's record."""
    known: dict[str, Any] = {"workload": "train", "attempt": 1, "created_at": to_timestamp(NOW - 500)}
    return Job(id=name, state=state, **{**known, **more})


RUNNING = job(
    "train-7f",
    JobState.RUNNING,
    provider_id="rig-1-3f9a1c",
    attempt=2,
    params={"epochs": 5, "model": "small"},
    requires=Requirements(gpu_model="4090", min_gpu_mem_mb=24 * 1024, max_price_per_hour=0.5),
    started_at=to_timestamp(NOW - 192),
    price_per_hour=0.45,
    submitted_by="alice",
    progress=JobProgress(
        progress=62, status=JobState.RUNNING, message="epoch 3 of 5", eta_seconds=118, cost_micros=24_000
    ),
)
JOBS = [
    RUNNING,
    job(
        "lost-1",
        JobState.UNKNOWN,
        provider_id="rig-2-3f9a1c",
        started_at=to_timestamp(NOW - 300),
        lease_ends_at=to_timestamp(NOW + 192),
    ),
    job("silent-1", JobState.RUNNING, provider_id="rig-2-3f9a1c", started_at=to_timestamp(NOW - 65)),
    job("wait-1", JobState.QUEUED, attempt=0, workload="render"),
    job(
        "bad-1",
        JobState.FAILED,
        provider_id="rig-1-3f9a1c",
        started_at=to_timestamp(NOW - 90),
        finished_at=to_timestamp(NOW - 30),
        reason="exit_code: 3",
        cost_micros=7_500,
    ),
    job(
        "good-1",
        JobState.COMPLETED,
        provider_id="rig-1-3f9a1c",
        started_at=to_timestamp(NOW - 400),
        finished_at=to_timestamp(NOW - 200),
        result={"loss": 0.031, "files": ["model.bin"]},
        cost_micros=312_000,
    ),
]
RECEIPT = Receipt(
    job_id="train-7f",
    attempt=1,
    provider_id="rig-2-3f9a1c",
    assigned_at=to_timestamp(NOW - 480),
    started_at=to_timestamp(NOW - 478),
    ended_at=to_timestamp(NOW - 200),
    status="failed",
    reason="lost",
    running_ms=42_000,
    price_per_hour=0.4,
    cost_micros=4_667,
)


class Stage:
    """The console on the jobs, with the hub in the test's hands."""

    def __init__(self, app: QubixApp, connection: StandInConnection, pilot: Pilot[None]) -> None:
        self.app, self.connection, self.pilot = app, connection, pilot

    @property
    def ids(self) -> list[str]:
        """The jobs that are listed."""
        return [row.job.id for row in self.app.screen.query_one(RecordList).records]

    def say(
        self, data: Any, kind: str = events.MARKETPLACE_UPDATE, channel: str = channels.MARKETPLACE
    ) -> None:
        """Let the hub say something."""
        for handler in list(self.connection.handlers):
            handler(Event(type=kind, data=data, channel=channel))

    def print(self, *texts: str) -> None:
        """Let the job print something, right after what it printed before."""
        for text in texts:
            self.say(piece_of(text, self.printed), events.JOB_LOGS, channels.job_channel("train-7f"))
            self.printed += len(text)

    printed = 0

    def answer(self, kind: str, reply: str, data: Any) -> None:
        """Let the hub answer a kind of request from now on."""
        self.connection.replies[kind] = Event(type=reply, data=data)

    def snapshot(self, one: Job | None = RUNNING) -> None:
        """Let the hub answer what it knows of the job."""
        receipts = [RECEIPT] if one is not None else []
        self.say(JobSnapshot(job_id="train-7f", job=one, receipts=receipts))

    async def press(self, *keys: str) -> None:
        """Type, and let what that asks of the hub be done."""
        await self.pilot.press(*keys)
        await self.app.workers.wait_for_complete()
        await self.pilot.pause()

    async def lines(self) -> list[str]:
        """Give what is on the screen, once it is up to date."""
        await self.pilot.pause()
        screen = self.app.screen
        if isinstance(screen, JobsScreen | JobScreen):
            screen._wake()
        await self.pilot.pause()
        return [strip.text for strip in self.app.screen._compositor.render_strips()]

    async def text(self) -> str:
        """Give what is on the screen as one text."""
        return "\n".join(await self.lines())


def piece_of(text: str, start: int) -> JobLogged:
    """A piece of the running job's log."""
    one = piece(text, start)
    return JobLogged(job_id="train-7f", stream=one.stream, from_=start, text=text, timestamp=one.timestamp)


@asynccontextmanager
async def stage(
    size: tuple[int, int] = (120, 40),
    *,
    filled: bool = True,
    ascii_only: bool = False,
    options: Options | None = None,
) -> AsyncIterator[Stage]:
    """Open the console on the jobs."""
    app, connection = console(ascii_only=ascii_only)
    if options is not None:
        app.options = options
    connection.now = NOW
    app.monotonic = lambda: 1000.0
    app._alerts_wait = True  # alerts are told when the test says so
    async with app.run_test(size=size, notifications=True) as pilot:
        shown = Stage(app, connection, pilot)
        fleet = [
            provider("rig-1", workloads=[TRAIN]),
            provider("rig-2", workloads=[TRAIN], price_per_hour=0.2),
        ]
        shown.say(FleetSnapshot(providers=fleet, page=1, pages=1))
        await pilot.press("j")
        if filled:
            shown.say(JobsSnapshot(jobs=JOBS, page=1, pages=1))
        await shown.lines()
        yield shown


@pytest.mark.parametrize("size", SIZES)
async def test_all_jobs(size: tuple[int, int], snapshot: Snapshot) -> None:
    """What is lost first, then what runs, waits and is over; a bar only where a share is reported."""
    async with stage(size) as shown:
        text = await shown.text()
        assert shown.ids == ["lost-1", "silent-1", "train-7f", "wait-1", "bad-1", "good-1"]
        assert " 62% ━" in text
        assert "runs 1m05s" in text
        assert "waits 8m20s" in text
        snapshot(shown.app, f"jobs-{size[0]}x{size[1]}")


async def test_no_jobs_yet(snapshot: Snapshot) -> None:
    """First it asks; then it says how to submit one."""
    async with stage((80, 24), filled=False) as shown:
        assert "Asking the hub for the jobs." in await shown.text()
        shown.say(JobsSnapshot(jobs=[], page=1, pages=1))
        assert "qubix submit WORKLOAD" in await shown.text()
        snapshot(shown.app, "jobs-empty")


async def test_hub_down_leaves_no_live_picture(snapshot: Snapshot) -> None:
    """The table is dimmed when the hub is gone."""
    async with stage((80, 24)) as shown:
        shown.connection.change_state(ConnectionState.OPEN)
        shown.connection.change_state(ConnectionState.RECONNECTING)
        assert "stale" in await shown.text()
        assert shown.app.screen.query_one(RecordList).is_past
        snapshot(shown.app, "jobs-down")


async def test_progress_is_heard_only_while_somebody_looks() -> None:
    """The channel of all jobs is left with the screen."""
    async with stage() as shown:
        assert channels.ALL_JOBS in shown.connection.subscribed
        await shown.press("f")
        assert channels.ALL_JOBS not in shown.connection.subscribed
        await shown.press("j")
        assert channels.ALL_JOBS in shown.connection.subscribed
        told = JobProgress(progress=63, status=JobState.RUNNING)
        progressed = JobProgressed(job_id="train-7f", progress=told, timestamp=to_timestamp(NOW))
        shown.say(progressed, events.JOB_PROGRESS, channels.ALL_JOBS)
        assert " 63% ━" in await shown.text()


async def test_filter_and_the_way_back() -> None:
    """Words of any of a job's fields; Esc clears, then leaves."""
    async with stage() as shown:
        await shown.press("slash", *"rig-1 train", "down")
        assert set(shown.ids) == {"train-7f", "bad-1", "good-1"}
        await shown.press("slash", *" failed")
        assert shown.ids == ["bad-1"]
        await shown.press(*"x")
        assert "None of 6 jobs has rig-1 train failedx" in await shown.text()
        await shown.press("escape")
        await shown.lines()
        assert len(shown.ids) == 6
        await shown.press("escape")
        assert not isinstance(shown.app.screen, JobsScreen)


async def test_cancel_asks_first() -> None:
    """No is the first choice; yes asks the hub, and says that it did."""
    async with stage() as shown:
        shown.answer("job:cancel", "ok", Ok())
        shown.app.screen.query_one(RecordList).select("train-7f")
        await shown.press("x")
        assert isinstance(shown.app.screen, PickScreen)
        assert "Cancel train-7f?" in await shown.text()
        await shown.press("n")
        assert shown.connection.requests == []
        await shown.press("x", "y")
        assert shown.connection.requests == [("job:cancel", JobRef(job_id="train-7f"))]
        assert "the hub was asked to cancel" in [note.message for note in shown.app._notifications][-1]


async def test_marked_jobs_are_cancelled_together() -> None:
    """Those that are over are left alone; what the hub refuses is said of each."""
    async with stage() as shown:
        shown.connection.replies["job:cancel"] = Refused(ErrorCode.CONFLICT, "it has just ended")
        await shown.press("home", *["space"] * 6)
        assert "6 marked" in await shown.text()
        await shown.press("x")
        assert "Cancel 4 jobs?" in await shown.text()
        assert "2 that are over stay as they are." in await shown.text()
        await shown.press("y")
        assert len(shown.connection.requests) == 4
        assert any("goes on: it has just ended." in note.message for note in shown.app._notifications)


async def test_what_is_over_can_not_be_cancelled() -> None:
    """A sentence, and no question."""
    async with stage() as shown:
        await shown.press("end", "x")
        assert isinstance(shown.app.screen, JobsScreen)
        assert [note.message for note in shown.app._notifications] == ["What is over can't be cancelled."]


async def test_why_it_waits(snapshot: Snapshot) -> None:
    """Rule by rule, how many providers meet it, and what would change the nearest miss."""
    async with stage((80, 24)) as shown:
        rules = [
            MatchRule(rule="gpu_model", passing=2),
            MatchRule(rule="available", passing=0, nearest="rig-1 is busy until its job is over"),
        ]
        shown.answer("job:why", "match", Match(job_id="wait-1", providers=2, rules=rules))
        shown.app.screen.query_one(RecordList).select("wait-1")
        await shown.press("w")
        assert isinstance(shown.app.screen, WhyScreen)
        text = await shown.text()
        assert "2 providers were looked at." in text
        assert "rig-1 is busy until its job is over" in text
        snapshot(shown.app, "job-why")
        await shown.press("escape")
        assert isinstance(shown.app.screen, JobsScreen)


async def test_who_may_only_look_changes_nothing() -> None:
    """With ``--read-only`` there is no key to submit or cancel; to look is still allowed."""
    async with stage(options=Options(read_only=True)) as shown:
        await shown.press("x", "n")
        assert isinstance(shown.app.screen, JobsScreen)
        offered = {one.binding.id for one in shown.app.screen.active_bindings.values() if one.enabled}
        assert {"jobs.cancel", "jobs.submit"}.isdisjoint(offered)
        assert "jobs.why" in offered


@pytest.mark.parametrize("size", SIZES)
async def test_one_job(size: tuple[int, int], snapshot: Snapshot) -> None:
    """How it does, its live log, and beside it (or by `i`) attempts, parameters and requirements."""
    async with stage(size) as shown:
        shown.app.open_job("train-7f")
        await shown.pilot.pause()
        shown.snapshot()
        shown.print("loading\n", "epoch 1 loss 0.5\n", "epoch 2 loss 0.3\nepoch 3 ")
        text = await shown.text()
        assert "train-7f (train)  ▲ running  on rig-1, attempt 2" in text
        assert "62% ━" in text
        assert "runs for 3m12s, 1m58s left, it says, cost" in text
        assert "epoch 3 of 5" in text
        assert "epoch 2 loss 0.3" in text
        assert "4 lines, follows" in text
        snapshot(shown.app, f"job-{size[0]}x{size[1]}")
        await shown.press("i")
        text = await shown.text()
        assert "failed, lost on rig-2-3f9a1c, ran 42s" in text
        assert "epochs      5" in text
        assert "at least 24G a GPU" in text
        await shown.press("escape")
        assert isinstance(shown.app.screen, JobsScreen)


async def test_a_job_that_is_over_shows_what_it_left() -> None:
    """Its result as it came, its reason, and that it printed nothing."""
    async with stage() as shown:
        shown.app.open_job("good-1")
        await shown.lines()
        assert "it printed nothing" in await shown.text()
        await shown.press("i")
        text = await shown.text()
        assert '"loss": 0.031,' in text
        assert '"model.bin"' in text


async def test_a_job_that_nobody_knows_is_said() -> None:
    """First it asks; then it says that the hub has none of that name."""
    async with stage() as shown:
        shown.app.open_job("nobody")
        assert "Asking the hub for nobody." in await shown.text()
        shown.say(JobSnapshot(job_id="nobody", job=None))
        assert "The hub knows no job nobody; old ones are let go." in await shown.text()


async def test_the_log_follows_holds_and_is_searched() -> None:
    """`space` holds it, `/` searches, `n` and `N` go on, Esc ends the search, `end` follows again."""
    async with stage((120, 24)) as shown:
        shown.app.open_job("train-7f")
        await shown.pilot.pause()
        shown.snapshot()
        shown.print(*(f"line {number}{' ERROR' if number in {7, 90} else ''}\n" for number in range(200)))
        assert "line 199" in await shown.text()
        await shown.press("space")
        shown.print("one more\n")
        text = await shown.text()
        assert "held still, 1 line new" in text
        assert "one more" not in text
        await shown.press("space")
        assert "one more" in await shown.text()
        await shown.press("slash", *"error", "enter")
        assert "line 90 ERROR" in await shown.text()
        await shown.press("n")
        assert "line 7 ERROR" in await shown.text()
        await shown.press("N")
        assert "line 90 ERROR" in await shown.text()
        shown.print("unseen\n")
        assert "line 90 ERROR" in await shown.text(), "what comes does not take away what is read"
        await shown.press("escape")
        assert isinstance(shown.app.screen, JobScreen)
        await shown.press("end")
        assert "unseen" in await shown.text()
        await shown.press("home")
        assert "line 0" in await shown.text()
        assert "scrolled back" in await shown.text()


@pytest.mark.parametrize(("ascii_only", "sign"), [(False, "…"), (True, ">")])
async def test_a_long_line_is_cut_with_a_sign_and_reached_by_keys(ascii_only: bool, sign: str) -> None:
    """No bar takes a line of the log; `right` goes on to the end of the line, `left` back."""
    async with stage((80, 24), ascii_only=ascii_only) as shown:
        shown.app.open_job("train-7f")
        await shown.pilot.pause()
        shown.snapshot()
        shown.print("".join(f"line {number}\n" for number in range(50)), f"{'x' * 100} the end\n")
        lines = await shown.lines()
        assert any(line.strip() == "x" * 76 + sign for line in lines), lines
        await shown.press(*["right"] * 4)
        assert any(line.rstrip(" █▁").endswith("x the end") for line in await shown.lines())
        await shown.press(*["left"] * 4)
        assert any(line.strip() == "x" * 76 + sign for line in await shown.lines())


async def test_a_search_that_finds_nothing_says_so() -> None:
    """While it is typed by its colour, afterwards in words."""
    async with stage() as shown:
        shown.app.open_job("train-7f")
        await shown.pilot.pause()
        shown.snapshot()
        shown.print("line\n")
        await shown.lines()
        await shown.press("slash", *"zebra")
        assert shown.app.screen.query_one("#log-search", Input).has_class("-wrong")
        await shown.press("enter", "n")
        assert "The log has no zebra in it." in [note.message for note in shown.app._notifications]


async def test_a_snapshot_again_does_not_repeat_the_log() -> None:
    """After a reconnection the tail comes again: it replaces what was there."""
    async with stage() as shown:
        shown.app.open_job("train-7f")
        await shown.pilot.pause()
        shown.snapshot()
        shown.print("one\n", "two\n")
        shown.snapshot()
        shown.printed = 0
        shown.print("one\n", "two\n")
        await shown.lines()
        screen = shown.app.screen
        assert isinstance(screen, JobScreen)
        assert [line.text for line in screen.job_log.lines] == ["one", "two"]


async def test_the_log_is_copied_and_saved() -> None:
    """`y` copies all of it; saved it is a table of streams and lines."""
    async with stage() as shown:
        shown.app.open_job("train-7f")
        await shown.pilot.pause()
        shown.snapshot()
        shown.print("one\ntwo\n")
        await shown.press("y")
        assert shown.app.clipboard == "one\ntwo\n"
        screen = shown.app.screen
        assert isinstance(screen, JobScreen)
        assert screen.saved().rows == [("stdout", "one"), ("stdout", "two")]


async def test_a_job_leads_to_its_provider() -> None:
    """`o`, and Esc back to the job."""
    async with stage() as shown:
        shown.app.open_job("train-7f")
        await shown.pilot.pause()
        await shown.press("o")
        seen = [type(shown.app.screen)]
        await shown.press("escape")
        assert [*seen, type(shown.app.screen)] == [ProviderScreen, JobScreen]


async def test_drawing_does_not_grow_with_the_log() -> None:
    """Of ten thousand lines those in view are drawn."""
    async with stage((120, 24)) as shown:
        shown.app.open_job("train-7f")
        await shown.pilot.pause()
        shown.snapshot()
        shown.print("".join(f"{number}\n" for number in range(10_000)))
        assert "9999" in await shown.text()
        assert len(shown.app.screen.query_one(LogView)._styles) <= 4


async def test_a_job_is_submitted_by_a_form(snapshot: Snapshot) -> None:
    """Workload, its parameters, requirements; who matches now; then one is where the job is."""
    async with stage((100, 40)) as shown:
        shown.answer("job:submit", "submitted", Submitted(job_id="new-1"))
        await shown.press("n")
        form = shown.app.screen
        assert isinstance(form, SubmitScreen)
        verdict = form.query_one("#verdict", Static)
        assert "workload: choose one" in str(verdict.content)
        form.query_one("#workload", Select).value = "train"
        await shown.pilot.pause()
        assert "the parameter model is missing" in str(verdict.content)
        model = next(field for field in form.query(Input) if field.name == "model")
        model.focus()
        await shown.press(*"huge")
        assert model.has_class("-wrong")
        model.value = "large"
        await shown.pilot.pause()
        assert str(verdict.content) == (
            "2 providers match now; an hour costs 0.20 to 0.45, the cheapest is taken first."
        )
        form.query_one("#field-price", Input).value = "0.3"
        await shown.pilot.pause()
        assert "1 provider matches now" in str(verdict.content)
        snapshot(shown.app, "job-form")
        await shown.press("f2")
        wanted = SubmitJob(
            workload="train", params={"model": "large"}, requires=Requirements(max_price_per_hour=0.3)
        )
        assert shown.connection.requests == [("job:submit", wanted)]
        assert isinstance(shown.app.screen, JobScreen)
        assert shown.app.screen.job_id == "new-1"


async def test_a_form_that_is_wrong_is_not_handed_in() -> None:
    """The key leads to the field at fault; Esc gives it up."""
    async with stage((100, 40)) as shown:
        await shown.press("n")
        form = shown.app.screen
        form.query_one("#workload", Select).value = "train"
        await shown.pilot.pause()
        await shown.press("f2")
        assert shown.app.screen is form
        assert isinstance(form.focused, Input)
        assert form.focused.name == "model"
        await shown.press("escape")
        assert isinstance(shown.app.screen, JobsScreen)
        assert shown.connection.requests == []


async def test_without_anything_to_run_the_form_says_so() -> None:
    """What may be run is up to the owners."""
    async with stage((100, 40)) as shown:
        shown.say(FleetSnapshot(providers=[provider("rig-1")], page=1, pages=1))
        await shown.press("n")
        verdict = shown.app.screen.query_one("#verdict", Static)
        assert "No provider offers anything to run" in str(verdict.content)


async def test_the_palette_finds_jobs() -> None:
    """By a few letters of their ids, whatever view is in front; chosen, one is opened."""
    async with stage() as shown:
        await shown.press("f", "colon", *"trn7f")
        await until(shown.pilot, lambda: shown.app.screen.query_one(CommandList).option_count > 0)
        await shown.press("enter")
        await until(shown.pilot, lambda: isinstance(shown.app.screen, JobScreen))
        assert shown.app.screen.place.subject == "train-7f"  # type: ignore[attr-defined]


async def test_jobs_are_copied_and_saved() -> None:
    """The ids of what is marked; a table of all that is listed."""
    async with stage() as shown:
        await shown.press("home", "space", "space")
        await shown.press("y")
        assert len(shown.app.clipboard.splitlines()) == 2
        screen = shown.app.screen
        assert isinstance(screen, JobsScreen)
        table = screen.saved()
        assert len(table.rows) == 6
        assert all(len(row) == len(table.columns) for row in table.rows)


async def test_ascii_only_means_ascii() -> None:
    """With ``--ascii`` no cell of the table or of a job is anything else."""
    async with stage(ascii_only=True) as shown:
        assert (await shown.text()).isascii()
        shown.app.open_job("train-7f")
        await shown.pilot.pause()
        shown.snapshot()
        assert (await shown.text()).isascii()


async def test_a_job_that_ends_is_over_where_it_is_looked_at() -> None:
    """Its end is seen on its screen, with the reason."""
    async with stage() as shown:
        shown.app.open_job("train-7f")
        await shown.pilot.pause()
        shown.snapshot()
        ended = job(
            "train-7f", JobState.FAILED, attempt=2, reason="exit_code: 3", started_at=RUNNING.started_at
        )
        shown.say(JobStateChanged(job=ended))
        text = await shown.text()
        assert "× failed" in text
        assert "exit_code: 3" in text
