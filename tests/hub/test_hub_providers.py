"""Providers over real sockets: registering, publishing, being replaced, leaving."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from qubix_tui.hub.backfill import AFTERMATH_SECONDS, SHOWN_SECONDS
from qubix_tui.hub.duplicates import GONE_SECONDS
from qubix_tui.hub.engine.base import Change, EngineUnavailable, NewEvent, Precondition
from qubix_tui.hub.engine.memory import MemoryEngine
from qubix_tui.protocol.tokens import Role
from tests.hub.manual_clock import ManualClock
from tests.hub.wire import Client, Message, Running, eventually, running


@pytest.fixture
def clock() -> ManualClock:
    """Time, which stands still."""
    return ManualClock()


@pytest.fixture
async def hub(clock: ManualClock) -> AsyncIterator[Running]:
    """A hub that listens."""
    async with running(clock=clock) as made:
        yield made


def state_of(hub: Running, provider_id: str) -> str | None:
    """The state of a provider, None when it is not known."""
    provider = hub.hub.provider(provider_id)
    return provider.state.value if provider else None


def kinds(messages: list[Message]) -> list[tuple[str, str]]:
    """Channel and what each event says, in a word."""
    return [
        (m["channel"], m["data"].get("kind") or m["data"].get("status", {}).get("state") or m["type"])
        for m in messages
    ]


METRICS = {"metrics": {"cpuPercent": 4.5, "gpuPercent": None, "seq": 1}}


async def test_a_provider_registers_and_its_samples_reach_its_watchers(hub: Running) -> None:
    """The id in each event is the session's: no message can name another provider."""
    async with await hub.client() as watcher, await hub.agent() as agent:
        await watcher.subscribe("marketplace", "provider:*")
        reply = await agent.register(name="Rig 7")
        provider_id = reply["data"]["providerId"]
        assert reply["data"] == {
            "providerId": provider_id,
            "session": 1,
            "jobs": [],
            "lastSampleSecondsAgo": None,
        }
        await agent.send("GPU_METRICS_UPDATE", {**METRICS, "providerId": "victim"})
        await agent.heard()
        registered, sample = await watcher.heard()
        assert (registered["type"], registered["data"]["id"]) == ("PROVIDER_REGISTERED", provider_id)
        assert (sample["channel"], sample["data"]["providerId"]) == (f"provider:{provider_id}", provider_id)
        assert sample["data"]["metrics"]["cpuPercent"] == 4.5
        assert sample["data"]["metrics"]["gpuPercent"] is None
        assert sample["data"]["timestamp"] == "2027-01-15T08:00:00.000Z"


async def test_a_sample_before_registering_is_a_conflict(hub: Running) -> None:
    """With a sentence that says what comes first."""
    async with await hub.agent() as agent:
        for request in (("GPU_METRICS_UPDATE", METRICS), ("provider:status", {"paused": True})):
            error = await agent.ask(*request)
            assert error["data"]["code"] == "conflict"
            assert "provider:register" in error["data"]["message"]


async def test_a_viewer_publishes_nothing(hub: Running) -> None:
    """Nor registers."""
    async with await hub.client() as client:
        for request in (
            ("GPU_METRICS_UPDATE", METRICS),
            ("provider:register", {"workerId": "w", "instance": "i"}),
        ):
            assert (await client.ask(*request))["data"]["code"] == "forbidden"


async def test_messages_behind_a_registration_wait_for_it(hub: Running) -> None:
    """An agent may send register and its first samples in one go."""
    async with await hub.client() as watcher, await hub.agent() as agent:
        await watcher.subscribe("provider:*")
        await agent.send("provider:register", {"workerId": "w1", "instance": "i1"}, id=1)
        for seq in range(3):
            await agent.send("GPU_METRICS_UPDATE", {"metrics": {"seq": seq}})
        await agent.send("ping", id=2)
        assert [(await agent.recv())["id"] for _ in range(2)] == [1, 2]
        assert [m["data"]["metrics"]["seq"] for m in await watcher.heard()] == [0, 1, 2]


