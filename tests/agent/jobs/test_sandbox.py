"""What a job in a sandbox can reach and what it can't, tried by real programs in real sandboxes."""

import itertools
import json
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from agent.jobs import sandbox, selftest
from agent.jobs.container import SandboxError
from agent.jobs.launch import Launch, Limits
from agent.jobs.sandbox import gpu_devices, wrap
from agent.jobs.selftest import check_sandbox
from tests.agent.jobs.stage import PYTHON, Stage, ended, said

DIGEST = "a" * 64

needs_bubblewrap = pytest.mark.skipif(
    shutil.which("bwrap") is None and "CI" not in os.environ, reason="bubblewrap is not installed"
)
USERS = ["nobody", None] if os.geteuid() == 0 else [None]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A QUBIX_HOME with a token in it that everybody could read who gets there."""
    directory = tmp_path / "home"
    directory.mkdir()
    (directory / "token").write_text("qbx_secret")
    monkeypatch.setenv("QUBIX_HOME", str(directory))
    return directory


def run(stage: Stage, script: str, *arguments: str, **launch: Any) -> Any:
    """Run a script as a job in bubblewrap; gives the JSON that it prints."""
    made = stage.launch([PYTHON, "-c", script, *arguments], sandbox="bubblewrap", **launch)
    attempt = stage.run(made, wrap=wrap)
    outcome = ended(attempt)
    error = attempt.files.stream("stderr")
    assert outcome.status == "completed", error.read_text() if error.exists() else outcome
    return json.loads(attempt.files.stream("stdout").read_text())


PEEK = """
import json, os, sys
secret, private, *outside = sys.argv[1:]
def attempt(what, otherwise=None):
    try: return what()
    except OSError: return otherwise
def write(path):
    return bool(attempt(lambda: open(path, "w").write("x")))
print(json.dumps({
    "secret": attempt(lambda: open(secret).read()),
    "shown": [name for path in ("/home", "/root", "/tmp", "/run") for name in os.listdir(path)],
    "processes": sum(name.isdecimal() for name in os.listdir("/proc")),
    "wrote": [write(path) for path in ("/usr/x", "/etc/x", *outside)],
    "private": write(private),
    "work": write("result"),
    "devices": os.listdir("/dev"),
    "capabilities": [line.split()[1] for line in open("/proc/self/status") if line.startswith("CapEff")],
    "user": os.getuid(),
}))
"""

DEVICES = {"core", "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty"}


@needs_bubblewrap
@pytest.mark.parametrize("user", USERS)
def test_a_job_reaches_its_own_directory_and_no_other(
    stage: Stage, home: Path, tmp_path: Path, user: str | None
) -> None:
    """Secrets, homes, other processes, devices and capabilities are out of reach; one directory is not."""
    private, outside = Path(f"/tmp/qubix-test-{os.getpid()}"), tmp_path / "outside"
    found = run(stage, PEEK, str(home / "token"), str(private), str(outside), user=user)
    assert found["secret"] is None
    # The way to its own directory, which may lie in one of them.
    assert set(found["shown"]) <= {tmp_path.parts[2]}
    assert found["processes"] <= 3
    assert found["wrote"][:2] == [False, False]
    assert found["private"]
    assert found["work"]
    assert not outside.exists()
    assert not private.exists()
    assert set(found["devices"]) <= DEVICES | {"urandom", "zero", "console"}
    assert set(found["capabilities"]) == {"0" * 16}
    assert found["user"] == (65534 if user else os.geteuid())


READ = """
import json, sys
def read(path):
    try: return open(path).read() or None
    except OSError: return None
