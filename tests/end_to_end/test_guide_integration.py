"""The integration tests that the WebSocket guide lists: a provider comes, its status changes, a job runs."""

import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path

from websockets.asyncio.client import connect

from tests.agent.running import ask
from tests.end_to_end.offered_job import offer, until_offered
from tests.end_to_end.processes import hub_process, started
from tests.hub.wire import Client, Message, running


@contextlib.asynccontextmanager
async def subscriber(url: str, *channels: str) -> AsyncIterator[Client]:
    """A client that knows the address alone, and has subscribed."""
    async with connect(url, compression=None, ping_interval=None, max_queue=None, proxy=None) as socket:
        client = Client(socket)
        assert (await client.recv())["type"] == "connected"
        await client.subscribe(*channels)
        yield client


def of_type(messages: list[Message], type_: str) -> list[Message]:
    """Those of one type."""
    return [message for message in messages if message["type"] == type_]


async def test_registering_a_provider_broadcasts_provider_registered(tmp_path: Path) -> None:
    """A real agent that starts beside a real hub is told once to each marketplace subscriber alone."""
    with hub_process(tmp_path) as (_, url):
        async with (
            subscriber(url, "marketplace") as first,
            subscriber(url, "marketplace") as second,
            subscriber(url, "job:*") as silent,
        ):
            with started(["qubix-agent", "--hub", url, "--name", "rig", "--price", "0.45"], tmp_path):
                told = [await client.until("PROVIDER_REGISTERED") for client in (first, second)]
                assert told[0] == told[1]
                record = told[0]["data"]
                assert record["id"].startswith("rig-")
                assert record["workerId"]
                assert "gpuModel" in record, "null where there is no GPU, and never left out"
                assert record["pricePerHour"] == 0.45
                # The agent's first sample shows that its registration is over on every side.
                await first.subscribe(f"provider:{record['id']}")
                await first.until("GPU_METRICS_UPDATE")
                for client in (first, second):
                    assert of_type(await client.heard(), "PROVIDER_REGISTERED") == []
                assert await silent.heard() == []


async def test_updating_a_providers_status_broadcasts_provider_status_changed(tmp_path: Path) -> None:
    """An agent that says goodbye is told to `marketplace` and `provider:<id>`, once each, and to no other."""
    with hub_process(tmp_path) as (_, url):
        async with (
            subscriber(url, "marketplace") as market,
            subscriber(url, "provider:somebody-else", "job:*") as silent,
        ):
            with started(["qubix-agent", "--hub", url, "--name", "rig"], tmp_path) as agent:
                provider_id = (await market.until("PROVIDER_REGISTERED"))["data"]["id"]
                async with subscriber(url, f"provider:{provider_id}") as watcher:
                    agent.send_signal(signal.SIGTERM)
                    for client, channel in ((market, "marketplace"), (watcher, f"provider:{provider_id}")):
                        changed = await client.until("PROVIDER_STATUS_CHANGED")
                        assert changed["channel"] == channel
                        assert changed["data"]["providerId"] == provider_id
                        status = changed["data"]["status"]
                        assert (status["isOnline"], status["isAvailable"]) == (False, False)
                        assert of_type(await client.heard(), "PROVIDER_STATUS_CHANGED") == []
                assert await silent.heard() == []


async def test_submitting_a_job_broadcasts_progress_and_completion(tmp_path: Path) -> None:
    """A real process on a real agent: progress and end are broadcast, and the rental at once (7.4)."""
    offer(tmp_path)
    with hub_process(tmp_path) as (_, url), started(["qubix-agent", "--hub", url, "--name", "rig"], tmp_path):
        token = (tmp_path / "tokens" / "operator").read_text().strip()
        async with subscriber(url, "marketplace", "provider:*") as market, subscriber(url, "job:*") as jobs:
            await until_offered(url, "train")
            provider_id = ask(url, "/api/providers")["providers"][0]["id"]
            await market.heard()
            async with connect(url, additional_headers={"Authorization": f"Bearer {token}"}) as socket:
                operator = Client(socket)
                submitted = await operator.ask("job:submit", {"workload": "train", "params": {}})
                job_id = submitted["data"]["jobId"]
                busy = (await market.until("PROVIDER_STATUS_CHANGED"))["data"]
                assert busy["providerId"] == provider_id
                status = busy["status"]
                assert (status["state"], status["isAvailable"], status["currentJobId"]) == (
                    "busy",
                    False,
                    job_id,
                )
                for percent in (25, 75):
                    await until_progress(jobs, job_id, percent)
                    (tmp_path / str(percent)).touch()
                completed = await jobs.until("JOB_COMPLETED")
                assert completed["channel"] == f"job:{job_id}"
                assert completed["data"]["status"] == "completed"
                assert completed["data"]["result"] == {"loss": 0.1}
                assert (completed["data"]["jobId"], completed["data"]["providerId"]) == (job_id, provider_id)
                free = (await market.until("PROVIDER_STATUS_CHANGED"))["data"]["status"]
                while free["state"] == "busy":
                    free = (await market.until("PROVIDER_STATUS_CHANGED"))["data"]["status"]
                assert (free["state"], free["isAvailable"], free["currentJobId"]) == ("available", True, None)
                assert of_type(await jobs.heard(), "JOB_COMPLETED") == []


async def until_progress(client: Client, job_id: str, percent: float) -> None:
    """Wait until a job's progress is broadcast with this percentage."""
    while True:
        message = await client.until("JOB_PROGRESS")
        assert (message["channel"], message["data"]["jobId"]) == (f"job:{job_id}", job_id)
        progress = message["data"]["progress"]
        if progress["progress"] == percent:
            assert (progress["status"], progress["message"], progress["source"]) == (
                "running",
                "epoch",
                "reported",
            )
            return


async def test_a_jobs_events_reach_exactly_who_subscribed_to_it() -> None:
    """Progress and completion come once, in order, to `job:<id>` and `job:*`; the others are silent."""
    hearing = [("job:job-1",), ("job:*",), ("job:job-1", "job:*"), ("marketplace", "job:job-1")]
    silent = [("job:job-2",), ("marketplace",), ("provider:job-1", "provider:*"), ()]
    async with running() as hub, contextlib.AsyncExitStack() as stack:
        clients = {
            channels: await stack.enter_async_context(subscriber(hub.hub.url, *channels))
            for channels in (*hearing, *silent)
        }
        for percent in (25, 75):
            await hub.hub.broadcast_job_progress("job-1", {"progress": percent, "status": "running"})
        await hub.hub.broadcast_job_completed("job-1", {"status": "completed", "result": {"loss": 0.1}})
        for channels in hearing:
            first, second, last = await clients[channels].heard()
            for message, percent in ((first, 25), (second, 75)):
                assert message["type"] == "JOB_PROGRESS"
                assert message["data"]["jobId"] == "job-1"
                assert message["data"]["progress"]["progress"] == percent
            assert last["type"] == "JOB_COMPLETED"
            assert (last["data"]["jobId"], last["data"]["status"]) == ("job-1", "completed")
            assert last["data"]["result"] == {"loss": 0.1}
        for channels in silent:
            assert await clients[channels].heard() == [], channels
