"""What can be done with jobs from several screens: submit one, cancel some, and ask why one waits."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from qubix_tui.client import ClientError
from qubix_tui.console.format import safe
from qubix_tui.console.job_book import JobRow
from qubix_tui.console.screens.pick import Choice, PickScreen
from qubix_tui.console.screens.submit import SubmitScreen
from qubix_tui.protocol.answers import Match
from qubix_tui.protocol.job_records import Job
from qubix_tui.protocol.requests import JobRef, SubmitJob

if TYPE_CHECKING:
    from qubix_tui.console.app import QubixApp

JOB_SUBMIT = "job:submit"
JOB_CANCEL = "job:cancel"
JOB_WHY = "job:why"


def submit(app: "QubixApp", job: SubmitJob) -> None:
    """Hand a job in, and show it, or say why it is refused."""
    app.run_worker(_submit(app, job), exit_on_error=False)


async def _submit(app: "QubixApp", job: SubmitJob) -> None:
    reply = await app.ask(JOB_SUBMIT, job)
    if reply is not None:
        app.notify(f"Job {reply.data.job_id} is submitted.", markup=False)
        app.open_job(reply.data.job_id)


def open_form(app: "QubixApp") -> None:
    """Ask for a job, and submit it."""

    def filled(job: SubmitJob | None) -> None:
        if job is not None:
            submit(app, job)

    app.push_screen(SubmitScreen(app.fleet), filled)


def ask_to_cancel(app: "QubixApp", rows: Sequence[JobRow]) -> None:
    """Ask whether some jobs are to be cancelled; then have it done."""
    open_ones = [row.job for row in rows if not row.job.state.is_final]
    if not open_ones:
        app.notify("What is over can't be cancelled." if rows else "Nothing is selected.", markup=False)
        return
    count = len(open_ones)
    question = f"Cancel {open_ones[0].id}?" if count == 1 else f"Cancel {count} jobs?"
    over = len(rows) - count
    note = "One that runs is asked to end, and killed when it does not."
    if over:
        note += f" {over} that are over stay as they are."
    choices = [Choice("n", "no, let run", False), Choice("y", f"yes, cancel {count}", True)]

    def answered(yes: bool | None) -> None:
        if yes:
            app.run_worker(_cancel(app, open_ones), exit_on_error=False)

    app.push_screen(PickScreen(question, choices, note=note), answered)


async def _cancel(app: "QubixApp", jobs: Sequence[Job]) -> None:
    asked = 0
    for job in jobs:
        try:
            await app.connection.request(JOB_CANCEL, JobRef(job_id=job.id))
        except ClientError as error:
            app.notify(f"{job.id} goes on: {safe(str(error))}.", severity="warning", markup=False)
        else:
            asked += 1
    if asked:
        what = jobs[0].id if len(jobs) == 1 else f"{asked} jobs"
        app.notify(f"{what}: the hub was asked to cancel.", markup=False)


def show_why(app: "QubixApp", job: Job) -> None:
    """Ask the hub what providers a job finds, and show its answer."""
    app.run_worker(_show_why(app, job), exit_on_error=False)


async def _show_why(app: "QubixApp", job: Job) -> None:
    reply = await app.ask(JOB_WHY, JobRef(job_id=job.id))
    if reply is not None:
        app.push_screen(WhyScreen(job, reply.data))


class WhyScreen(ModalScreen[None]):
    """Rule by rule, how many providers a job finds, and the nearest miss.

    Args:
        job: Which.
        match: What the hub answered.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,w,q,enter", "dismiss", "close", id="why.close", tooltip="Close this"),
    ]

    def __init__(self, job: Job, match: Match) -> None:
        super().__init__()
        self._job = job
        self._match = match

    def compose(self) -> ComposeResult:
        """Put the screen together."""
        with VerticalScroll(classes="dialog"):
            yield Static(f"Why {self._job.id} is {self._job.state}", classes="title", markup=False)
            yield Static(self._table(), markup=False)

    def _table(self) -> Text:
        match = self._match
        text = Text(f"{match.providers} providers were looked at.\n\n")
        width = max((len(rule.rule) for rule in match.rules), default=0)
        for rule in match.rules:
            name = safe(rule.rule).replace("_", " ")
            text.append(f"{name:<{width}}  {rule.passing:>6} fit", "bold" if not rule.passing else "")
            text.append("\n")
            if rule.nearest:
                text.append(f"{'':<{width}}  {safe(rule.nearest)}\n", "dim")
        return text