print(json.dumps([read(path) for path in sys.argv[1:]]))
"""


@needs_bubblewrap
@pytest.mark.parametrize("user", USERS)
def test_a_hidden_file_can_not_be_read(stage: Stage, user: str | None) -> None:
    """Wherever it lies, and under whatever name: its user could read it, and the job can't."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        token, link, missing = (Path(place, name) for name in ("token", "link", "missing"))
        token.write_text("qbx_secret")
        token.chmod(0o644)
        link.symlink_to(token)
        shown = Path(place, "shown")
        shown.write_text("anybody's")
        shown.chmod(0o644)
        arguments = [str(path) for path in (token, link, shown)]
        hidden = [str(link), str(missing)]
        found = run(stage, READ, *arguments, user=user, read_only=[place], hidden=hidden)
    assert found == [None, None, "anybody's"]


CALL = """
import json, socket, sys
def call(family, address):
    with socket.socket(family) as one:
        one.settimeout(5)
        return one.connect_ex(address) == 0
port, name = ("127.0.0.1", int(sys.argv[1])), "\\0" + sys.argv[2]
print(json.dumps([call(socket.AF_INET, port), call(socket.AF_UNIX, name)]))
"""


@needs_bubblewrap
@pytest.mark.parametrize("network", [False, True])
def test_the_network_is_there_where_it_is_allowed(stage: Stage, network: bool) -> None:
    """Without leave neither a port of this machine nor an abstract socket answers; with it both do."""
    name = f"qubix-test-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as port, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0{name}")
        abstract.listen()
        assert run(stage, CALL, str(port.getsockname()[1]), name, network=network) == [network, network]


@needs_bubblewrap
def test_a_hidden_directory_can_be_opened_for_reading_but_secrets_stay_hidden(
    stage: Stage, home: Path, tmp_path: Path
) -> None:
    """What the owner lets it read is there, read-only; QUBIX_HOME inside it is not."""
    (tmp_path / "model").write_text("weights")
    script = """
import json, os, sys
path = sys.argv[1]
try: open(path + "/x", "w"); wrote = True
except OSError: wrote = False
print(json.dumps([open(path + "/model").read(), os.listdir(path + "/home"), wrote]))
"""
    assert run(stage, script, str(tmp_path), read_only=[str(tmp_path)]) == ["weights", [], False]


@needs_bubblewrap
def test_a_job_in_bubblewrap_ends_in_its_own_time(stage: Stage) -> None:
    """It is asked to end, and has its grace: what it says then is kept."""
    script = """
import signal, sys
def stop(*_):
    print("stopping", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
signal.pause()
"""
    launch = stage.launch([PYTHON, "-c", script], sandbox="bubblewrap", grace_seconds=20)
    attempt = stage.run(launch, wrap=wrap)
    said(attempt, "ready")
    attempt.stop("cancelled_by", 20)
    ended(attempt)
    assert "stopping" in attempt.files.stream("stdout").read_text()


@needs_bubblewrap
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("network", [False, True])
def test_the_self_test_passes_where_bubblewrap_holds(user: str | None, network: bool, home: Path) -> None:
    """On this machine it has nothing to complain of, and leaves nothing behind."""
    assert check_sandbox("bubblewrap", user=user, network=network) is None
    assert [path.name for path in home.iterdir()] == ["token"]


@needs_bubblewrap
@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--ro-bind", "/", "/"], "sees other processes, or QUBIX_HOME"),
        (["--bind", "/", "/"], "may write to this machine's disk"),
        (["--ro-bind", "/", "/", "--unshare-net"], "sees other processes"),
        (["--ro-bind", "/", "/", "--unshare-pid", "--proc", "/proc"], "reaches the network"),
    ],
)
def test_the_self_test_sees_through_a_sandbox_that_leaks(
    monkeypatch: pytest.MonkeyPatch, options: list[str], complaint: str
) -> None:
    """A bubblewrap that leaves something open is not trusted, and the sentence says what it leaves open."""

    def leaky(launch: Launch, directory: Path) -> list[str]:
        return ["bwrap", *options, "--bind", str(directory), str(directory), "--", *launch.argv]

    monkeypatch.setattr(selftest, "wrap", leaky)
    found = check_sandbox("bubblewrap", user=None)
    assert found is not None
    assert complaint in found