async def test_a_second_agent_with_a_live_identity_is_refused(hub: Running) -> None:
    """The first goes on undisturbed."""
    token = hub.provider_token()
    async with await hub.client(token=token) as first, await hub.client(token=token) as second:
        assert (await first.register())["type"] == "registered"
        error = await second.register(instance="i2")
        assert error["data"]["code"] == "conflict"
        assert "another agent" in error["data"]["message"]
        assert (await second.ask("GPU_METRICS_UPDATE", METRICS))["data"]["code"] == "conflict"
        assert await first.heard() == []


async def test_a_duplicate_identity_is_shown(hub: Running, clock: ManualClock) -> None:
    """That a second agent was refused is told once, state unchanged, and taken back when it is gone."""
    token = hub.provider_token()
    async with (
        await hub.client() as watcher,
        await hub.client(token=token) as first,
        await hub.client(token=token) as second,
    ):
        await first.register()
        await watcher.subscribe("marketplace")
        for _ in range(3):
            assert "duplicate identity" in (await second.register(instance="i2"))["data"]["message"]
        (told,) = await watcher.heard()
        assert told["type"] == "PROVIDER_STATUS_CHANGED"
        assert told["data"]["status"]["state"] == "available"
        assert told["data"]["status"]["reason"].startswith("duplicate identity")
        heard: list[Message] = []
        for _ in range(10):
            clock.advance(GONE_SECONDS / 10)
            await first.heard()
            await hub.hub.caretaker.sweep()
            heard += await watcher.heard()
        (over,) = heard
        assert (over["data"]["status"]["state"], over["data"]["status"]["reason"]) == ("available", None)


async def test_a_stranger_makes_nobody_a_duplicate(hub: Running) -> None:
    """Another provider that claims the identity of a live one is refused, and nobody is worried by it."""
    async with await hub.client() as watcher, await hub.agent() as first, await hub.agent() as other:
        await first.register()
        await watcher.subscribe("marketplace")
        assert (await other.register(instance="i2"))["data"]["code"] == "conflict"
        assert await watcher.heard() == []


async def test_the_same_agent_replaces_its_session(hub: Running) -> None:
    """The older connection is closed with 4009; only the newer publishes; the marketplace hears nothing."""
    token = hub.provider_token()
    async with await hub.client() as watcher, await hub.client(token=token) as new:
        await watcher.subscribe("marketplace")
        old = await hub.client(token=token)
        await old.register()
        assert (await new.register())["data"]["session"] == 2
        assert (await old.closed())[0] == 4009
        await new.send("GPU_METRICS_UPDATE", METRICS)
        await new.heard()
        assert [m["type"] for m in await watcher.heard()] == ["PROVIDER_REGISTERED"]
        assert state_of(hub, "provider-60c559") == "available"


async def test_a_silent_session_is_replaced_by_another_instance(hub: Running, clock: ManualClock) -> None:
    """After 15 s without a word the older has lost its claim."""
    token = hub.provider_token()
    async with await hub.client(token=token) as old, await hub.client(token=token) as new:
        await old.register()
        clock.advance(15)
        assert (await new.register(instance="i2"))["type"] == "registered"
        assert (await old.closed())[0] == 4009


async def test_one_connection_is_one_provider(hub: Running) -> None:
    """Registering again changes the record; another workerId is refused; so is auth."""
    async with await hub.agent() as agent:
        await agent.register(name="a")
        assert (await agent.register(name="b"))["data"]["session"] == 2
        assert (await agent.register("w2"))["data"]["code"] == "conflict"
        assert (await agent.ask("auth", {"token": hub.tokens[Role.OPERATOR]}))["data"]["code"] == "conflict"
        (provider,) = hub.hub.providers()
        assert provider.name == "b"


