"""A job under its supervisor: how it is started, how it ends, and that nothing of it is left."""

import ast
import os
import pwd
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from agent.jobs.attempt import SUPERVISOR_LOST
from agent.jobs.clock import boottime
from agent.jobs.container import SandboxError
from agent.jobs.files import Ended
from agent.jobs.launch import Launch, Limits, ProgressSource
from tests.agent.jobs.stage import (
    PYTHON,
    Stage,
    ended,
    is_running,
    messages,
    no_sandbox,
    nothing_left,
    said,
    supervisor_of,
)
from tests.end_to_end.processes import wait_for

PROC_FILES = ("/proc/self/status", "/proc/self/oom_score_adj")

WAIT = "import signal\nprint('ready', flush=True)\nsignal.pause()\n"

ESCAPE = """
import os, sys, time
reading, writing = os.pipe()
def leave(clean):
    reading, writing = os.pipe()
    if os.fork():
        os.wait()
        os.read(reading, 1)
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    print("escaped", os.getpid(), flush=True)
    os.write(writing, b".")
    if clean:
        os.execve("/bin/sleep", ["sleep", "1000"], {})
    time.sleep(1000)
leave(False)
leave(True)
"""


def escaped(output: str) -> list[int]:
    """The ids of those that left."""
    return [int(line.split()[1]) for line in output.splitlines() if line.startswith("escaped")]


def test_it_runs_in_an_environment_of_its_own(stage: Stage) -> None:
    """A job has a session, a working directory and an environment of its own, and nothing of the agent's."""
    script = """
import json, os
stat = open("/proc/self/stat").read().rpartition(")")[2].split()
print(dict(os.environ))
print(os.getcwd(), os.getsid(0) == os.getpid(), os.nice(0), sorted(map(int, os.listdir("/proc/self/fd")))[:3])
json.dump({"left": [1, 2]}, open(os.environ["QUBIX_RESULT"], "w"))
"""
    os.environ["QUBIX_TEST_SECRET"] = "x"
    attempt = stage.start(script, gpus=["GPU-1", "GPU-2"], env={"MODEL": "small"}, nice=7)
    end = ended(attempt)
    assert (end.status, end.reason, end.result) == ("completed", None, {"left": [1, 2]})
    environment, facts = attempt.files.stream("stdout").read_text().splitlines()
    found = ast.literal_eval(environment)
    work = found["QUBIX_WORKDIR"]
    assert facts == f"{work} True {os.nice(0) + 7} [0, 1, 2]"
    assert found.pop("LC_CTYPE", "C.UTF-8") == "C.UTF-8"
    assert found == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "HOME": work,
        "TMPDIR": work,
        "MODEL": "small",
        "QUBIX_ATTEMPT": f"{stage.job_id}.1",
        "QUBIX_WORKDIR": work,
        "QUBIX_PROGRESS": f"{work}/.qubix-progress",
        "QUBIX_RESULT": f"{work}/.qubix-result",
        "CUDA_VISIBLE_DEVICES": "GPU-1,GPU-2",
    }
    assert not Path(work).exists()


def test_it_ignores_no_signal_that_others_do_not(stage: Stage) -> None:
    """What its supervisor does about signals is not handed on, and out of memory it goes first."""
    attempt = stage.run(stage.launch(["/bin/grep", "-h", "SigIgn\\|^500$", *PROC_FILES]))
    ended(attempt)
    _, ignored, score = attempt.files.stream("stdout").read_text().split()
    # Beyond 31 are the C library's own, which whoever runs the tests may have passed on.
    assert int(ignored, 16) & 0x7FFFFFFF == 0
    assert score == "500"


def test_without_gpus_it_sees_none(stage: Stage) -> None:
    """A job that was given no GPU finds CUDA_VISIBLE_DEVICES empty, which is none, not all."""
    attempt = stage.start("import os; print(repr(os.environ['CUDA_VISIBLE_DEVICES']))")
    ended(attempt)
    assert attempt.files.stream("stdout").read_text() == "''\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a job as somebody else")
