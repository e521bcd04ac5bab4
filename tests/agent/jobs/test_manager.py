"""A job's conversation with the hub, with real sockets and real processes: nothing twice, nothing lost."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent.jobs import runner
from agent.jobs.attempt import SUPERVISOR_LOST
from agent.jobs.delivery import WINDOW
from agent.jobs.files import Files, holder
from agent.jobs.processes import is_alive, stat, tagged
from qubix_tui.protocol.requests import Request
from tests.agent.jobs import impatient
from tests.agent.jobs.marketplace import Marketplace, settled
from tests.client.scripted_hub import Peer, until
from tests.end_to_end.processes import wait_for

WAIT = "import signal\nprint('ready', flush=True)\nsignal.pause()\n"


@pytest.fixture
async def market(tmp_path: Path) -> AsyncIterator[Marketplace]:
    """A hub and an agent that takes its jobs; nothing runs after the test."""
    async with Marketplace(tmp_path) as made:
        yield made


def is_running(market: Marketplace) -> bool:
    """Whether any process of the job runs."""
    return bool(list(tagged(f"{market.job_id}.1")))


async def ready(market: Marketplace, count: int = 1) -> None:
    """Wait until the job has printed that it is."""
    logs = await market.arrived("JOB_LOGS", count)
    assert "ready" in logs.text


async def test_a_job_from_its_assignment_to_its_end(market: Marketplace) -> None:
    """Accepted, started, told of in order with growing numbers, and forgotten once all is acknowledged."""
    script = """