def test_the_self_test_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the programs a sandbox is not offered, and the sentence says what is missing."""
    monkeypatch.setenv("PATH", "/nonexistent")
    assert "the package bubblewrap" in str(check_sandbox("bubblewrap", user=None))
    assert "neither podman nor docker" in str(
        check_sandbox("container", user=None, image=f"x@sha256:{DIGEST}")
    )


def test_the_self_test_says_when_namespaces_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the kernel lets bubblewrap do nothing, the sentence repeats its words and has the remedy."""
    (tmp_path / "bwrap").write_text(
        "#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n"
    )
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = str(check_sandbox("bubblewrap", user=None))
    assert "uid map: Permission denied" in found
    assert "allow user namespaces" in found


@pytest.mark.parametrize("program", ["podman", "docker"])
def test_an_engine_that_does_not_answer_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    """An engine that is installed and does not run, or has not the image, is told from one that works."""
    script = tmp_path / program
    monkeypatch.setenv("PATH", str(tmp_path))
    image = f"x@sha256:{DIGEST}"
    for body, expected in (
        ("exit 1", f"{program} does not answer"),
        ('[ "$1" = info ]', f"{program} does not have the image {image}"),
        ("exit 0", "None"),
    ):
        script.write_text(f"#!/bin/sh\n{body}\n")
        script.chmod(0o755)
        assert expected in str(check_sandbox("container", user=None, image=image))