async def test_a_token_is_one_provider(hub: Running) -> None:
    """Another workerId needs a token of its own."""
    token = hub.provider_token()
    async with await hub.client(token=token) as one, await hub.client(token=token) as two:
        await one.register("w1")
        assert (await two.register("w2"))["data"]["code"] == "forbidden"
        assert len(hub.hub.providers()) == 1


async def test_a_goodbye_is_offline_at_once_a_lost_connection_is_not(
    hub: Running, clock: ManualClock
) -> None:
    """The one closed cleanly; the other may come back within its grace."""
    async with await hub.client() as watcher:
        await watcher.subscribe("marketplace")
        leaving, lost = await hub.agent(), await hub.agent()
        gone = (await leaving.register("w1"))["data"]["providerId"]
        cut = (await lost.register("w2"))["data"]["providerId"]
        lost.socket.transport.abort()
        await leaving.socket.close()
        await eventually(lambda: state_of(hub, gone) == "offline" and hub.hub.stats().clients == 1)
        assert state_of(hub, cut) == "available"
        clock.advance(15)
        await eventually(lambda: state_of(hub, cut) == "unreachable")
        clock.advance(30)
        await eventually(lambda: state_of(hub, cut) == "offline")
        heard = [kind for _, kind in kinds(await watcher.heard())]
        assert heard == ["PROVIDER_REGISTERED", "PROVIDER_REGISTERED", "offline", "unreachable", "offline"]


async def test_any_message_brings_a_silent_provider_back(hub: Running, clock: ManualClock) -> None:
    """A ping as well as a sample; told to the marketplace and to its own channel."""
    async with await hub.client() as watcher, await hub.agent() as agent:
        provider_id = (await agent.register())["data"]["providerId"]
        await watcher.subscribe("marketplace", f"provider:{provider_id}")
        clock.advance(15)
        await eventually(lambda: state_of(hub, provider_id) == "unreachable")
        await agent.heard()
        await eventually(lambda: state_of(hub, provider_id) == "available")
        assert kinds(await watcher.heard()) == [
            ("marketplace", "unreachable"),
            (f"provider:{provider_id}", "unreachable"),
            ("marketplace", "available"),
            (f"provider:{provider_id}", "available"),
        ]


async def test_who_is_removed_while_it_is_silent_comes_anew(hub: Running, clock: ManualClock) -> None:
    """Its connection is ended: it would publish for a provider that is no more, and never know."""
    async with await hub.client(Role.OPERATOR) as operator, await hub.agent() as agent:
        provider_id = (await agent.register())["data"]["providerId"]
        clock.advance(50)
        await hub.hub.services.providers.sweep()
        assert (await operator.ask("provider:remove", {"providerId": provider_id}))["type"] == "ok"
        assert (await agent.closed())[0] == 4009
        assert hub.hub.services.providers.connected == 0


async def test_an_owner_pauses_and_an_operator_removes(hub: Running) -> None:
    """`ok` when it is stored; removing needs it offline."""
    async with await hub.client() as watcher, await hub.client(Role.OPERATOR) as operator:
        await watcher.subscribe("marketplace")
        async with await hub.agent() as agent:
            provider_id = (await agent.register())["data"]["providerId"]
            assert (await agent.ask("provider:status", {"paused": True, "reason": "gaming"}))["type"] == "ok"
            assert state_of(hub, provider_id) == "paused"
            reply = await operator.ask("provider:remove", {"providerId": provider_id})
            assert reply["data"]["code"] == "conflict"
        await eventually(lambda: state_of(hub, provider_id) == "offline")
        assert (await operator.ask("provider:remove", {"providerId": provider_id}))["type"] == "ok"
        assert hub.hub.providers() == []
        assert [kind for _, kind in kinds(await watcher.heard())] == [
            "PROVIDER_REGISTERED",
            "paused",
            "offline",
            "provider_removed",
        ]