import json, os
print("hello", flush=True)
open(os.environ["QUBIX_PROGRESS"], "w").write('{"progress": 50, "message": "half"}\\n')
json.dump({"answer": 42}, open(os.environ["QUBIX_RESULT"], "w"))
"""
    await market.assign(script)
    accepted = await market.arrived("job:accept")
    assert (accepted.job_id, accepted.attempt, accepted.reason) == (market.job_id, 1, None)
    completion = await market.arrived("JOB_COMPLETED")
    assert (completion.status, completion.reason, completion.result) == ("completed", None, {"answer": 42})
    logs = market.of("JOB_LOGS")
    assert ("".join(piece.text for piece in logs), logs[0].from_, logs[0].stream) == ("hello\n", 0, "stdout")
    progress = market.of("JOB_PROGRESS")[-1].progress
    assert (progress.progress, progress.message, progress.source) == (50, "half", "reported")
    reports = [request.data.seq for request in market.requests if request.type.startswith("JOB_")]
    assert reports == list(range(1, len(reports) + 1))
    await settled(market)


async def test_nothing_starts_before_the_hub_says_so(market: Marketplace) -> None:
    """Accepted is not started: without job:start there is no process; a lost answer is asked for again."""
    market.starts = False
    await market.assign("print('started')")
    await market.arrived("job:accept")
    assert [job.state for job in market.manager.held()] == ["assigned"]
    assert not is_running(market)
    market.starts = True
    await market.cut()
    registered = await market.arrived("provider:register", 2)
    assert [(job.job_id, job.attempt, job.state) for job in registered.jobs] == [
        (market.job_id, 1, "assigned")
    ]
    await market.arrived("job:accept", 2)
    assert (await market.arrived("JOB_COMPLETED")).status == "completed"


async def test_an_assignment_that_was_taken_back_never_starts(market: Marketplace) -> None:
    """job:stop in place of job:start: nothing runs, and nothing is kept."""
    market.starts = False
    await market.assign("print('started')")
    await market.arrived("job:accept")
    data = {"jobId": market.job_id, "attempt": 1, "reason": "accept_timeout"}
    await market.peer.send("job:stop", data)
    await settled(market)
    assert market.of("JOB_COMPLETED") == []


@pytest.mark.parametrize(
    ("workload", "paused", "reason"),
    [
        ("other", None, "no workload other here"),
        ("script", "its owner paused it", "its owner paused it"),
    ],
)
async def test_what_may_not_run_is_refused(
    market: Marketplace, workload: str, paused: str | None, reason: str
) -> None:
    """A workload that is not offered, an owner who keeps the machine: the hub is told why."""
    market.paused = paused
    await market.assign("x", workload=workload)
    refused = await market.arrived("job:refuse")
    assert (refused.job_id, refused.attempt, refused.reason) == (market.job_id, 1, reason)
    assert market.manager.held() == []


async def test_no_hub_gives_a_gpu_that_is_not_offered(market: Marketplace) -> None:
    """A GPU that the owner keeps, or a text that is none: refused. One that is named twice is one."""
    for attempt, gpus in enumerate((["GPU-3"], ["GPU-1", "all"], [""]), 1):
        await market.assign("x", attempt=attempt, gpus=gpus)
        refused = await market.arrived("job:refuse", attempt)
        assert refused.attempt == attempt
        assert refused.reason == f"this machine's owner does not offer the GPU {gpus[-1]}"
    assert market.manager.held() == []
    script = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"
    await market.assign(script, attempt=4, gpus=["GPU-2", "GPU-1", "GPU-2"])
    assert (await market.arrived("JOB_LOGS")).text == "GPU-2,GPU-1\n"
    await settled(market)


async def test_a_second_job_is_refused(market: Marketplace) -> None:
    """One at a time: while a job runs another one is not taken."""
    await market.assign(WAIT)
    await ready(market)
    await market.assign(WAIT, attempt=2)
    assert (await market.arrived("job:refuse")).attempt == 2


async def test_a_job_that_is_to_stop_is_ended_and_told_so(market: Marketplace) -> None:
    """job:stop ends everything of the job, and only then it is said that it was cancelled."""
    await market.assign(WAIT)
    await ready(market)
    data = {"jobId": market.job_id, "attempt": 1, "reason": "cancelled_by: ann", "graceSeconds": 5}
    await market.peer.send("job:stop", data)
    completion = await market.arrived("JOB_COMPLETED")
    assert not is_running(market)
    assert (completion.status, completion.reason) == ("cancelled", "cancelled_by: ann")
    await settled(market)


async def test_a_hub_can_not_shorten_the_grace_of_an_owner(market: Marketplace) -> None:
    """A workload that has a second to save what it has keeps it, whatever the hub says."""
    script = "import signal, time\nsignal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.3), exit(7)))\n"
    await market.assign(script + WAIT)
    await ready(market)
    stop = {"jobId": market.job_id, "attempt": 1, "reason": "x", "graceSeconds": 0}
    await market.peer.send("job:stop", stop)
    assert (await market.arrived("JOB_COMPLETED")).result == {"exitCode": 7}


async def test_leases_are_renewed_in_time(market: Marketplace) -> None:
    """Every third of a lease it is renewed, so that a job outlives many of them."""
    market.lease = 1.5
    await market.assign(WAIT)
    await market.arrived("job:renew", 6)
    assert is_running(market)
    renewed = market.of("job:renew")[-1].jobs
    assert [(job.job_id, job.attempt) for job in renewed] == [(market.job_id, 1)]


async def test_what_is_not_renewed_stops(market: Marketplace) -> None:
    """A renewal that says stop ends the job."""
    market.lease = 3.0
    await market.assign(WAIT)
    await ready(market)
    market.stop = [market.job_id]
    await market.arrived("JOB_COMPLETED")
    assert not is_running(market)


async def test_a_cut_link_is_no_harm(market: Marketplace) -> None:
    """The job goes on; what the hub did not acknowledge is sent again, the same, with the same numbers."""
    market.acknowledges = False
    await market.assign("print('x' * 50)\n" + WAIT)
    first = await market.arrived("JOB_LOGS")
    count = len(market.of("JOB_LOGS"))
    await market.cut()
    await market.arrived("JOB_LOGS", count + 1)
    assert market.of("JOB_LOGS")[count] == first
    held = market.of("provider:register")[-1].jobs
    assert [(job.job_id, job.attempt, job.state) for job in held] == [(market.job_id, 1, "running")]
    assert held[0].last_seq >= 1
    market.acknowledges = True
    await market.cut()
    await market.peer.send("job:stop", {"jobId": market.job_id, "attempt": 1, "reason": "x"})
    await market.arrived("JOB_COMPLETED")
    await settled(market)
    assert len({report.seq for report in market.of("JOB_COMPLETED")}) == 1


async def test_an_end_is_told_however_long_the_hub_is_away(market: Marketplace) -> None:
    """A job that ends while nobody listens is told of when somebody does."""
    await market.assign(
        "import os, time\nprint('ready', flush=True)\nwhile not os.path.exists('go'): time.sleep(.01)"
    )
    await ready(market)
    await market.hub.stop()
    files = Files(market.root / "jobs" / f"{market.job_id}.1")
    Path(files.read_plan().work, "go").touch()
    await until(lambda: files.journal()[1] is not None, deadline=20)
    await market.hub.listen()
    assert (await market.arrived("JOB_COMPLETED")).status == "completed"
    await settled(market)


async def test_an_order_to_stop_meets_the_agent_as_it_returns(market: Marketplace) -> None:
    """What was given to another meanwhile is ended as soon as the agent registers."""
    await market.assign(WAIT)
    await ready(market)
    market.stop = [market.job_id]
    await market.cut()
    await market.arrived("JOB_COMPLETED")
    assert not is_running(market)
    await settled(market)


async def test_another_agent_takes_up_what_runs(market: Marketplace) -> None:
    """After a restart of the agent the job is the same process, named in the registration, and told of on."""
    await market.assign(WAIT)
    await ready(market)
    before = list(tagged(f"{market.job_id}.1"))
    await market.restart_agent()
    held = market.of("provider:register")[-1].jobs
    assert [(job.job_id, job.state) for job in held] == [(market.job_id, "running")]
    assert list(tagged(f"{market.job_id}.1")) == before
    await market.peer.send("job:stop", {"jobId": market.job_id, "attempt": 1, "reason": "x"})
    assert (await market.arrived("JOB_COMPLETED")).status == "cancelled"
    await settled(market)


async def test_another_agent_tells_an_end_that_was_not_heard(market: Marketplace) -> None:
    """What the hub did not acknowledge of an ended job is told by the next agent, with the same numbers."""
    market.acknowledges = False
    await market.assign("print('x')")
    before = await market.arrived("JOB_COMPLETED")
    await market.restart_agent()
    assert [job.state for job in market.of("provider:register")[-1].jobs] == ["ended"]
    market.acknowledges = True
    assert await market.arrived("JOB_COMPLETED", 2) == before
    await market.cut()
    await settled(market)


async def test_a_lost_supervisor_is_told(market: Marketplace) -> None:
    """A supervisor that is killed: the agent ends what it left, and the job has failed."""
    await market.assign(WAIT)
    await ready(market)
    pid = holder(market.root / "jobs" / f"{market.job_id}.1" / "lock")
    assert pid
    os.kill(pid, signal.SIGKILL)
    completion = await market.arrived("JOB_COMPLETED")
    assert (completion.status, completion.reason) == ("failed", SUPERVISOR_LOST)
    assert not is_running(market)
    await settled(market)


async def test_no_more_is_sent_than_a_window(market: Marketplace) -> None:
    """A flood of output waits on the disk: at most 32 messages are on their way without an answer."""
    market.acknowledges = False
    await market.assign("import os\nfor _ in range(3000): os.write(1, b'z' * 1000)\n")
    await market.arrived("JOB_LOGS", WINDOW)
    files = Files(market.root / "jobs" / f"{market.job_id}.1")
    await until(lambda: files.journal()[1] is not None, deadline=20)
    assert len({report.seq for report in market.of("JOB_LOGS")}) == WINDOW
    market.acknowledges = True
    await market.cut()
    await market.arrived("JOB_COMPLETED")
    pieces = {report.from_: report.text for report in market.of("JOB_LOGS")}
    assert "".join(pieces[start] for start in sorted(pieces)) == "z" * 3_000_000
    await settled(market)


async def test_a_hub_that_takes_no_more_is_given_time(market: Marketplace) -> None:
    """A message that was limited is sent again after as long as the hub said, with the same number."""
    refused: list[int] = []
    usual = market.hub.answers["JOB_COMPLETED"]

    async def limit(peer: Peer, request: Request) -> None:
        if len(refused) < 2:
            refused.append(request.data.seq)
            data = {"code": "rate_limited", "message": "too much", "retryAfter": 0.05}
            await peer.send("error", data, request_id=request.id)
        else:
            await usual(peer, request)

    market.hub.answers["JOB_COMPLETED"] = limit
    await market.assign("print('x')")
    completion = await market.arrived("JOB_COMPLETED")
    assert refused == [completion.seq] * 2
    await settled(market)


async def test_a_message_that_is_never_taken_is_set_aside(market: Marketplace) -> None:
    """A result that the hub finds invalid: the owner is told, and the hub still hears how the job ended."""
    usual = market.hub.answers["JOB_COMPLETED"]

    async def refuse(peer: Peer, request: Request) -> None:
        if request.data.result is not None:
            data = {"code": "invalid", "message": "this result is bad", "field": "data.result"}
            await peer.send("error", data, request_id=request.id)
        else:
            await usual(peer, request)

    market.hub.answers["JOB_COMPLETED"] = refuse
    await market.assign("raise SystemExit(4)")
    completion = await market.arrived("JOB_COMPLETED")
    assert (completion.status, completion.reason, completion.result) == ("failed", "exit_code: 4", None)
    assert len(market.complaints) == 1
    assert "this result is bad" in market.complaints[0]
    await settled(market)


async def test_what_nobody_wants_ends(market: Marketplace) -> None:
    """An acknowledgement that says stale ends the job, and nothing more is said of it."""

    async def stale(peer: Peer, request: Request) -> None:
        data = {"jobId": request.data.job_id, "attempt": 1, "seq": request.data.seq, "stale": True}
        await peer.send("ack", data, request_id=request.id)

    market.hub.answers["JOB_LOGS"] = stale
    await market.assign(WAIT)
    await market.arrived("job:accept")
    await until(lambda: market.manager.held() and market.manager.held()[0].state == "running")
    await settled(market)
    assert not is_running(market)
    assert market.of("JOB_COMPLETED") == []


@pytest.fixture
def freezer() -> Iterator[Path]:
    """A control group that holds processes still, so that not even SIGKILL ends them."""
    path = Path("/sys/fs/cgroup/freezer") / f"qubix-test-{os.getpid()}"
    try:
        path.mkdir()
    except OSError:
        pytest.skip("there is no freezer (cgroup v1, as root) that would make a process unkillable")
    yield path
    (path / "freezer.state").write_text("THAWED")
    wait_for(lambda: not (path / "cgroup.procs").read_text(), "what was frozen to end")
    path.rmdir()


async def test_what_can_not_be_ended_is_said_and_followed_by_nothing(
    market: Marketplace, freezer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that SIGKILL does not end: the job failed, and no other begins while it is there."""
    monkeypatch.setattr(runner, "supervisor", SimpleNamespace(__file__=impatient.__file__))
    await market.assign(WAIT)
    await ready(market)
    left = [seen.process for pid in tagged(f"{market.job_id}.1") if (seen := stat(pid)) is not None]
    for pid, _ in left:
        (freezer / "cgroup.procs").write_text(str(pid))
    (freezer / "freezer.state").write_text("FROZEN")
    stop = {"jobId": market.job_id, "attempt": 1, "reason": "cancelled_by: ann", "graceSeconds": 0.1}
    await market.peer.send("job:stop", stop)
    completion = await market.arrived("JOB_COMPLETED")
    assert (completion.status, completion.reason) == ("failed", "unkillable")
    await until(lambda: not market.manager.held())
    await market.assign("pass", attempt=2)
    assert (
        await market.arrived("job:refuse")
    ).reason == f"{market.job_id}.1 is still there and can't be ended"
    (freezer / "freezer.state").write_text("THAWED")
    # Its environment is gone before it is.
    await until(lambda: not any(map(is_alive, left)), deadline=20)
    await market.assign("pass", attempt=3)
    assert (await market.arrived("JOB_COMPLETED", 2)).status == "completed"
    await settled(market)