def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, **launch: Any) -> list[str]:
    """The command line for a container under an engine."""
    (tmp_path / program).write_text("#!/bin/sh\n")
    (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    made = Launch(
        job_id="j",
        attempt=2,
        workload="w",
        argv=["/app", "--x={y}"],
        sandbox="container",
        **{"image": f"x@sha256:{DIGEST}", "network": False, **launch},
    )
    argv = wrap(made, tmp_path)
    return argv[argv.index(str(tmp_path / program)) :]


def pairs(argv: list[str]) -> set[tuple[str, str]]:
    """Each word with the next."""
    return set(itertools.pairwise(argv))


def test_a_container_is_shut_and_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, one directory to write to, no capabilities, limits; the image by its digest, not pulled."""
    limits = Limits(memory_bytes=1024, cpu_cores=2, max_processes=9, cpu_seconds=60, open_files=64)
    argv = container(tmp_path, monkeypatch, "podman", limits=limits, read_only=["/srv/m"])
    assert {
        ("--network", "none"),
        ("--pull", "never"),
        ("--cap-drop", "ALL"),
        ("--security-opt", "no-new-privileges"),
        ("--user", f"{os.getuid()}:{os.getgid()}"),
        ("--memory", "1024"),
        ("--cpus", "2"),
        ("--pids-limit", "9"),
        ("--ulimit", "cpu=60"),
        ("--ulimit", "nofile=64"),
        ("--volume", "/srv/m:/srv/m:ro"),
        ("--volume", f"{tmp_path}:{tmp_path}"),
        ("--workdir", str(tmp_path)),
        ("--name", "qubix-j.2"),
    } <= pairs(argv)
    assert "--read-only" in argv
    assert "--rm" in argv
    assert argv[-3:] == [f"x@sha256:{DIGEST}", "/app", "--x={y}"]


def test_a_container_s_secrets_are_on_no_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values go through the environment; only its home is written out, and no PATH of ours."""
    env = {"TOKEN": "hunter2", "HOME": "/work", "PATH": "/bin"}
    argv = container(tmp_path, monkeypatch, "podman", env=env)
    assert ("--env", "TOKEN") in pairs(argv)
    assert ("--env", "HOME=/work") in pairs(argv)
    assert not any("hunter2" in word or word.startswith("PATH") for word in argv)


def test_each_engine_is_given_gpus_its_own_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Podman takes a device a GPU, docker one list of them; without GPUs neither is given any."""
    gpus = ["GPU-a", "GPU-b"]
    podman = container(tmp_path, monkeypatch, "podman", gpus=gpus)
    assert {("--device", "nvidia.com/gpu=GPU-a"), ("--device", "nvidia.com/gpu=GPU-b")} <= pairs(podman)
    (tmp_path / "podman").unlink()
    docker = container(tmp_path, monkeypatch, "docker", gpus=gpus)
    assert ("--gpus", '"device=GPU-a,GPU-b"') in pairs(docker)
    assert "--gpus" not in container(tmp_path, monkeypatch, "docker")


@pytest.mark.parametrize(
    "image", [None, "x", "x:latest", "x@sha256:12", f"-v@sha256:{DIGEST}", f"x@sha256:{DIGEST} y"]
)
def test_an_image_without_its_digest_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: str | None
) -> None:
    """What could be another image tomorrow, or an option, never reaches the engine."""
    with pytest.raises(SandboxError, match="digest"):
        container(tmp_path, monkeypatch, "podman", image=image)


def test_a_job_sees_the_files_of_its_own_gpus(tmp_path: Path) -> None:
    """By UUID, as the driver numbers them; where it does not tell, all GPUs; without GPUs, no file at all."""
    dev, gpus = tmp_path / "dev", tmp_path / "gpus"
    dev.mkdir()
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "nvidia-modeset", "null"):
        (dev / name).touch()
    for minor, uuid in ((1, "GPU-a"), (0, "GPU-b")):
        (gpus / f"0000:0{minor}:00.0").mkdir(parents=True)
        (gpus / f"0000:0{minor}:00.0" / "information").write_text(
            f"Model: \t\t NVIDIA H200\nGPU UUID: \t {uuid}\nDevice Minor: \t {minor}\n"
        )

    def names(*uuids: str) -> list[str]:
        return [path.name for path in gpu_devices(uuids, dev=dev, gpus=gpus)]

    assert names() == []
    assert names("GPU-a") == ["nvidia1", "nvidiactl", "nvidia-uvm"]
    assert names("MIG-x") == ["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a job as somebody else")
def test_a_container_s_engine_is_run_by_the_agent_s_user(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whom a job runs as is for the engine to see to: that user may have no right to speak to the engine."""
    (tmp_path / "podman").write_text("#!/bin/sh\nid -u\necho $* >&2\n")
    (tmp_path / "podman").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    launch = stage.launch(["/app"], sandbox="container", image=f"x@sha256:{DIGEST}", user="nobody")
    attempt = stage.run(launch, wrap=wrap)
    assert ended(attempt).status == "completed"
    assert attempt.files.stream("stdout").read_text() == "0\n"
    assert "--user 65534:65534 " in attempt.files.stream("stderr").read_text()


def test_without_a_sandbox_the_command_is_as_it_is(tmp_path: Path) -> None:
    """Nothing is put before the command of a workload whose owner chose to do without."""
    launch = Launch(job_id="j", attempt=1, workload="w", argv=[sys.executable], sandbox="none")
    assert wrap(launch, tmp_path) == [sys.executable]


@needs_bubblewrap
def test_names_can_be_looked_up_where_the_list_of_servers_lies_in_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the network the resolver's file is there although /run is not; without it, it is not needed."""
    target = Path("/run/qubix-test-resolv.conf")
    monkeypatch.setattr(sandbox, "_RESOLVER", tmp_path / "resolv.conf")
    (tmp_path / "resolv.conf").symlink_to(target)
    launch = Launch(job_id="j", attempt=1, workload="w", argv=["true"], sandbox="bubblewrap", network=True)
    assert ("--ro-bind-try", str(target)) in pairs(wrap(launch, tmp_path))


def test_what_is_tried_out_does_not_see_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs as the user of jobs, of which one that still runs could read its environment."""
    monkeypatch.setenv("QUBIX_TOKEN", "qbx_secret")
    done = selftest._run(["/usr/bin/env"], Path("/"), None)
    assert "PATH=" in done.stdout
    assert "qbx_secret" not in done.stdout