async def test_simulated_providers_are_an_operators_and_go_with_their_connection(hub: Running) -> None:
    """However it ends."""
    async with await hub.client() as watcher, await hub.client(Role.OPERATOR) as operator:
        await watcher.subscribe("marketplace")
        reply = await operator.register("a", simulated=True)
        assert reply["data"]["providerId"] == "sim-a"
        await operator.send("GPU_METRICS_UPDATE", METRICS)
        await operator.heard()
        assert await hub.hub.last_metrics("sim-a") is not None
        operator.socket.transport.abort()
        await eventually(lambda: hub.hub.providers() == [])
        assert [kind for _, kind in kinds(await watcher.heard())] == [
            "PROVIDER_REGISTERED",
            "provider_removed",
        ]
        assert await hub.hub.services.engine.load("providers") == {}


async def test_who_may_register_what(hub: Running) -> None:
    """An operator only simulated ones, a provider's token only real ones."""
    async with await hub.client(Role.OPERATOR) as operator, await hub.agent() as agent:
        assert (await operator.register())["data"]["code"] == "forbidden"
        assert (await agent.register(simulated=True))["data"]["code"] == "forbidden"


async def test_history_and_snapshot_hold_what_was_sampled(hub: Running, clock: ManualClock) -> None:
    """The last minutes in 5 s steps, the last sample, the record; late samples are past, never present."""
    async with await hub.client() as watcher, await hub.agent() as agent:
        provider_id = (await agent.register())["data"]["providerId"]
        for number in range(3):
            await agent.send("GPU_METRICS_UPDATE", {"metrics": {"cpuPercent": number}})
            await agent.heard()
            clock.advance(5)
        late = {"metrics": {"cpuPercent": 99, "sampledAt": "2027-01-15T07:59:30.000Z"}, "late": True}
        await watcher.subscribe(f"provider:{provider_id}")
        await agent.send("GPU_METRICS_UPDATE", late)
        await agent.heard()
        assert await watcher.heard() == []
        reply = await watcher.ask("provider:history", {"providerId": provider_id, "seconds": 600})
        assert reply["type"] == "history"
        assert [point["cpuPercent"] for point in reply["data"]["points"]][-3:] == [0, 1, 2]
        await watcher.send("subscribe:provider", {"snapshot": True}, subscriptionId=provider_id)
        await watcher.until("subscribed")
        page = (await watcher.until("MARKETPLACE_UPDATE"))["data"]
        assert (page["kind"], page["provider"]["id"]) == ("provider_snapshot", provider_id)
        assert page["metrics"]["cpuPercent"] == 2
        assert page["history"] == reply["data"]["points"]


async def test_a_gap_is_filled_and_shown(hub: Running, clock: ManualClock) -> None:
    """A hub says when it last had a sample; late ones fill the gap, and who watches gets the whole past."""
    token = hub.provider_token()
    async with await hub.client() as watcher:
        first = await hub.client(token=token)
        provider_id = (await first.register())["data"]["providerId"]
        await first.send("GPU_METRICS_UPDATE", {"metrics": {"cpuPercent": 1}})
        await first.heard()
        await watcher.subscribe(f"provider:{provider_id}")
        clock.advance(12)
        async with first, await hub.client(token=token) as again:
            assert (await again.register())["data"]["lastSampleSecondsAgo"] == 12
            late = {"metrics": {"cpuPercent": 2}, "late": True, "ageSeconds": 6}
            await again.send("GPU_METRICS_UPDATE", late)
            await again.heard()
            await hub.hub.caretaker.sweep()
            assert await watcher.heard() == []
            clock.advance(SHOWN_SECONDS)
            await hub.hub.caretaker.sweep()
            (page,) = await watcher.heard()
            assert (page["channel"], page["data"]["kind"]) == (f"provider:{provider_id}", "provider_snapshot")
            assert [point["cpuPercent"] for point in page["data"]["history"]] == [1, 2]
            await hub.hub.caretaker.sweep()
            assert await watcher.heard() == []