def test_as_root_it_runs_as_another_user(stage: Stage) -> None:
    """An agent of root's runs jobs as the user that it is told, who can write its working directory alone."""
    script = f"""
import os
open("mine", "w").write("x")
print(os.getuid(), os.getgid(), os.getgroups())
for path in ({str(stage.root)!r}, "/root"):
    try:
        os.listdir(path)
        print("open")
    except PermissionError:
        print("closed")
"""
    attempt = stage.start(script, user="nobody")
    assert ended(attempt).status == "completed"
    nobody = pwd.getpwnam("nobody")
    output = attempt.files.stream("stdout").read_text().splitlines()
    assert output[0].startswith(f"{nobody.pw_uid} {nobody.pw_gid}")
    assert "0" not in output[0].partition("[")[2].strip("]").split(", ")
    assert output[1:] == ["closed", "closed"]


@pytest.mark.parametrize(
    ("script", "reason", "result"),
    [
        ("raise SystemExit(3)", "exit_code: 3", {"exitCode": 3}),
        ("import os; os.kill(os.getpid(), 11)", "exit_code: SIGSEGV", {"signal": "SIGSEGV"}),
        (
            "open('.qubix-result', 'w').write('{'); 1 / 0",
            "exit_code: 1",
            {"exitCode": 1, "error": "the result is not JSON"},
        ),
    ],
)
def test_a_failure_says_how(stage: Stage, script: str, reason: str, result: object) -> None:
    """A first process that ends with another code than 0, or by a signal, is a failure that says which."""
    end = ended(stage.start(script))
    assert (end.status, end.reason, end.result) == ("failed", reason, result)


def test_an_end_that_can_not_be_written_is_written_later(stage: Stage) -> None:
    """A disk that takes nothing (here: a directory in the journal's place) loses no result."""
    attempt = stage.start(WAIT)
    said(attempt, "ready")
    started = wait_for(lambda: attempt.files.journal()[0], "the start")
    journal = attempt.files.directory / "journal"
    journal.rename(journal.with_name("aside"))
    journal.mkdir()
    work = Path(attempt.files.read_plan().work)
    os.kill(started.process.pid, signal.SIGUSR1)
    wait_for(lambda: not work.exists(), "the job's own files to make room")
    assert attempt.is_supervised
    journal.rmdir()
    journal.with_name("aside").rename(journal)
    assert ended(attempt).reason == "exit_code: SIGUSR1"


def test_nobody_is_left_to_read_the_end(stage: Stage) -> None:
    """A supervisor whose directory was taken away ends its job, and then itself."""
    attempt = stage.start(WAIT)
    said(attempt, "ready")
    started = wait_for(lambda: attempt.files.journal()[0], "the start")
    supervisor = psutil.Process(started.process.pid).parent()
    assert supervisor is not None
    shutil.rmtree(attempt.files.directory)
    os.kill(started.process.pid, signal.SIGKILL)
    wait_for(lambda: not supervisor.is_running() or supervisor.status() == psutil.STATUS_ZOMBIE, "its end")
    attempt.files.directory.mkdir()  # for what the stage does at its end


def test_what_can_not_be_started_says_why(stage: Stage) -> None:
    """A program that is not there fails the job with the system's reason."""
    attempt = stage.run(stage.launch(["/nonexistent/program"]))
    end = ended(attempt)
    reason = "not_started: /nonexistent/program can't be started: No such file or directory"
    assert (end.status, end.reason) == ("failed", reason)


def test_a_stopped_job_may_finish(stage: Stage) -> None:
    """A job that is cancelled gets SIGTERM, and what it does with it is waited for, within its grace."""
    script = """
import signal, sys
def finish(*_):
    print("saved", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, finish)
print("ready", flush=True)
signal.pause()
"""
    attempt = stage.start(script)
    said(attempt, "ready")
    attempt.stop("cancelled", 15.0)
    end = ended(attempt)
    assert (end.status, end.reason) == ("cancelled", "cancelled")
    assert attempt.files.stream("stdout").read_text() == "ready\nsaved\n"


def test_a_job_that_will_not_end_is_killed(stage: Stage) -> None:
    """SIGTERM ignored, with all its children: the grace passes, and SIGKILL ends every one of them."""
    script = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(3):
    if os.fork() == 0:
        break
print("ready", os.getpid(), flush=True)
while True:
    time.sleep(1000)
