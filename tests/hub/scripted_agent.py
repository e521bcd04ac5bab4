"""An agent that runs nothing: a provider over a real socket, which says what a test tells it to say."""

from typing import Any

from tests.hub.wire import Client, Message, Running

WORKLOADS = [
    {"name": "benchmark"},
    {
        "name": "train",
        "gpus": 1,
        "params": [{"name": "epochs", "type": "integer", "default": 3, "min": 1, "max": 100}],
    },
]


class ScriptedAgent:
    """A provider with its connection."""

    def __init__(self, client: Client, provider_id: str) -> None:
        self.client = client
        self.provider_id = provider_id
        self._seq: dict[tuple[str, int], int] = {}

    async def assigned(self) -> Message:
        """The next job that it is asked to take."""
        data: Message = (await self.client.until("job:assign"))["data"]
        return data

    async def accept(self, order: Message) -> Message:
        """Take a job; gives what answers that."""
        return await self.client.ask("job:accept", _ref(order))

    async def start(self) -> Message:
        """Take the next job, and be told to start it; gives the assignment."""
        order = await self.assigned()
        answer = await self.accept(order)
        assert answer["type"] == "job:start", answer
        return order

    async def report(self, kind: str, order: Message, **data: Any) -> Message:
        """Report something of a job, with the next number; gives what answers that."""
        key = order["jobId"], order["attempt"]
        self._seq[key] = self._seq.get(key, 0) + 1
        return await self.client.ask(kind, _ref(order) | {"seq": self._seq[key]} | data)

    async def progress(self, order: Message, percent: float | None, **progress: Any) -> Message:
        """Report how far a job is."""
        said = {"progress": percent, "source": "reported"} | progress
        return await self.report("JOB_PROGRESS", order, progress=said)

    async def log(self, order: Message, text: str, start: int = 0, **data: Any) -> Message:
        """Report what a job printed."""
        said = {"stream": "stdout", "from": start, "text": text} | data
        return await self.report("JOB_LOGS", order, **said)

    async def complete(self, order: Message, status: str = "completed", **data: Any) -> Message:
        """Report how a job ended."""
        return await self.report("JOB_COMPLETED", order, status=status, **data)

    async def renew(self, *orders: Message) -> Message:
        """Renew leases."""
        return await self.client.ask("job:renew", {"jobs": [_ref(order) for order in orders]})


async def join(hub: Running, client: Client | None = None, **members: Any) -> ScriptedAgent:
    """Register a provider that offers `WORKLOADS` over a connection, by default a new one."""
    client = client or await hub.agent()
    spec: dict[str, Any] = {
        "workerId": "w1",
        "name": "Rig",
        "pricePerHour": 3.6,
        "workloads": WORKLOADS,
    } | members
    reply = await client.register(**spec)
    assert reply["type"] == "registered", reply
    return ScriptedAgent(client, reply["data"]["providerId"])


async def submit(client: Client, workload: str = "benchmark", **data: Any) -> str:
    """Submit a job; gives its id."""
    reply = await client.ask("job:submit", {"workload": workload} | data)
    assert reply["type"] == "submitted", reply
    job_id: str = reply["data"]["jobId"]
    return job_id


def _ref(order: Message) -> dict[str, Any]:
    return {"jobId": order["jobId"], "attempt": order["attempt"]}
