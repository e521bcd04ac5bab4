"""Jobs in real containers, under podman, where this machine can run one."""

import os
import resource
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.jobs.files import Ended
from agent.jobs.launch import Launch, Limits
from agent.jobs.sandbox import wrap
from agent.jobs.selftest import check_launch, check_sandbox
from tests.agent.jobs.stage import Stage, ended, nothing_left, said, supervisor_of

pytestmark = pytest.mark.soak
"""One by one: with two stores in use at once, as under parallel workers, podman 4.3 was seen to hang."""

TOOLS = ("cat", "echo", "id", "ls", "sh", "sleep", "touch")
NAME = "localhost/qubix-test"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image made here, of one static program, in a store of its own; gives its name with its digest."""
    with pytest.MonkeyPatch.context() as patch:
        yield _image(tmp_path_factory.mktemp("containers"), patch)


def _image(directory: Path, patch: pytest.MonkeyPatch) -> str:
    busybox = shutil.which("busybox")
    if shutil.which("podman") is None or busybox is None:
        pytest.skip("podman and a static busybox are not installed")
    patch.setenv("CONTAINERS_CONF", str(directory / "containers.conf"))
    patch.setenv("CONTAINERS_STORAGE_CONF", str(directory / "storage.conf"))
    patch.setenv("QUBIX_HOME", str(directory / "home"))
    _configure(directory, "crun")
    archive = directory / "root.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(Path(busybox).resolve(), "bin/busybox")
        for tool in TOOLS:
            link = tarfile.TarInfo(f"bin/{tool}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    _podman("import", str(archive), NAME)
    digest = _podman("image", "inspect", NAME, "--format", "{{.Digest}}").strip()
    trial = _launch(f"{NAME}@{digest}")
    for runtime in ("crun", "runc"):
        _configure(directory, runtime)
        problem = check_launch(trial, "")
        if problem is None:
            return f"{NAME}@{digest}"
    pytest.skip(f"podman runs no container on this machine: {problem}")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A QUBIX_HOME of its own."""
    monkeypatch.setenv("QUBIX_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def _launch(image: str, **more: Any) -> Launch:
    return Launch(
        job_id="trial",
        attempt=1,
        workload="w",
        argv=[],
        sandbox="container",
        image=image,
        network=False,
        **more,
    )


def _configure(directory: Path, runtime: str) -> None:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    processes = min(resource.getrlimit(resource.RLIMIT_NPROC)[1] % 2**31 or 4096, 4096)
    # All of it is this test run's own: two that share an engine's locks would wait for each other.
    (directory / "containers.conf").write_text(
        f'[containers]\ndefault_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]\n'
        f'[engine]\nruntime = "{runtime}"\ncgroup_manager = "cgroupfs"\n'
        f'lock_type = "file"\ntmp_dir = "{directory}/tmp"\n'
    )
    (directory / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{directory}/store"\nrunroot = "{directory}/run"\n'
    )


def _left_in_store() -> list[str]:
    """Containers that the engine still knows, and mounts of theirs that are still there."""
    store = str(Path(os.environ["CONTAINERS_STORAGE_CONF"]).parent)
    mounts = [
        line
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if f"{store}/store/vfs-" in line
    ]
    return _podman("ps", "--all", "--quiet").split() + mounts


def _podman(*arguments: str) -> str:
    done = subprocess.run(["podman", *arguments], capture_output=True, text=True, timeout=50, check=False)
    if done.returncode != 0:
        pytest.skip(f"podman does not work on this machine: {done.stderr.strip()[-300:]}")
    return done.stdout


PEEK = """
id -u
echo "$TOKEN"
cat "$1" || echo hidden
ls /sys/class/net
touch /outside || echo refused
touch inside && echo written
"""


@pytest.mark.parametrize("user", ["nobody", None] if os.geteuid() == 0 else [None])
def test_a_job_in_a_container_reaches_its_own_directory_and_no_other(
    stage: Stage, tmp_path: Path, image: str, user: str | None
) -> None:
    """No file of this machine, no network, nothing to write but its directory; it runs as whom it should."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    launch = stage.launch(
        ["/bin/sh", "-c", PEEK, "peek", str(secret)],
        sandbox="container",
        image=image,
        network=False,
        user=user,
        env={"TOKEN": "hunter2"},
    )
    attempt = stage.run(launch, wrap=wrap)
    outcome = ended(attempt)
    assert outcome.status == "completed", attempt.files.stream("stderr").read_text()
    uid = "65534" if user else str(os.geteuid())
    lines = attempt.files.stream("stdout").read_text().splitlines()
    assert lines == [uid, "hunter2", "hidden", "lo", "refused", "written"]


def test_a_container_ends_with_its_job(stage: Stage, image: str) -> None:
    """A job that is stopped is asked to end, and nothing of its container is left."""
    script = "trap 'echo stopping; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    launch = stage.launch(["/bin/sh", "-c", script], sandbox="container", image=image, network=False)
    attempt = stage.run(launch, wrap=wrap)
    said(attempt, "ready")
    attempt.stop("cancelled_by", 20)
    ended(attempt)
    assert "stopping" in attempt.files.stream("stdout").read_text()
    assert nothing_left(attempt)
    assert _left_in_store() == []


def test_a_container_that_does_not_want_to_end_is_ended(stage: Stage, image: str) -> None:
    """SIGKILL reaches the job through its container, too."""
    script = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    launch = stage.launch(["/bin/sh", "-c", script], sandbox="container", image=image, network=False)
    attempt = stage.run(launch, wrap=wrap)
    said(attempt, "ready")
    attempt.stop("cancelled_by", 0.2)
    ended(attempt)
    assert nothing_left(attempt)
    assert _left_in_store() == []


def test_a_container_whose_supervisor_was_killed_is_ended(stage: Stage, image: str) -> None:
    """Who finds the job without a supervisor ends its container, which is none of its children."""
    script = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    launch = stage.launch(["/bin/sh", "-c", script], sandbox="container", image=image, network=False)
    attempt = stage.run(launch, wrap=wrap)
    said(attempt, "ready")
    os.kill(supervisor_of(attempt), signal.SIGKILL)
    attempt.take_over(Ended(status="failed", reason="agent_restarted"))
    assert nothing_left(attempt)
    assert _left_in_store() == []


def test_the_self_test_knows_the_image(image: str) -> None:
    """What is here can be run, with limits; an image that is not here is missed."""
    assert check_sandbox("container", user=None, image=image) is None
    absent = f"{NAME}@sha256:{'0' * 64}"
    assert "does not have the image" in str(check_sandbox("container", user=None, image=absent))
    launch = _launch(image, read_only=["/no/such/directory"], limits=Limits(max_processes=50))
    assert "can't make its container" in str(check_launch(launch, ""))