"""
    attempt = stage.start(script)
    wait_for(lambda: said(attempt, "ready").count("ready") == 4, "four processes")
    pids = [int(line.split()[1]) for line in attempt.files.stream("stdout").read_text().splitlines()]
    before = boottime()
    attempt.stop("cancelled", 0.5)
    end = ended(attempt)
    assert boottime() - before >= 0.5
    assert (end.status, end.result) == ("cancelled", {"signal": "SIGKILL"})
    assert not [pid for pid in pids if is_running(pid)]


@pytest.mark.usefixtures("either_way")
def test_nothing_escapes(stage: Stage) -> None:
    """A double fork into a session of its own, with another environment even, ends with the job."""
    attempt = stage.start(ESCAPE)
    end = ended(attempt)
    assert end.status == "completed"
    pids = escaped(attempt.files.stream("stdout").read_text())
    assert len(pids) == 2
    assert not [pid for pid in pids if is_running(pid)]


@pytest.mark.usefixtures("either_way")
def test_a_lost_supervisor_leaves_nothing(stage: Stage) -> None:
    """After the SIGKILL of a supervisor the agent sees it, ends all that the job left, and says so."""
    attempt = stage.start(ESCAPE + WAIT)
    pids = escaped(said(attempt, "ready"))
    wait_for(lambda: len(attempt.files.read_seen()) == 3, "the supervisor to note all three")
    os.kill(supervisor_of(attempt), signal.SIGKILL)
    verdict = wait_for(lambda: attempt.verdict(boottime()), "the agent to see it")
    assert (verdict.status, verdict.reason) == ("failed", SUPERVISOR_LOST)
    end = attempt.take_over(verdict)
    assert end.reason == SUPERVISOR_LOST
    assert not [pid for pid in pids if is_running(pid)]
    assert nothing_left(attempt)
    attempt.look()
    assert [kind for kind, _ in messages(attempt)] == ["JOB_LOGS", "JOB_COMPLETED"]


def test_a_job_dies_with_its_supervisor(stage: Stage) -> None:
    """Where nobody is left to look after it, a job's first process is ended by the kernel, at once."""
    attempt = stage.start(WAIT)
    said(attempt, "ready")
    started = wait_for(lambda: attempt.files.journal()[0], "the start")
    os.kill(supervisor_of(attempt), signal.SIGKILL)
    wait_for(lambda: not is_running(started.process.pid), "the end of the job")


def test_without_an_agent_it_ends_before_its_lease(stage: Stage) -> None:
    """A lease that nobody renews ends the job, its grace included, before the lease itself is over."""
    script = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + WAIT
    accepted = boottime()
    attempt = stage.start(script, lease=3.0)
    said(attempt, "ready")
    end = ended(attempt)
    assert (end.status, end.reason, end.result) == ("failed", "lease_expired", {"signal": "SIGKILL"})
    assert boottime() - accepted > 2.0
    assert nothing_left(attempt)


def test_a_renewed_job_goes_on(stage: Stage) -> None:
    """Renewals reach the supervisor: the job outlives the lease that it began with."""
    attempt = stage.start("import time\nprint('ready', flush=True)\ntime.sleep(3)\n", lease=2.0)
    until = boottime() + 10

    def renewed() -> Ended | None:
        attempt.renew(boottime())
        attempt.look()
        assert boottime() < until
        return attempt.ended

    assert wait_for(renewed, "the end").status == "completed"


def test_a_frozen_supervisor_can_not_hold_a_job_beyond_its_lease(stage: Stage) -> None:
    """A supervisor that is stopped is passed over by the agent, before the lease is over."""
    attempt = stage.start(WAIT, lease=2.0)
    said(attempt, "ready")
    os.kill(supervisor_of(attempt), signal.SIGSTOP)
    verdict = wait_for(lambda: attempt.verdict(boottime()), "the agent to take over")
    assert verdict.reason == "lease_expired"
    assert attempt.take_over(verdict).reason == "lease_expired"
    assert nothing_left(attempt)
    assert not attempt.is_supervised