async def test_a_hub_that_was_held_up_asks_for_what_it_missed(hub: Running, clock: ManualClock) -> None:
    """Samples that waited count as of now: each agent is asked for what there was, also one that is back."""
    token = hub.provider_token()
    async with await hub.client() as watcher, await hub.client(token=token) as agent:
        await agent.register()
        await agent.send("GPU_METRICS_UPDATE", METRICS)
        await agent.heard()
        clock.advance(12)
        await agent.send("GPU_METRICS_UPDATE", METRICS)
        hub.hub.caretaker.stalled(4)
        assert await agent.heard() == []
        hub.hub.caretaker.stalled(12)
        (wish,) = await agent.heard()
        assert (wish["type"], wish["data"]) == ("provider:backfill", {"secondsAgo": 12})
        async with await hub.client(token=token) as again:
            assert (await again.register())["data"]["lastSampleSecondsAgo"] == 12
        clock.advance(AFTERMATH_SECONDS - 1)
        await watcher.heard()
        async with await hub.client(token=token) as again:
            await again.register()
            await again.send("GPU_METRICS_UPDATE", METRICS)
            await again.heard()
            clock.advance(1)
            async with await hub.client(token=token) as newest:
                assert (await newest.register())["data"]["lastSampleSecondsAgo"] == 1


@pytest.mark.parametrize(
    "metrics",
    [
        {"gpus": [{"index": 0}] * 4_000},
        {"gpus": [{"index": 0, "processes": [{"pid": 1}] * 16}] * 250},
    ],
)
async def test_a_sample_that_would_not_fit_into_a_frame_is_refused(hub: Running, metrics: Any) -> None:
    """Short as it came, it would be long with every unknown member spelled out."""
    async with await hub.client() as watcher, await hub.agent() as agent:
        await watcher.subscribe("provider:*")
        await agent.register()
        error = await agent.ask("GPU_METRICS_UPDATE", {"metrics": metrics})
        assert error["data"]["code"] == "too_large"
        assert await watcher.heard() == []


