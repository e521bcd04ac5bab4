"""Tries a sandbox out before anything is offered in it: a small program looks for what it must not reach."""

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from agent.jobs.child import Identity, StartFailed, identity
from agent.jobs.container import SandboxError, engine, engine_environment
from agent.jobs.launch import Launch, Sandbox
from agent.jobs.runner import OTHERS_ROOT
from agent.jobs.sandbox import qubix_home, wrap
from qubix_tui.protocol.checks import printable

PATIENCE_SECONDS: Final = 30.0

_PROBE: Final = r"""
echo "net $(readlink /proc/self/ns/net)"
echo "capabilities $(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)"
while read -r _ _ _ _ place options _; do [ "$place" = / ] && root=$options; done < /proc/self/mountinfo
echo "root $root"
cat /proc/[0-9]*/cmdline | tr '\0' ' '
cat "$1"
echo written > "$2/inside" && echo written > "$3/outside"
"""
"""Its arguments: a secret, its working directory, and a directory beside it."""

_FACTS: Final = 3
"""Lines of what it says that are a word and a value."""

_NOT_FOUND: Final = frozenset({1, 127})
"""What a container ends with whose program is missing: 127 by an engine or docker's init, 1 by podman's."""

_NAMESPACES_REMEDY: Final = (
    "allow user namespaces to ordinary users (sysctl kernel.apparmor_restrict_unprivileged_userns=0, or "
    "kernel.unprivileged_userns_clone=1), or run the agent outside a container"
)


def check_sandbox(
    kind: Sandbox, *, user: str | None, image: str | None = None, network: bool = False
) -> str | None:
    """Try a kind of sandbox out as the user that jobs run as.

    Args:
        kind: Which.
        user: Whom jobs run as; None for this process's own user.
        image: Of a container.
        network: Whether the network is to be reached.

    Returns:
        None if it holds; else one sentence that says what it does not do, and how to mend it.
    """
    try:
        if kind == "bubblewrap":
            return _check_bubblewrap(identity(user), network)
        if kind == "container":
            return _check_container(image or "")
    except (SandboxError, StartFailed) as error:
        return str(error)
    except OSError as error:
        return f"the sandbox can't be tried out: {error.strerror}"
    except subprocess.TimeoutExpired:
        return f"the sandbox did not answer within {PATIENCE_SECONDS:g} s"
    return None


def check_launch(launch: Launch, program: str) -> str | None:
    """Try out what a job would be started in, and whether its program is there.

    Args:
        launch: Of such a job; its command does not matter.
        program: The program's path. That of a container is not looked for: images can be without a shell.

    Returns:
        None if it can; else one sentence that says what is in the way, and how to mend it.
    """
    try:
        if launch.sandbox == "container":
            return _check_container_of(launch)
        return _check_program(launch, program)
    except (SandboxError, StartFailed) as error:
        return str(error)
    except (OSError, subprocess.SubprocessError) as error:
        return f"it can't be tried out: {getattr(error, 'strerror', None) or error}"


def _check_container_of(launch: Launch) -> str | None:
    """Make a container as a job would get one, for a program that no image has."""
    probe = msgspec.structs.replace(launch, argv=["/qubix-self-test"])
    with _places(identity(launch.user)) as (work, _):
        done = _run(wrap(probe, work), work, None)
    if done.returncode in _NOT_FOUND:
        return None
    said = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
    return f"{Path(engine()).name} can't make its container: {printable(said[-1])}"


def _check_program(launch: Launch, program: str) -> str | None:
    whom = launch.user or "of the agent"
    probe = msgspec.structs.replace(launch, argv=["/bin/sh", "-c", '[ -x "$1" ]', "probe", program])
    user = identity(launch.user)
    with _places(user) as (work, _):
        done = _run(wrap(probe, work), work, user)
    if done.returncode == 0:
        return None
    if said := done.stderr.strip():
        return f"its sandbox can't be made, as the user {whom}: {printable(said.splitlines()[0])}"
    if launch.sandbox == "bubblewrap":
        return (
            f"the user {whom} can't run {program} in its sandbox: is it in a place that `read` has to name?"
        )
    return f"the user {whom} can't run {program}: install it where everybody may read it, such as /opt"


def _check_bubblewrap(user: Identity | None, network: bool) -> str | None:
    token = secrets.token_hex(16)
    with _places(user) as (work, beside), _secret(token) as secret, _neighbour(token):
        argv = ["/bin/sh", "-c", _PROBE, "probe", str(secret), str(work), str(beside)]
        launch = Launch(
            job_id="self-test",
            attempt=0,
            workload="self-test",
            argv=argv,
            sandbox="bubblewrap",
            network=network,
        )
        done = _run(wrap(launch, work), work, user)
        if not (work / "inside").is_file():
            said = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
            return f"bubblewrap can't make a sandbox here ({printable(said[0])}): {_NAMESPACES_REMEDY}"
        leaks = {
            "reaches the network": not network and _fact(done.stdout, "net") == _own_network(),
            "has capabilities": _fact(done.stdout, "capabilities").strip("0") != "",
            "may write to this machine's disk": not _fact(done.stdout, "root").startswith("ro,"),
            "sees other processes, or QUBIX_HOME": token in done.stdout,
            "writes outside its working directory": (beside / "outside").exists(),
        }
        found = [what for what, is_so in leaks.items() if is_so]
        return (
            f"what runs in bubblewrap {' and '.join(found)}; update the package bubblewrap" if found else None
        )


def _fact(said: str, name: str) -> str:
    facts = dict(line.partition(" ")[::2] for line in said.splitlines()[:_FACTS])
    return facts.get(name) or "not told"


def _own_network() -> str:
    return str(Path("/proc/self/ns/net").readlink())


def _check_container(image: str) -> str | None:
    program = engine()
    name = Path(program).name
    if _run([program, "info"], Path("/"), None).returncode != 0:
        return f"{name} does not answer: start its service, or give this user the right to use it"
    if _run([program, "image", "inspect", image], Path("/"), None).returncode != 0:
        return f"{name} does not have the image {image}: fetch it with `{name} pull {image}`"
    return None


def _run(argv: list[str], directory: Path, user: Identity | None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        argv,
        cwd=directory,
        # Its user's other processes can read it: the agent's token may be in there.
        env=engine_environment(),
        user=None if user is None else user.uid,
        group=None if user is None else user.gid,
        extra_groups=None if user is None else [],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=PATIENCE_SECONDS,
        start_new_session=True,
        check=False,
    )


@contextlib.contextmanager
def _places(user: Identity | None) -> Iterator[tuple[Path, Path]]:
    """A working directory, and another one beside it that its user could write as well."""
    # Where jobs work, too.
    home = Path(qubix_home())
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    root = Path(
        tempfile.mkdtemp(prefix="qubix-self-test-", dir=home if user is None else OTHERS_ROOT)
    ).resolve()
    try:
        root.chmod(0o711)
        for path in (root / "work", root / "beside"):
            path.mkdir(mode=0o700)
            if user is not None:
                os.chown(path, user.uid, user.gid)
        yield root / "work", root / "beside"
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextlib.contextmanager
def _secret(token: str) -> Iterator[Path]:
    """A file in QUBIX_HOME that everybody may read who gets there."""
    descriptor, name = tempfile.mkstemp(prefix=".self-test-", dir=qubix_home())
    path = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(token)
        path.chmod(0o644)
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _neighbour(token: str) -> Iterator[None]:
    """A process that everybody may see who sees this one; it ends when its stdin does."""
    argv = ["/bin/sh", "-c", "read -r _", token]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True) as process:
        try:
            yield
        finally:
            process.kill()
