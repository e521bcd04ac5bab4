"""What this machine offers to run: what its owner wrote, as far as it can be run here, and the benchmark."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Self

import msgspec

from agent.jobs import built_in, workload_file
from agent.jobs.child import StartFailed, identity
from agent.jobs.definition import Definition
from agent.jobs.launch import Launch
from agent.jobs.runner import PATH
from agent.jobs.selftest import check_launch, check_sandbox
from qubix_tui.protocol.codec import encode_record
from qubix_tui.protocol.errors import ProtocolError
from qubix_tui.protocol.records import Workload
from qubix_tui.protocol.types import JsonObject
from qubix_tui.settings.schema import SettingsError

MOST_RECORD_BYTES: Final = 32 * 1024
"""Of all workloads, as encoded: a hub takes 48 KiB of all that a provider says of itself."""

JOB_USER: Final = "nobody"
"""Whom jobs run as where the agent runs as root, unless its owner says otherwise."""

_PATIENCE_SECONDS: Final = 30.0


class Refusal(Exception):
    """A job can't be run here; the message says why."""


class Entry(NamedTuple):
    """One workload, tried out."""

    definition: Definition
    user: str | None
    """Whom it runs as; None for the agent's own user."""
    reason: str | None
    """Why it is not offered; None if it is."""


def owner_file(asked: str | None, home: Path) -> Path | None:
    """Give the owner's file: the one that was asked for, else the one in QUBIX_HOME, None where none is."""
    if asked is not None:
        return Path(asked)
    usual = home / workload_file.FILE_NAME
    return usual if os.path.lexists(usual) else None


class Catalogue:
    """The workloads of one agent, each tried out when the agent starts.

    Args:
        definitions: All that there are.
        user: Whom jobs run as; None for the agent's own user.
        hidden: Files that no sandbox shows.

    Attributes:
        entries: All of them, offered or not.
    """

    def __init__(
        self, definitions: Iterable[Definition], *, user: str | None, hidden: Sequence[str] = ()
    ) -> None:
        self._hidden = list(hidden)
        self.entries = tuple(_try_out(definitions, user))
        self._entries = {entry.definition.name: entry for entry in self.entries}

    @classmethod
    def load(cls, path: Path | None, *, user: str | None = None, hidden: Sequence[str] = ()) -> Self:
        """Read what the owner allows, and try it out: it takes a moment.

        Args:
            path: The owner's file; None for none, which offers the built-in workload alone.
            user: Whom jobs run as; None for the usual one: `JOB_USER` if this is root, else the agent's user.
            hidden: Files that no sandbox shows: where the agent's token is, say.

        Raises:
            SettingsError: The file can't be used; the message names the line.
        """
        return cls(read(path), user=user or (JOB_USER if os.geteuid() == 0 else None), hidden=hidden)

    def offered(self, gpus: int | None = None) -> list[Workload]:
        """Give what the hub is told.

        Args:
            gpus: How many this machine has; what needs more is left out. None where nobody knows yet.
        """
        return [
            entry.definition.record()
            for entry in self.entries
            if entry.reason is None and (gpus is None or (entry.definition.gpus or 0) <= gpus)
        ]

    def prepare(
        self,
        workload: str,
        params: JsonObject,
        *,
        job_id: str,
        attempt: int,
        gpus: Sequence[str],
        timeout_seconds: float | None = None,
    ) -> Launch:
        """Give what runs one attempt at a job.

        Args:
            workload: Its name, from the hub.
            params: From the hub too: checked here again.
            job_id: The job.
            attempt: Which attempt.
            gpus: UUIDs of the GPUs that are free; it gets as many as it uses.
            timeout_seconds: How long the job may run by its own wish.

        Raises:
            Refusal: It is not offered here, a parameter is not as declared, or GPUs are missing.
        """
        entry = self._entries.get(workload)
        if entry is None:
            raise Refusal("this machine's owner does not offer such a workload")
        if entry.reason is not None:
            raise Refusal(f"{workload} is not offered here now: {entry.reason}")
        definition = entry.definition
        count = len(gpus) if definition.gpus is None else definition.gpus
        if count > len(gpus):
            raise Refusal(
                f"{workload} needs {count} {'GPU' if count == 1 else 'GPUs'}, and {len(gpus)} are free"
            )
        try:
            launch = definition.launch(
                params,
                job_id=job_id,
                attempt=attempt,
                gpus=list(gpus[:count]),
                wall_seconds=timeout_seconds,
                user=entry.user,
            )
        except ProtocolError as error:
            raise Refusal(error.message) from None
        return msgspec.structs.replace(launch, hidden=self._hidden)


def read(path: Path | None) -> list[Definition]:
    """Give all that an owner allows, the built-in workload first.

    Args:
        path: The owner's file; None for none.

    Raises:
        SettingsError: The file can't be used; the message names the line.
    """
    file = workload_file.WorkloadFile() if path is None else workload_file.read(path)
    definitions = [*([built_in.BENCHMARK] if file.benchmark else []), *file.workloads]
    size = len(encode_record([definition.record() for definition in definitions]))
    if size > MOST_RECORD_BYTES:
        raise SettingsError(
            f"{path}: what a hub is told of it has {size} bytes, and may have {MOST_RECORD_BYTES}: "
            "shorten descriptions and patterns"
        )
    return definitions


def _try_out(definitions: Iterable[Definition], user: str | None) -> Iterator[Entry]:
    verdicts: dict[tuple[object, ...], str | None] = {}
    for definition in definitions:
        if definition is built_in.BENCHMARK:
            yield _try_benchmark(user)
            continue
        sandbox = (definition.sandbox, definition.image, definition.network)
        if sandbox not in verdicts:
            kind, image, network = sandbox
            verdicts[sandbox] = check_sandbox(kind, user=user, image=image, network=network)
        yield Entry(definition, user, verdicts[sandbox] or _what_is_missing(definition, user))


def _what_is_missing(definition: Definition, user: str | None) -> str | None:
    """Say what a workload needs and has not here, in a sandbox that holds; None for nothing."""
    for path in definition.read:
        if not os.path.lexists(path):
            return f"there is no {path}, which it is to read"
    name = definition.command[0]
    program = shutil.which(name, path=definition.environment.get("PATH", PATH))
    if program is None and definition.sandbox != "container":
        return f"there is no program {name} that could be run"
    launch = Launch(
        job_id="self-test",
        attempt=0,
        workload=definition.name,
        argv=[name],
        limits=definition.limits,
        sandbox=definition.sandbox,
        image=definition.image,
        network=definition.network,
        read_only=list(definition.read),
        user=user,
    )
    return check_launch(launch, program or name)


def _try_benchmark(user: str | None) -> Entry:
    """Find out whom the built-in workload can run as.

    It is part of the agent: where the user that jobs run as can't read its files, it runs as the agent.
    """
    if user is not None and _can_run_benchmark(user):
        return Entry(built_in.BENCHMARK, user, None)
    if _can_run_benchmark(None):
        return Entry(built_in.BENCHMARK, None, None)
    reason = f"{' '.join(built_in.COMMAND)} can't be run: the agent is not installed as a whole"
    return Entry(built_in.BENCHMARK, None, reason)


def _can_run_benchmark(user: str | None) -> bool:
    try:
        who = identity(user)
        done = subprocess.run(
            [*built_in.COMMAND, "--help"],
            cwd="/",
            env=built_in.ENVIRONMENT,
            user=None if who is None else who.uid,
            group=None if who is None else who.gid,
            extra_groups=None if who is None else [],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE_SECONDS,
            start_new_session=True,
            check=False,
        )
    except (StartFailed, OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0