async def test_nothing_is_encoded_for_nobody(hub: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample that no one listens to is kept, not framed."""
    from qubix_tui.hub import framing

    framed: list[str] = []
    original = framing.event_frame

    def counting(kind: str, *rest: Any) -> bytes:
        framed.append(kind)
        return original(kind, *rest)

    monkeypatch.setattr(framing, "event_frame", counting)
    async with await hub.agent() as agent, await hub.client() as watcher:
        provider_id = (await agent.register())["data"]["providerId"]
        await agent.send("GPU_METRICS_UPDATE", METRICS)
        await agent.heard()
        assert await hub.hub.last_metrics(provider_id) is not None
        assert "GPU_METRICS_UPDATE" not in framed
        await watcher.subscribe("provider:*")
        await agent.send("GPU_METRICS_UPDATE", METRICS)
        await agent.heard()
        assert framed.count("GPU_METRICS_UPDATE") == 1


class FailingEngine(MemoryEngine):
    """Takes no commit while it is told not to."""

    failing = False

    async def commit(
        self,
        preconditions: Sequence[Precondition],
        changes: Sequence[Change],
        events: Sequence[NewEvent],
        apply: Callable[[], None] | None = None,
        *,
        decided_at: int | None = None,
    ) -> list[int]:
        if self.failing:
            await asyncio.sleep(0)
            raise EngineUnavailable("the disk is full: make room in /var/lib/qubix")
        return await super().commit(preconditions, changes, events, apply)


async def test_what_the_store_does_not_take_did_not_happen(clock: ManualClock) -> None:
    """`unavailable` with the store's sentence, no state, no event; a later attempt or sweep does it."""
    engine = FailingEngine(clock=clock)
    async with (
        running(engine=engine, clock=clock) as hub,
        await hub.client() as watcher,
        await hub.agent() as agent,
    ):
        await watcher.subscribe("marketplace")
        engine.failing = True
        error = await agent.register()
        assert (error["data"]["code"], error["data"]["retryAfter"]) == ("unavailable", 5)
        assert "make room" in error["data"]["message"]
        assert hub.hub.providers() == []
        engine.failing = False
        provider_id = (await agent.register())["data"]["providerId"]
        engine.failing = True
        clock.advance(15)
        with pytest.raises(EngineUnavailable):
            await hub.hub.caretaker.sweep()
        assert state_of(hub, provider_id) == "available"
        engine.failing = False
        await eventually(lambda: state_of(hub, provider_id) == "unreachable")
        told = [kind for _, kind in kinds(await watcher.heard()) if kind != "store"]
        assert told == ["PROVIDER_REGISTERED", "unreachable"]


async def test_a_goodbye_that_was_not_stored_is_made_up_for(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, as every sweep that fails; once the store is back, silence takes the provider offline."""
    engine = FailingEngine(clock=clock)
    async with running(engine=engine, clock=clock) as hub:
        agent = await hub.agent()
        provider_id = (await agent.register())["data"]["providerId"]
        engine.failing = True
        await agent.socket.close()
        await eventually(lambda: f"the new state of {provider_id} was not stored" in caplog.text)
        clock.advance(45)
        await eventually(lambda: "new states of providers or jobs were not stored" in caplog.text)
        assert state_of(hub, provider_id) == "available"
        engine.failing = False
        await eventually(lambda: state_of(hub, provider_id) == "offline")


async def test_a_hub_that_was_held_up_declares_nobody_gone(hub: Running, clock: ManualClock) -> None:
    """Neither providers nor clients: what they sent meanwhile is read first."""
    async with await hub.agent() as agent, await hub.client() as client:
        provider_id = (await agent.register())["data"]["providerId"]
        clock.advance(300)
        hub.hub.caretaker.stalled(60)
        await hub.hub.caretaker.sweep()
        assert state_of(hub, provider_id) == "available"
        assert await client.heard() == []
        assert [message["type"] for message in await agent.heard()] == ["provider:backfill"]


async def test_a_restarted_hub_finds_its_providers(clock: ManualClock) -> None:
    """With their states; an agent that is back within the grace makes no noise."""
    engine = MemoryEngine(clock=clock)
    token = ""
    async with running(engine=engine, clock=clock) as hub:
        token = hub.provider_token()
        agent = await hub.client(token=token)
        await agent.register(name="Rig")
    async with running(engine=engine, clock=clock) as hub, await hub.client() as watcher:
        (provider,) = hub.hub.providers()
        assert provider.state == "available"
        await watcher.subscribe("marketplace")
        async with await hub.agent() as agent:
            assert (await agent.register(name="Rig"))["data"] == {
                "providerId": provider.id,
                "session": 2,
                "jobs": [],
                "lastSampleSecondsAgo": None,
            }
            assert await watcher.heard() == []


async def test_thousands_that_fall_silent_at_once_are_all_told(clock: ManualClock) -> None:
    """In batches, each provider's two events once."""
    async with running(clock=clock) as hub, await hub.client() as watcher:
        await watcher.subscribe("marketplace")
        registry = hub.hub.services.providers.registry
        from qubix_tui.protocol.requests import Register

        for number in range(1_000):
            request = Register(worker_id=f"w{number}", instance="i")
            registry.registered(registry.register(request))
        clock.advance(15)
        await eventually(lambda: all(p.state == "unreachable" for p in hub.hub.providers()))
        heard = await watcher.heard()
        assert len(heard) == 1_000
        assert [message["offset"] for message in heard] == list(range(1, 1_001))


async def test_an_agent_that_leaves_while_it_registers_leaves_nothing_open(hub: Running) -> None:
    """Its provider's silence is counted as anybody's."""
    agent: Client = await hub.agent()
    for _ in range(5):
        await agent.send("provider:register", {"workerId": "w1", "instance": "i1"})
    agent.socket.transport.abort()
    await eventually(lambda: hub.hub.stats().clients == 0 and len(hub.hub.providers()) == 1)
    entry = hub.hub.services.providers.registry.get(hub.hub.providers()[0].id)
    assert entry is not None
    await eventually(lambda: not entry.session_open)