def test_it_outlives_the_agent(stage: Stage) -> None:
    """An agent that is killed leaves the job as it is; the next one finds it, and how it ended."""
    job = (
        "import os, time\nprint('ready', flush=True)\nwhile not os.path.exists('go'):\n    time.sleep(0.01)\n"
    )
    agent = f"""
import os, signal
from pathlib import Path
from typing import Any
from tests.agent.jobs.stage import Stage
stage = Stage(Path({str(stage.root)!r}))
stage.job_id = {stage.job_id!r}
stage.start({job!r})
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", agent], check=False).returncode == -signal.SIGKILL
    found = stage.again(stage.root / f"{stage.job_id}.1")
    assert found.state == "running"
    said(found, "ready")
    assert found.verdict(boottime()) is None
    Path(found.files.read_plan().work, "go").touch()
    assert ended(found).status == "completed"


@pytest.mark.parametrize(
    ("script", "launch", "reason"),
    [
        (WAIT, {"limits": Limits(wall_seconds=0.5)}, "timeout"),
        (WAIT, {"no_progress_seconds": 0.5}, "no_progress"),
        (
            "import mmap, time\nm = mmap.mmap(-1, 80 << 20)\nfor _ in range(80): m.write(bytes(1 << 20))\n"
            + WAIT,
            {"limits": Limits(memory_bytes=50 << 20)},
            "limit: memory",
        ),
        ("while True: pass", {"limits": Limits(cpu_seconds=1)}, "limit: processor time"),
    ],
)
def test_limits_end_it(stage: Stage, script: str, launch: dict[str, Any], reason: str) -> None:
    """What goes beyond a limit of its owner's is ended, and says which."""
    end = ended(stage.start(script, grace_seconds=0.2, **launch))
    assert (end.status, end.reason) == ("failed", reason)


def test_more_processes_than_it_may_have_are_its_end(stage: Stage) -> None:
    """Root's are counted by the supervisor; anybody else is refused more by the kernel, too."""
    script = """
import os, sys, time
for _ in range(9):
    try:
        child = os.fork()
    except OSError:
        sys.exit(9)
    if child == 0:
        time.sleep(1000)
time.sleep(1000)
"""
    end = ended(stage.start(script, grace_seconds=0.2, limits=Limits(max_processes=5)))
    refused = {"exit_code: 9"} if os.geteuid() != 0 else set()
    assert end.reason in {"limit: processes", *refused}
    assert nothing_left(stage.attempts[0])


def test_progress_is_noted_as_it_comes(stage: Stage) -> None:
    """What a job says of its progress can be read while it runs, and its last word counts."""
    script = """
import os, time
def say(line):
    with open(os.environ["QUBIX_PROGRESS"], "a") as file:
        file.write(line + "\\n")
say('{"progress": 40, "message": "epoch\\u009b31m 2"}')
while not os.path.exists("go"):
    time.sleep(0.01)
say('{"progress": 250}')
"""
    attempt = stage.start(script)
    report = wait_for(lambda: r if (r := attempt.files.read_progress()).progress else None, "progress")
    assert (report.progress, report.message, report.source) == (40.0, "epoch�31m 2", "reported")
    Path(attempt.files.read_plan().work, "go").touch()
    ended(attempt)
    kind, message = messages(attempt)[0]
    assert (kind, message.progress.progress) == ("JOB_PROGRESS", 100.0)


def test_a_flood_is_cut_and_counted(stage: Stage) -> None:
    """Of output beyond the limit the end is kept and the rest is counted; each message fits."""
    script = """
import os, sys
line = b"x" * 1000 + b"\\n"
for _ in range(20000):
    os.write(1, line)
os.write(1, b"the end \\xff\\n")
os.write(2, b"why\\n")
"""
    attempt = stage.start(script, limits=Limits(log_bytes=100_000))
    end = ended(attempt)
    total = 20000 * 1001 + 10
    assert (end.stdout.total, end.stdout.head, end.stdout.tail) == (total, 100_000, 16 * 1024)
    logs = [message for kind, message in messages(attempt) if kind == "JOB_LOGS"]
    out = [message for message in logs if message.stream == "stdout"]
    assert sum(message.dropped for message in out) == total - 100_000 - 16 * 1024
    position = 0
    for message in out:
        assert message.from_ == position + message.dropped
        position = message.from_ + len(message.text.replace("�", "x"))
    assert position == total
    assert out[-1].text.endswith("the end �\n")
    errors = [message for message in logs if message.stream == "stderr"]
    assert [message.dropped for message in errors][-1:] in ([0], [4])


def test_a_job_that_floods_is_still_ended_in_time(stage: Stage) -> None:
    """Endless output keeps the supervisor from nothing."""
    attempt = stage.start("import os\nwhile True: os.write(1, b'y' * 65536)", limits=Limits(log_bytes=1000))
    wait_for(lambda: attempt.files.journal()[0], "the start")
    attempt.stop("cancelled", 0.1)
    assert ended(attempt).status == "cancelled"


