"""A form for a job: checked as it is typed, with who could take it now."""

from typing import ClassVar, Final

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Select, Static

from qubix_tui.console.fleet import Fleet
from qubix_tui.console.format import safe
from qubix_tui.console.submission import Draft, DraftError, hint, offered, preview, preview_words
from qubix_tui.protocol.records import Provider
from qubix_tui.protocol.requests import SubmitJob

FIELDS: Final = (
    ("gpu", "GPU", "any model that has this in its name"),
    ("memory", "memory", "GiB that one GPU has at least"),
    ("price", "price", "at most, per hour"),
    ("provider", "provider", "the id of this one and no other"),
    ("timeout", "timeout", "seconds after which it is ended"),
    ("retries", "retries", "other attempts if its provider is lost or it fails"),
)
"""Name, label, and what it takes, in the form's order."""


class SubmitScreen(ModalScreen[SubmitJob | None]):
    """Asks for a job; gives it, or None.

    Args:
        fleet: Whose providers offer the workloads.
    """

    CSS_PATH = "../styles/submit.tcss"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "close", id="submit.close", tooltip="Submit nothing"),
        Binding("f2", "submit", "submit", id="submit.submit", tooltip="Submit the job"),
    ]

    def __init__(self, fleet: Fleet) -> None:
        super().__init__()
        self._fleet = fleet
        self._draft = Draft()
        self._workloads = offered(self._providers())
        providers = list(self._providers())
        self._draft.simulated = bool(providers) and all(one.simulated for one in providers)

    def compose(self) -> ComposeResult:
        """Put the screen together."""
        with Vertical(id="form"):
            yield Static("New job", classes="title", markup=False)
            with VerticalScroll(id="fields"):
                with Horizontal(classes="field"):
                    yield Static("workload", classes="label", markup=False)
                    names = [(name, name) for name in self._workloads]
                    yield Select(names, prompt="choose what is to run", compact=True, id="workload")
                yield Static(id="description", markup=False)
                yield Vertical(id="params")
                for name, label, words in FIELDS:
                    with Horizontal(classes="field"):
                        yield Static(label, classes="label", markup=False)
                        yield Input(placeholder=words, compact=True, id=f"field-{name}")
                with Horizontal(classes="field"):
                    yield Static("simulated", classes="label", markup=False)
                    kinds = [("no: a real provider", False), ("yes: a made-up one", True)]
                    yield Select(
                        kinds, value=self._draft.simulated, allow_blank=False, compact=True, id="simulated"
                    )
            yield Static(id="verdict", markup=False)
            with Horizontal(id="buttons"):
                yield Button("Submit (F2)", id="submit", compact=True)
                yield Button("Cancel (Esc)", id="cancel", compact=True)

    def on_mount(self) -> None:
        """Begin with the workload."""
        self.query_one("#workload").focus()
        self._check()
        # The fleet goes on meanwhile: who matches now is told anew.
        self.set_interval(1.0, self._check)

    def action_submit(self) -> None:
        """Hand the job over, if nothing is wrong with it."""
        try:
            job = self._draft.job()
        except DraftError as error:
            self._complain(error)
            self._go_to(error.field)
        else:
            self.dismiss(job)

    @on(Button.Pressed, "#submit")
    def _pressed_submit(self) -> None:
        self.action_submit()

    @on(Button.Pressed, "#cancel")
    def _pressed_cancel(self) -> None:
        self.dismiss(None)

    @on(Select.Changed, "#workload")
    async def _chosen(self, event: Select.Changed) -> None:
        workload = self._workloads.get(str(event.value))
        self._draft.workload, self._draft.params = workload, {}
        words = safe(workload.description or "") if workload is not None else ""
        self.query_one("#description", Static).update(words)
        params = self.query_one("#params", Vertical)
        await params.remove_children()
        for param in workload.params if workload is not None else ():
            field = Input(placeholder=safe(hint(param)), compact=True, name=param.name, classes="param")
            await params.mount(
                Horizontal(Static(param.name, classes="label", markup=False), field, classes="field")
            )
        self._check()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        if event.input.has_class("param") and event.input.name is not None:
            self._draft.params[event.input.name] = event.value
        elif event.input.id is not None:
            setattr(self._draft, event.input.id.removeprefix("field-"), event.value)
        self._check()

    @on(Input.Submitted)
    def _entered(self) -> None:
        self.action_submit()

    @on(Select.Changed, "#simulated")
    def _kind_chosen(self, event: Select.Changed) -> None:
        self._draft.simulated = event.value is True
        self._check()

    def _check(self) -> None:
        """Say what is wrong with what was typed, else who could take the job."""
        for field in self.query(Input):
            field.remove_class("-wrong")
        try:
            job = self._draft.job()
        except DraftError as error:
            self._complain(error)
            return
        verdict = self.query_one("#verdict", Static)
        verdict.remove_class("-wrong")
        verdict.update(preview_words(preview(job.requires, job.workload, self._providers())))

    def _complain(self, error: DraftError) -> None:
        verdict = self.query_one("#verdict", Static)
        if error.field == "workload" and not self._workloads:
            verdict.update("No provider offers anything to run: what may be run is up to each owner.")
        else:
            verdict.update(safe(str(error)))
        verdict.add_class("-wrong")
        field = self._field(error.field)
        if isinstance(field, Input):
            field.add_class("-wrong")

    def _go_to(self, name: str) -> None:
        field = self._field(name)
        if field is not None:
            field.focus()

    def _field(self, name: str) -> Input | Select[str] | None:
        if name == "workload":
            return self.query_one("#workload", Select)
        if name.startswith("param-"):
            wanted = name.removeprefix("param-")
            return next((field for field in self.query(Input) if field.name == wanted), None)
        return self.query_one(f"#field-{name}", Input)

    def _providers(self) -> list[Provider]:
        return [row.record for row in self._fleet.rows.values()]
