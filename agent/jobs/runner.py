"""Prepares what a supervisor needs, and starts it: detached, so that it outlives the agent."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from agent.jobs import child, supervisor, workdir
from agent.jobs.clock import boot_id
from agent.jobs.files import Files, Orders, Plan, locked_for_child
from agent.jobs.launch import Launch
from agent.jobs.processes import VARIABLE
from agent.jobs.progress import PROGRESS_FILE
from agent.jobs.result import RESULT_FILE

Wrap = Callable[[Launch, Path], list[str]]
"""Gives the command that runs a launch in its sandbox; its second argument is the working directory."""

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

OTHERS_ROOT: Final = Path("/var/tmp")  # noqa: S108 - each directory in it is made anew, for one user alone
"""Where a job works whose user can't look into the agent's own directory."""


def prepare(files: Files, launch: Launch, orders: Orders, wrap: Wrap) -> None:
    """Make the working directory, and write down what to run and until when.

    Args:
        files: The attempt's directory.
        launch: What to run, as the owner's catalogue gave it.
        orders: The lease it begins with.
        wrap: Puts it into its sandbox.

    Raises:
        agent.jobs.child.StartFailed: It can't run as the user that it should.
        agent.jobs.container.SandboxError: What its sandbox needs is not there.
        OSError: Something can't be made.
    """
    user = child.identity(launch.user)
    root = OTHERS_ROOT if user is not None else files.directory
    work = workdir.make(Path(launch.work_root) if launch.work_root else root, launch.tag, user)
    try:
        launch = msgspec.structs.replace(launch, env=environment(launch, work, user))
        launch = msgspec.structs.replace(launch, argv=wrap(launch, work))
        files.write_orders(orders)
        files.write_plan(Plan(launch=launch, work=str(work), boot_id=boot_id()))
    except BaseException:
        workdir.remove(work)
        raise


def environment(launch: Launch, work: Path, user: child.Identity | None) -> dict[str, str]:
    """Give a job's whole environment: nothing of the agent's is in it."""
    name = {} if user is None else {"USER": user.name, "LOGNAME": user.name}
    return {
        "PATH": PATH,
        "LANG": "C.UTF-8",
        "HOME": str(work),
        "TMPDIR": str(work),
        **name,
        **launch.env,
        VARIABLE: launch.tag,
        "QUBIX_WORKDIR": str(work),
        "QUBIX_PROGRESS": str(work / PROGRESS_FILE),
        "QUBIX_RESULT": str(work / RESULT_FILE),
        # By UUID: an index is another GPU once one is lost. None given, none is seen.
        "CUDA_VISIBLE_DEVICES": ",".join(launch.gpus),
    }


def spawn(files: Files) -> int:
    """Start the supervisor of an attempt that was prepared; gives its process id.

    From the moment that it exists it holds the attempt's lock: an agent that is killed right after this finds
    it, and never starts a second one.

    Raises:
        OSError: It can't be started, or there is one already.
    """
    package_root = Path(supervisor.__file__).parents[2]
    search_path = [str(package_root), *filter(os.path.isdir, sys.path)]
    log = os.open(files.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        with locked_for_child(files.lock) as lock:
            pid = os.posix_spawn(
                sys.executable,
                # Isolated and without `site`: nothing of the user's runs in there, and it starts sooner.
                [sys.executable, "-I", "-S", supervisor.__file__, str(files.directory), *search_path],
                {"PATH": PATH, "LANG": "C.UTF-8"},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, log, 1),
                    (os.POSIX_SPAWN_DUP2, log, 2),
                    (os.POSIX_SPAWN_DUP2, lock, lock),
                ],
                setsid=True,
                setsigmask=[],
            )
            os.pwrite(lock, f"{pid}\n".encode(), 0)
            return pid
    finally:
        os.close(log)