def test_a_machine_that_was_started_anew_ends_its_jobs(stage: Stage) -> None:
    """An attempt of another boot is over, whatever has its process ids by now."""
    attempt = stage.start(WAIT)
    said(attempt, "ready")
    attempt.take_over(Ended(status="failed", reason="x"))
    files = attempt.files
    (files.directory / "journal").unlink()
    plan = (files.directory / "plan.json").read_text()
    (files.directory / "plan.json").write_text(plan.replace(files.read_plan().boot_id, "another-boot"))
    found = stage.again(files.directory)
    verdict = found.verdict(boottime())
    assert verdict is not None
    assert found.take_over(verdict).reason == "agent_restarted"


def test_files_that_power_loss_emptied_are_those_of_a_job_that_is_over(stage: Stage) -> None:
    """Orders or a plan that can't be read are of another boot: the attempt ends, and is not begun."""
    attempt = stage.start("pass")
    ended(attempt)
    files = attempt.files
    (files.directory / "journal").unlink()
    (files.directory / "orders.json").write_bytes(b"")
    found = stage.again(files.directory)
    assert found.state == "running"
    verdict = found.verdict(boottime())
    assert verdict is not None
    assert found.take_over(verdict).reason == "agent_restarted"


def test_what_could_not_be_started_is_not_begun_again(stage: Stage) -> None:
    """An attempt that ended before it had a plan has ended for the next agent, too."""

    def fail(*_: object) -> list[str]:
        raise SandboxError("no sandbox here")

    attempt = stage.run(stage.launch(["true"]), wrap=fail)
    assert attempt.ended is not None
    assert attempt.ended.reason == "not_started: no sandbox here"
    found = stage.again(attempt.files.directory)
    found.look()
    assert found.ended == attempt.ended


def test_a_regular_expression_that_explodes_holds_nobody_up(stage: Stage) -> None:
    """A search that would take for ever is broken off; the job, its limits and its end are as always."""
    source = ProgressSource(kind="regex", pattern=r"(a+)+b(?P<percent>\d+)")
    script = "print('a' * 4000, flush=True)\n" + WAIT
    attempt = stage.start(script, progress=source)
    said(attempt, "ready")
    attempt.stop("cancelled", 0.1)
    assert ended(attempt).status == "cancelled"


def test_a_sandboxed_command_is_what_runs(stage: Stage) -> None:
    """What wraps a launch is given its whole environment and its directory, and what it gives is run."""
    seen: list[tuple[str, bool]] = []

    def wrap(launch: Launch, work: Path) -> list[str]:
        seen.append((launch.env["QUBIX_WORKDIR"], work.is_dir()))
        return [PYTHON, "-c", "print('wrapped')", *no_sandbox(launch, work)]

    attempt = stage.run(stage.launch(["never"]), wrap=wrap)
    ended(attempt)
    assert attempt.files.stream("stdout").read_text() == "wrapped\n"
    assert seen == [(attempt.files.read_plan().work, True)]


def test_a_job_is_over_when_its_gpus_are_free(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ended job that the driver still names is waited for; one that it never lets go of is unkillable."""
    attempt = stage.start("pass", gpus=["GPU-1"])
    wait_for(lambda: attempt.files.journal()[1], "the end of the job")
    started, _ = attempt.files.journal()
    assert started is not None
    attempt.look({started.process.pid})
    assert attempt.state == "running"
    assert attempt.verdict(boottime()) is None
    attempt.look({started.process.pid + 1})
    assert attempt.ended is not None
    assert attempt.ended.status == "completed"
    again = stage.again(attempt.files.directory)
    again.look({started.process.pid})
    monkeypatch.setattr("agent.jobs.attempt.GPU_SECONDS", 0.0)
    again.look({started.process.pid})
    assert again.ended is not None
    assert (again.ended.status, again.ended.reason) == ("failed", "unkillable: it still holds a GPU")


def test_the_supervisor_is_small(stage: Stage) -> None:
    """It costs a provider little: no event loop, no TLS, nothing of the console's in it."""
    attempt = stage.start(WAIT)
    said(attempt, "ready")
    status = Path(f"/proc/{supervisor_of(attempt)}/status").read_text()
    resident = int(next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon:")))
    assert resident < 20_000
    maps = Path(f"/proc/{supervisor_of(attempt)}/maps").read_text()
    assert "_ssl" not in maps
    assert "_asyncio" not in maps
