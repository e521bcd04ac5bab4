"""A real Prometheus that scrapes a real hub: what dashboards ask it is answered."""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml

from tests.deploy.ailing import ailing_hub, sample
from tests.hub.scripted_agent import ScriptedAgent

DIRECTORY = Path(__file__).parents[2] / "deploy" / "prometheus"
SECONDS = 30.0
SCRAPES = 3

DCGM_QUERIES = [
    *(
        f'max by (Hostname, gpu, UUID) (DCGM_FI_DEV_{name}{{{label}=~"$all", gpu=~"$all"}})'
        for label in ("Hostname", "instance")
        for name in ("GPU_TEMP", "POWER_USAGE", "SM_CLOCK", "GPU_UTIL", "MEM_COPY_UTIL", "FB_USED", "FB_FREE")
    ),
    'avg(DCGM_FI_DEV_GPU_TEMP{Hostname=~"$all", gpu=~"$all"})',
    'sum(max by (Hostname, gpu) (DCGM_FI_DEV_POWER_USAGE{Hostname=~"$all", gpu=~"$all"}))',
    'DCGM_FI_DEV_SM_CLOCK{instance=~"$all", gpu=~"$all"} * 1000000',
    "DCGM_FI_DEV_FB_USED / (DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE)",
    "rate(DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION[1m])",
    "DCGM_FI_DEV_XID_ERRORS",
    "DCGM_FI_DEV_ROW_REMAP_FAILURE == 1",
]
"""What dashboards for NVIDIA's exporter ask, by both labels that they choose machines by.

Not among it is what DCGM's profiling alone measures (``DCGM_FI_PROF_…``): NVML does not tell it, and those
panels stay empty.
"""


class Prometheus:
    """A server that runs."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def get(self, path: str, **query: str) -> Any:
        """What its API answers; None while it starts."""

        def ask() -> Any:
            try:
                with urlopen(f"{self._url}/api/v1/{path}?{urlencode(query)}", timeout=10) as response:
                    return json.load(response)["data"]
            except HTTPError as error:
                with error:
                    if error.code == HTTPStatus.SERVICE_UNAVAILABLE:
                        return None
                raise
            except URLError as error:
                if isinstance(error.reason, ConnectionRefusedError):
                    return None
                raise

        return await asyncio.to_thread(ask)

    async def ask(self, expression: str) -> list[dict[str, Any]]:
        """What an expression gives now."""
        answer = await self.get("query", query=expression)
        result: list[dict[str, Any]] = answer["result"] if answer else []
        return result

    async def wait_for(self, expression: str) -> list[dict[str, Any]]:
        """What it gives once it gives anything."""
        async with asyncio.timeout(SECONDS):
            while not (found := await self.ask(expression)):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)
        return found


@contextlib.asynccontextmanager
async def prometheus(target: str, directory: Path) -> AsyncIterator[Prometheus]:
    """Run a server with our rules that scrapes a hub twice a second; skips where there is none, not in CI."""
    program = shutil.which("prometheus")
    if program is None:
        assert "CI" not in os.environ, "prometheus is to be installed in CI"
        pytest.skip("prometheus is not installed")
    configuration = yaml.safe_load((DIRECTORY / "prometheus.yml").read_text())
    configuration["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    configuration["rule_files"] = [str(DIRECTORY / name) for name in configuration["rule_files"]]
    (job,) = configuration["scrape_configs"]
    job |= {"scrape_interval": "500ms", "static_configs": [{"targets": [target]}]}
    (directory / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=log,
        )
        try:
            yield Prometheus(f"http://{address}")
        finally:
            process.kill()
            process.wait()


@contextlib.asynccontextmanager
async def scraped(directory: Path) -> AsyncIterator[Prometheus]:
    """A hub with something to show for everything, and a server that has scraped it a few times."""
    async with ailing_hub() as (hub, agent):
        kept_fresh = asyncio.create_task(send_samples(agent))
        try:
            async with prometheus(hub.hub.url.removeprefix("ws://"), directory) as server:
                await server.wait_for(f"count_over_time(up[1m]) >= {SCRAPES} and up == 1")
                yield server
        finally:
            kept_fresh.cancel()


async def send_samples(agent: ScriptedAgent) -> None:
    """One after the other, as an agent does: a sample is shown for 15 s."""
    for seq in range(2, 10_000):
        await sample(agent, seq)
        await asyncio.sleep(0.05)


async def test_dashboards_get_answers(tmp_path: Path) -> None:
    """Those for DCGM's exporter, and every panel of ours; the alerts that need no time to tell have told."""
    dashboard = json.loads((DIRECTORY / "grafana-dashboard.json").read_text())
    ours = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    async with scraped(tmp_path) as server:
        for query in [*DCGM_QUERIES, *ours]:
            found = await server.ask(query.replace("$all", ".+").replace("$provider", ".+"))
            # What is asked whether it is above something may be so nowhere.
            assert found or query.endswith("> 0"), query
        labels = (await server.ask('DCGM_FI_DEV_GPU_TEMP{Hostname=~"rig.+"}'))[0]["metric"]
        assert labels.keys() >= {"instance", "job", "Hostname", "gpu", "UUID", "device", "modelName"}
        assert len(await server.get("label/Hostname/values")) >= 2
        (alert,) = await server.wait_for('ALERTS{alertname="QubixGpuRowRemapFailure", alertstate="firing"}')
        assert alert["metric"]["uuid"] == "GPU-bad"
        told = {one["labels"]["alertname"]: one for one in (await server.get("alerts"))["alerts"]}
        summary = told["QubixGpuRowRemapFailure"]["annotations"]["summary"]
        assert summary == (
            f"GPU 0 of provider {alert['metric']['provider']} could not replace a row of its memory"
        )
        # A minute from now: the driver has lost it. What is simulated is not among them.
        assert told["QubixGpuLost"]["state"] == "pending"
        assert {one["labels"].get("simulated") for one in told.values()} == {None}
