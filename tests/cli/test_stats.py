"""`qubix stats` on a hub, alone and among others."""

import asyncio
import json
import os
import socket
from contextlib import AsyncExitStack

import pytest

from qubix_tui.cli.main import build_parser
from qubix_tui.hub.engine.base import Engine
from tests.hub.shared_store import SharedEngine, SharedStore
from tests.hub.wire import running

NAME = f"{socket.gethostname()}/{os.getpid()}"


async def said(engine: Engine | None, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """What it prints of a hub that has one viewer."""
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(running(engine=engine))
        viewer = await stack.enter_async_context(await hub.client())
        await viewer.subscribe("marketplace")
        arguments = build_parser().parse_args(["stats", "--hub", hub.hub.url, *options])
        assert await asyncio.to_thread(arguments.run, arguments) == 0
    return capsys.readouterr().out


async def test_clients_and_subscriptions_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each channel; nothing of other hubs where there can be none."""
    first, *rest = (await said(None, capsys)).splitlines()
    assert first.endswith("clients 1, distinct subscriptions 1")
    assert [line.split() for line in rest] == [["1", "marketplace"]]


async def test_hubs_that_share_a_store_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Each with its connections (this command's own one, too) and providers; this one is marked."""
    store = SharedStore()
    async with running(engine=SharedEngine(store, "a")):
        lines = (await said(SharedEngine(store, "b"), capsys)).splitlines()
    assert lines[2] == "hubs on this store: 2"
    assert lines[3].startswith(f"  {NAME}  connections 0, providers 0, version ")
    assert lines[4].startswith(f"> {NAME}  connections 2, providers 0, version ")


async def test_the_document_has_the_hubs_too(capsys: pytest.CaptureFixture[str]) -> None:
    """With ``--json``, as `hub:stats` has them; none of a hub that is alone."""
    document = json.loads(await said(SharedEngine(SharedStore(), "a"), capsys, "--json"))
    (node,) = document["stats"]["nodes"]
    assert (node["id"], node["name"], node["isThis"], node["connections"]) == ("a", NAME, True, 2)
    assert "nodes" not in json.loads(await said(None, capsys, "--json"))["stats"]
