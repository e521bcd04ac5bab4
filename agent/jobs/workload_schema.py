"""What an owner may write in ``workloads.toml``: its tables, each key with its default and its reason."""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from agent.jobs.launch import DEFAULT_GRACE_SECONDS, DEFAULT_LOG_BYTES, Sandbox
from qubix_tui.settings.schema import Schema, Text

MIB: Final = 1024 * 1024
MOST_SECONDS: Final = 366 * 86_400

Seconds = Annotated[float, Meta(gt=0, le=MOST_SECONDS)]


class WorkloadTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[workload.NAME]``: one program that may be run."""

    description: Annotated[Text | None, Meta(description="One line for the people who submit jobs.")] = None
    command: Annotated[
        tuple[str, ...],
        Meta(description="The program and its arguments; {name} is a place for a parameter. No shell."),
    ] = ()
    gpus: Annotated[
        Annotated[int, Meta(ge=0, le=1024)] | Literal["all"],
        Meta(
            description='How many it gets to itself, or "all".',
            extra={"expected": 'a whole number from 0 to 1024, or "all"'},
        ),
    ] = 0
    sandbox: Annotated[
        Sandbox, Meta(description="What it is shut into. Only its owner can choose to do without.")
    ] = "bubblewrap"
    image: Annotated[
        Text | None,
        Meta(description="Of a container: name and digest. It has to be here already: nothing is pulled."),
    ] = None
    network: Annotated[bool, Meta(description="Whether it may use the network from its sandbox.")] = False
    read: Annotated[
        tuple[Text, ...],
        Meta(description="Files and directories that it may read though the sandbox hides them."),
    ] = ()
    progress: Annotated[
        Literal["json", "tqdm", "none"] | dict[str, Any],
        Meta(
            description="Where its progress is read.",
            extra={
                "expected": '"json", "tqdm", "none", { fraction_file = "path" } or { regex = "pattern" }',
            },
        ),
    ] = "json"
    no_progress_seconds: Annotated[
        Seconds | None, Meta(description="It is ended once it has reported nothing new for so long.")
    ] = None
    grace_seconds: Annotated[
        float, Meta(ge=0, le=3600, description="Between asking it to end (SIGTERM) and ending it (SIGKILL).")
    ] = DEFAULT_GRACE_SECONDS


class LimitsTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[workload.NAME.limits]``: what it may use. What is not here is not limited."""

    memory_mb: Annotated[
        Annotated[int, Meta(ge=16, le=2**30)] | None, Meta(description="MiB of memory, of all its processes.")
    ] = None
    cpu_cores: Annotated[
        Annotated[int, Meta(ge=1, le=65_536)] | None, Meta(description="How many cores it may run on.")
    ] = None
    cpu_seconds: Annotated[
        Annotated[int, Meta(ge=1, le=MOST_SECONDS)] | None,
        Meta(description="Processor time of each of its processes."),
    ] = None
    wall_seconds: Annotated[
        Seconds | None, Meta(description="How long it may run; a job may ask for less, never for more.")
    ] = None
    log_mb: Annotated[
        float, Meta(gt=0, le=1024, description="MiB of output that are kept; the middle of more is dropped.")
    ] = DEFAULT_LOG_BYTES / MIB
    processes: Annotated[
        Annotated[int, Meta(ge=1, le=2**22)] | None, Meta(description="Processes and threads, together.")
    ] = None
    open_files: Annotated[
        Annotated[int, Meta(ge=16, le=2**20)] | None,
        Meta(description="File descriptors of each of its processes."),
    ] = None


class ParameterTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[workload.NAME.parameters.NAME]``: what a job may say about it."""

    type: Annotated[
        Literal["string", "integer", "number", "boolean"] | None, Meta(description="What it has to be.")
    ] = None
    default: Annotated[
        str | bool | int | float | None,
        Meta(
            description="Without it, a job has to give one.",
            extra={"expected": "a text, a number, true or false"},
        ),
    ] = None
    min: Annotated[
        Annotated[float, Meta(ge=-(2**53), le=2**53)] | None, Meta(description="The least, of a number.")
    ] = None
    max: Annotated[
        Annotated[float, Meta(ge=-(2**53), le=2**53)] | None, Meta(description="The most, of a number.")
    ] = None
    pattern: Annotated[
        Text | None, Meta(description="A regular expression that all of a text has to match.")
    ] = None
    choices: Annotated[
        tuple[str | bool | int | float, ...] | None,
        Meta(
            description="The values that it may have.",
            extra={"expected": "a list of texts, of numbers or of truth values"},
        ),
    ] = None


class Tables(msgspec.Struct, frozen=True, kw_only=True):
    """The kinds of table in ``workloads.toml``."""

    workload: WorkloadTable = WorkloadTable()
    limits: LimitsTable = LimitsTable()
    parameter: ParameterTable = ParameterTable()


SCHEMA: Final = Schema(
    Tables,
    file_name="workloads.toml",
    command="qubix-agent workloads",
    heading="",
    flags={},
    environment={},
)
"""What each key has to be, and the words for it."""
