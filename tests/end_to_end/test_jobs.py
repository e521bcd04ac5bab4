"""Jobs by the commands a person types, with a real hub and an agent that says what a test wants."""

import asyncio
import json
import re
import shlex
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from qubix_tui.hub.engine.local import LocalEngine
from tests.end_to_end.processes import PATIENCE, command, environment, hub_process
from tests.hub.scripted_agent import WORKLOADS, ScriptedAgent
from tests.hub.wire import Client

GPU = {"index": 0, "utilPercent": 50, "memTotalMb": 8192, "tempC": 61}

MEASURED = {
    "benchmark": 1,
    "measuredAt": "2026-11-26T07:22:08.355Z",
    "versions": {"kernel": "Linux 6", "driver": "580", "cuda": None},
    "figures": [
        {"name": "sha256", "value": 2.5, "unit": "GB/s", "what": "bytes hashed", "gpu": None},
        {"name": "gpu_fp32", "value": None, "unit": "TFLOP/s", "what": None, "gpu": "GPU-1"},
    ],
    "notes": ["no \x1b[31m GPU"],
}


class Place:
    """A hub's home, and an agent that has registered there."""

    def __init__(self, home: Path, url: str, agent: ScriptedAgent) -> None:
        self.home = home
        self.url = url
        self.agent = agent

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        """Start a command."""
        return await asyncio.create_subprocess_exec(
            command("qubix"),
            *arguments,
            env=environment(self.home),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command to its end: exit code, stdout, stderr."""
        return await ended(await self.start(*arguments))

    async def document(self, *arguments: str) -> Any:
        """Run a command that prints one JSON document."""
        code, out, err = await self.run(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str, str]:
    """Wait for a command's end."""
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def line(process: asyncio.subprocess.Process, *, of_stderr: bool, having: str) -> str:
    """Wait for a line with a text in it."""
    stream = process.stderr if of_stderr else process.stdout
    assert stream is not None
    async with asyncio.timeout(PATIENCE):
        while True:
            text = (await stream.readline()).decode()
            assert text, f"it ended before it said {having!r}"
            if having in text:
                return text


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """A hub, and a provider at 3.6 an hour."""
    with hub_process(tmp_path) as (_, url):
        token = (tmp_path / "tokens" / "provider").read_text().strip()
        headers = {"Authorization": f"Bearer {token}"}
        async with connect(url, additional_headers=headers, compression=None) as socket:
            client = Client(socket)
            reply = await client.register(name="Rig", pricePerHour=3.6, workloads=WORKLOADS)
            yield Place(tmp_path, url, ScriptedAgent(client, reply["data"]["providerId"]))


async def test_submit_and_follow(place: Place) -> None:
    """Its states on stderr, what it prints where it printed it, its result at the end; exit code 0."""
    process = await place.start("submit", "train", "--param", "epochs=5", "--timeout", "60", "--follow")
    order = await place.agent.start()
    assert (order["params"], order["timeoutSeconds"]) == ({"epochs": 5}, 60)
    # Else it may be over before whoever follows it has seen it run.
    assert order["jobId"] in await line(process, of_stderr=True, having="running")
    await place.agent.progress(order, 42.5, message="epoch 2")
    await place.agent.log(order, "loss 0.5\n")
    await place.agent.log(order, "warm\x1b[31m\n", stream="stderr")
    await place.agent.complete(order, result={"loss": 0.25})
    code, out, err = await ended(process)
    assert code == 0
    assert out == 'loss 0.5\n{\n  "loss": 0.25\n}\n'
    assert "warm\x1b[31m\n" in err
    for words in (order["jobId"], "42%", "epoch 2", "is completed; it cost 0.0"):
        assert words in err


async def test_wait_says_how_it_ended(place: Place) -> None:
    """A failed job is exit code 1, with its reason; --json gives the record and nothing else."""
    process = await place.start("submit", "benchmark", "--wait")
    order = await place.agent.start()
    await place.agent.complete(order, "failed", reason="exit_code: 3")
    code, out, err = await ended(process)
    assert (code, out) == (1, f"{order['jobId']}\n")
    assert f"{order['jobId']} is failed: exit_code: 3; it cost " in err
    process = await place.start("submit", "benchmark", "--follow", "--json")
    order = await place.agent.start()
    await place.agent.log(order, "not on stdout\n")
    await place.agent.complete(order)
    code, out, err = await ended(process)
    assert (code, json.loads(out)["job"]["state"], err) == (0, "completed", "")


async def test_ctrl_c_leaves_a_followed_job_running(place: Place) -> None:
    """And says how to follow or cancel it."""
    process = await place.start("submit", "benchmark", "--follow")
    order = await place.agent.start()
    await line(process, of_stderr=True, having="running")
    process.send_signal(signal.SIGINT)
    code, _, err = await ended(process)
    job_id = order["jobId"]
    assert code == 130
    assert f"qubix jobs logs {job_id} --follow" in err
    assert f"qubix cancel {job_id}" in err
    assert (await place.document("jobs", "show", job_id))["job"]["state"] == "running"


async def test_a_log_is_followed_from_its_beginning(place: Place) -> None:
    """Each byte once, whatever came before, while and after the command was started."""
    submitted = await place.document("submit", "benchmark")
    job_id = submitted["jobId"]
    order = await place.agent.start()
    expected = ""
    for number in range(40):
        text = f"line {number}\n"
        await place.agent.log(order, text, len(expected))
        expected += text
        if number == 20:
            process = await place.start("jobs", "logs", job_id, "--follow")
            await line(process, of_stderr=False, having="line 20\n")
    await place.agent.complete(order)
    code, out, _ = await ended(process)
    assert (code, out) == (0, expected.partition("line 20\n")[2])
    assert await place.run("jobs", "logs", job_id) == (0, expected, "")


async def test_list_and_show(place: Place) -> None:
    """What there is, by state; and of one job its attempts, whose costs add up to the job's."""
    done = (await place.document("submit", "benchmark", "--retries", "1"))["jobId"]
    order = await place.agent.start()
    await place.agent.complete(order, "failed", reason="exit_code: 1")
    order = await place.agent.start()
    await place.agent.complete(order, result=[1, 2])
    waiting = (await place.run("submit", "train", "--gpu-model", "4090"))[1].strip()
    listed = await place.document("jobs")
    assert ([job["id"] for job in listed["jobs"]], listed["total"]) == ([waiting, done], 2)
    queued = await place.document("jobs", "--state", "queued")
    assert [job["id"] for job in queued["jobs"]] == [waiting]
    code, out, err = await place.run("jobs", "--limit", "1")
    assert (code, waiting in out, done in out, "1 more" in err) == (0, True, False, True)
    shown = await place.document("jobs", "show", done)
    assert [receipt["status"] for receipt in shown["receipts"]] == ["failed", "completed"]
    assert shown["job"]["costMicros"] == sum(receipt["costMicros"] for receipt in shown["receipts"])
    _, out, _ = await place.run("jobs", "show", done)
    assert "failed: exit_code: 1" in out
    assert out.endswith("result\n[\n  1,\n  2\n]\n")


async def test_why_and_cancel(place: Place) -> None:
    """Why it waits, in words; and that it is gone."""
    job_id = (await place.document("submit", "train", "--gpu-model", "4090", "--max-price", "1"))["jobId"]
    code, out, _ = await place.run("why", job_id)
    assert code == 0
    assert "gpu_model  0        " in out
    assert "takes 3.6 an hour; 1 is the most that the job pays" in out
    assert (await place.document("why", job_id))["providers"] == 1
    code, _, err = await place.run("cancel", job_id, "--wait")
    assert (code, "is cancelled: cancelled_by: local-operator" in err) == (0, True)
    code, _, err = await place.run("cancel", job_id)
    assert (code, "is cancelled; only one that waits or runs can be cancelled" in err) == (1, True)
    job_id = (await place.document("submit", "benchmark"))["jobId"]
    order = await place.agent.start()
    process = await place.start("cancel", job_id, "--wait")
    await place.agent.client.until("job:stop")
    await place.agent.complete(order)
    assert (await ended(process))[0] == 1


MISTAKES: list[tuple[list[str], int, str]] = [
    (["submit"], 2, "WORKLOAD"),
    (["submit", "a b"], 2, "is no id"),
    (["submit", "x", "--param", "epochs"], 2, "expected NAME=VALUE"),
    (["submit", "x", "--max-price", "-1"], 2, "not negative"),
    (["submit", "x", "--retries", "x"], 2, "expected a whole number"),
    (["submit", "x", "--retries", "11"], 1, "at most 10 retries"),
    (["submit", "x", "--provider", "nobody"], 1, "there is no provider nobody"),
    (["submit", "x", "--wait", "--follow"], 2, "not allowed with"),
    (["jobs", "show", "j1"], 1, "there is no job j1"),
    (["jobs", "logs", "j1"], 1, "there is no job j1"),
    (["jobs", "logs", "j1", "--follow"], 1, "there is no job j1"),
    (["jobs", "--state", "done"], 2, "invalid choice"),
    (["cancel", "j1"], 1, "there is no job j1"),
    (["why", "j1"], 1, "there is no job j1"),
    (["jobs", "--hub", "ws://127.0.0.1:1"], 3, "no hub answers"),
    (["submit", "x", "--hub", "ws://127.0.0.1:1"], 3, "127.0.0.1:1"),
]


async def test_what_is_wrong_is_said_in_one_line(place: Place) -> None:
    """With the exit code that the help names, and nothing on stdout."""

    async def check(arguments: list[str], code: int, words: str) -> None:
        found, out, err = await place.run(*arguments)
        assert (found, out, err.count("\n")) == (code, "", 1), (arguments, err)
        assert words in err, arguments

    for mistake in MISTAKES:
        await check(*mistake)


async def test_a_backup_of_a_running_hub_holds_its_jobs(place: Place, tmp_path: Path) -> None:
    """One file, which another hub starts from; a second one under that name is refused."""
    job_id = (await place.document("submit", "train", "--gpu-model", "4090"))["jobId"]
    copy = tmp_path / "copy.sqlite3"
    code, out, err = await place.run("hub", "backup", str(copy))
    assert (code, out) == (0, f"{copy}: {copy.stat().st_size} bytes\n"), err
    code, _, err = await place.run("hub", "backup", str(copy))
    assert (code, "is not written over" in err) == (1, True)
    restored = LocalEngine(copy)
    await restored.open()
    try:
        assert list(await restored.load("jobs")) == [job_id]
    finally:
        await restored.close()


async def test_a_job_that_nobody_offers_says_that_it_waits(place: Place) -> None:
    """On stderr, with how to ask why; the exit code is 0, and stdout has the id alone."""
    code, out, err = await place.run("submit", "nosuch")
    job_id = out.strip()
    assert (code, out) == (0, f"{job_id}\n")
    assert "nobody offers nosuch now" in err
    assert f"qubix why {job_id}" in err
    assert (await place.run("submit", "nosuch", "--json"))[2] == ""
    assert (await place.run("submit", "benchmark"))[2] == ""


async def test_one_provider_is_shown(place: Place) -> None:
    """Its record, its newest sample, and its last benchmark with date and versions; unknown as a dash."""
    provider_id = place.agent.provider_id
    code, out, _ = await place.run("providers", "show", provider_id)
    assert code == 0
    assert "benchmark  none completed" in out
    assert "metrics    —" in out
    await place.agent.client.send("GPU_METRICS_UPDATE", {"metrics": {"cpuPercent": 12.5, "gpus": [GPU]}})
    process = await place.start("submit", "benchmark", "--wait")
    await place.agent.complete(await place.agent.start(), result=MEASURED)
    assert (await ended(process))[0] == 0
    code, out, _ = await place.run("providers", "show", provider_id)
    lines = [" ".join(text.split()) for text in out.splitlines()]
    assert code == 0
    for expected in (
        f"provider {provider_id}",
        "name Rig",
        "state available",
        "price/h 3.6",
        "cpu —, — cores",
        "workloads benchmark, train",
        "cpu 12.5 % — °C load —",
        "gpu 0 50 % — of 8.0 GiB 61 °C — W",
        "versions benchmark 1, kernel Linux 6, driver 580",
        "sha256 2.5 GB/s (bytes hashed)",
        "gpu_fp32 of GPU-1 — TFLOP/s (—)",
        "note no [31m GPU",
    ):
        assert expected in [line.replace("\N{REPLACEMENT CHARACTER}", "") for line in lines]
    assert any(line.startswith("benchmark 2026-11-26T07:22:08.355Z job j") for line in lines)
    document = await place.document("providers", "show", provider_id)
    assert document["provider"]["id"] == provider_id
    assert document["metrics"]["cpuPercent"] == 12.5
    assert document["benchmark"]["result"] == MEASURED
    code, out, err = await place.run("providers", "show", "nosuch")
    assert (code, out) == (1, "")
    assert "there is no provider nosuch" in err


async def test_a_benchmark_of_any_form_is_shown(place: Place) -> None:
    """What a provider says that it measured is its own word, and may be no measurement at all."""
    for result in (
        None,
        [1],
        {"figures": {"a": 1}, "versions": 3, "notes": "x"},
        {"figures": [1, {}], "notes": [{}]},
    ):
        process = await place.start("submit", "benchmark", "--wait")
        await place.agent.complete(await place.agent.start(), result=result)
        assert (await ended(process))[0] == 0
        code, out, err = await place.run("providers", "show", place.agent.provider_id)
        assert (code, err) == (0, "")
        assert "benchmark  20" in out


async def test_the_commands_of_the_readme(place: Place) -> None:
    """Each of them, as it stands there, does what is said beside it."""
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    block = re.search(r"^## Jobs\n.*?```\n(.*?)```", text, re.DOTALL | re.MULTILINE)
    assert block is not None
    commands = [shlex.split(line, comments=True) for line in block[1].splitlines()]
    assert len(commands) == 8
    known = {"PROVIDER": place.agent.provider_id}
    for program, *arguments in commands:
        assert program == "qubix"
        process = await place.start(*(known.get(word, word) for word in arguments))
        if "--follow" in arguments:
            order = await place.agent.start()
            await place.agent.log(order, "measuring\n")
            await place.agent.complete(order, result=MEASURED)
            known["JOB"] = order["jobId"]
        code, out, err = await ended(process)
        assert code == 0, err
        if arguments[:2] == ["submit", "train"]:
            assert "nobody offers train" not in err
            known["JOB"] = out.strip()
        elif arguments[0] == "cancel":
            assert "is cancelled" in err
        else:
            assert ("measuring" if "logs" in arguments else known["JOB"]) in out + err
