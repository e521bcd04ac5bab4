"""How one attempt at a job is to be run: what the owner's catalogue decides and the runner carries out.

All that a job writes lies in its working directory, the files of its progress and its result too: a sandbox
has to offer nothing else, under the same path as outside. Where a launch is wrapped, its ``env`` is complete.
"""

from typing import Final, Literal

import msgspec

DEFAULT_GRACE_SECONDS: Final = 10.0
"""Between SIGTERM and SIGKILL, unless the workload or the hub says otherwise."""

DEFAULT_LOG_BYTES: Final = 16 * 1024 * 1024
"""What is kept of a job's output, both streams together."""

Sandbox = Literal["none", "bubblewrap", "container"]


class ProgressSource(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a job's progress is read.

    ``json``: lines of JSON in the file that ``$QUBIX_PROGRESS`` names, such as
    ``{"progress": 42.5, "message": "epoch 3"}``. ``fraction_file``: a file that holds one number from 0 to 1.
    ``regex``: ``pattern``, searched in each line of output (at most 4 KiB of it). ``tqdm``: its bars, in the
    output. ``none``: nowhere.
    """

    kind: Literal["json", "fraction_file", "regex", "tqdm", "none"] = "json"
    path: str | None = None
    """Of ``fraction_file``: relative to the job's working directory."""
    pattern: str | None = None
    """Of ``regex``: with a group ``percent`` (0 to 100), ``fraction`` (0 to 1), or ``done`` and ``total``;
    optionally ``message``. Without named groups the first group is a percentage."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a job may use. None does not limit it."""

    memory_bytes: int | None = None
    """Of all its processes together."""
    cpu_seconds: int | None = None
    """Processor time of each of its processes."""
    cpu_cores: int | None = None
    """How many cores it may run on."""
    wall_seconds: float | None = None
    """How long it may run."""
    log_bytes: int = DEFAULT_LOG_BYTES
    max_processes: int | None = None
    """Processes and threads of all of it together."""
    open_files: int | None = None
    """File descriptors of each of its processes."""


class Launch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One attempt at one job, ready to run: everything was checked against the owner's catalogue.

    It says nothing of the hub's; the same file of JSON tells the supervisor what to do.
    """

    job_id: str
    attempt: int
    workload: str
    argv: list[str]
    """The program and its arguments, as they are given to the kernel: there is no shell."""
    env: dict[str, str] = {}
    """The job's whole environment, but for what the runner adds: ``QUBIX_ATTEMPT``, ``QUBIX_WORKDIR``,
    ``QUBIX_PROGRESS``, ``QUBIX_RESULT``, ``HOME``, ``TMPDIR`` and ``CUDA_VISIBLE_DEVICES``."""
    gpus: list[str] = []
    """UUIDs of the GPUs that it sees; none for none."""
    limits: Limits = Limits()
    progress: ProgressSource = ProgressSource()
    no_progress_seconds: float | None = None
    """It is ended once it has reported nothing new for so long. None: it may be silent."""
    nice: int = 10
    """Added to its priority's niceness, 0 to 19."""
    ionice: Literal["normal", "low", "idle"] = "low"
    """Its place in the queue for the disk."""
    sandbox: Sandbox = "none"
    image: str | None = None
    """Of a container: with its digest."""
    network: bool = True
    """Of a sandbox: whether it may use the network."""
    read_only: list[str] = []
    """Of a sandbox: further paths of this machine that it may read."""
    hidden: list[str] = []
    """Of bubblewrap: files of this machine that it may not read, though its user may."""
    user: str | None = None
    """Whom it runs as; None for the agent's own user. Only root can choose."""
    grace_seconds: float = DEFAULT_GRACE_SECONDS
    work_root: str | None = None
    """Where its working directory is made; None for the usual place."""

    @property
    def tag(self) -> str:
        """What ``QUBIX_ATTEMPT`` is in each of its processes."""
        return f"{self.job_id}.{self.attempt}"
