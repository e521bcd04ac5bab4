"""The fleet as Prometheus sees it: names, units, labels, and nothing that is not known."""

import asyncio
import gzip
import math
import threading
from collections.abc import Callable
from typing import Any

import pytest

from qubix_tui.hub import exposition
from qubix_tui.hub.exposition import FRESH_SECONDS, Exposition, Picture
from qubix_tui.protocol.job_records import JobState
from qubix_tui.protocol.records import GpuMetrics, Metrics
from tests.hub import scrapes
from tests.hub.scrapes import GPU, Fleet
from tests.hub.wire import running


@pytest.fixture
def fleet() -> Fleet:
    """A fleet without providers."""
    return Fleet()


def test_a_gpu_is_shown_in_base_units(fleet: Fleet) -> None:
    """Bytes, ratios, hertz; labelled by provider, index and UUID; counters end in ``_total``."""
    provider = fleet.add("rig")
    samples = fleet.scrape()
    labels = (("gpu", "1"), ("provider", provider), ("uuid", "GPU-1"))
    for name, value in {
        "qubix_gpu_utilization_ratio": 0.805,
        "qubix_gpu_memory_used_bytes": 1_024 * 1024 * 1024,
        "qubix_gpu_memory_size_bytes": 4_096 * 1024 * 1024,
        "qubix_gpu_temperature_celsius": 61,
        "qubix_gpu_power_watts": 350.5,
        "qubix_gpu_energy_joules_total": 12_345.5,
        "qubix_gpu_sm_clock_hertz": 1.98e9,
        "qubix_gpu_last_xid": 79,
    }.items():
        assert samples[name, labels] == pytest.approx(value)
    assert samples["qubix_gpu_throttled", tuple(sorted((*labels, ("reason", "power cap"))))] == 1
    assert samples["qubix_gpu_state", tuple(sorted((*labels, ("state", "ok"))))] == 1
    assert samples["qubix_provider_cpu_usage_ratio", (("provider", provider),)] == 0.125
    assert samples["qubix_provider_agent_resident_memory_bytes", (("provider", provider),)] == 30 * 2**20


def test_jobs_and_attempts_are_counted(fleet: Fleet) -> None:
    """Every state has a value; an attempt is counted by how and why it ended."""
    fleet.jobs = {JobState.RUNNING: 3}
    fleet.attempts = {("failed", "lost"): 2, ("completed", "none"): 5}
    samples = fleet.scrape()
    assert samples["qubix_jobs", (("state", "running"),)] == 3
    assert samples["qubix_jobs", (("state", "queued"),)] == 0
    assert samples["qubix_job_attempts_total", (("reason", "lost"), ("status", "failed"))] == 2
    assert samples["qubix_job_attempts_total", (("reason", "none"), ("status", "completed"))] == 5


def test_whether_it_serves_and_stores_is_a_value(fleet: Fleet) -> None:
    """1 for yes and 0 for no; the age of a queue is there only while a job waits in it."""
    samples = fleet.scrape()
    assert (samples["qubix_ready", ()], samples["qubix_store_up", ()]) == (1, 1)
    assert ("qubix_job_queue_age_seconds", ()) not in samples
    fleet.ready = fleet.stores = False
    fleet.queue_age = 61.5
    samples = fleet.scrape()
    assert (samples["qubix_ready", ()], samples["qubix_store_up", ()]) == (0, 0)
    assert samples["qubix_job_queue_age_seconds", ()] == 61.5


def test_dashboards_made_for_dcgm_find_their_names(fleet: Fleet) -> None:
    """The names, units and labels of that exporter."""
    provider = fleet.add("rig")
    samples = fleet.scrape()
    labels = (
        ("Hostname", provider),
        ("UUID", "GPU-1"),
        ("device", "nvidia1"),
        ("gpu", "1"),
        ("modelName", "NVIDIA H200"),
    )
    for name, value in {
        "GPU_UTIL": 80.5,
        "FB_USED": 1_024,
        "FB_FREE": 3_072,
        "GPU_TEMP": 61,
        "POWER_USAGE": 350.5,
        "TOTAL_ENERGY_CONSUMPTION": 12_345_500,
        "SM_CLOCK": 1_980,
    }.items():
        assert samples[f"DCGM_FI_DEV_{name}", labels] == value


def test_what_is_not_known_is_left_out(fleet: Fleet) -> None:
    """No NaN and no zero in its place: not for a member, a GPU, a sample."""
    fleet.add("silent", None)
    fleet.add("bare", Metrics(gpus=[GpuMetrics(index=0)]))
    samples = fleet.scrape()
    assert not any(math.isnan(value) for value in samples.values())
    assert {name for name, _ in samples if "gpu" in name.lower()} == {"qubix_gpu_state"}
    assert not [name for name, _ in samples if name.startswith("DCGM")]
    assert [name for name, _ in samples if name == "qubix_provider_sample_age_seconds"] == [
        "qubix_provider_sample_age_seconds"
    ]


def test_old_values_are_no_values(fleet: Fleet) -> None:
    """A sample that is too old is left out, and its age is told."""
    provider = fleet.add("rig")
    fleet.clock.advance(FRESH_SECONDS)
    assert fleet.named("DCGM")
    fleet.clock.advance(1)
    assert not fleet.named("DCGM")
    assert not fleet.named("qubix_gpu")
    assert fleet.scrape()["qubix_provider_sample_age_seconds", (("provider", provider),)] == FRESH_SECONDS + 1


def test_the_values_of_a_provider_that_is_gone_are_left_out(fleet: Fleet) -> None:
    """However young its last sample is; its state is told."""
    provider = fleet.add("rig")
    entry = fleet.registry.get(provider)
    assert entry is not None
    fleet.registry.disconnected(entry)
    outcome = fleet.registry.goodbye(entry)
    assert outcome is not None
    fleet.registry.apply(outcome)
    assert not fleet.named("qubix_gpu")
    samples = fleet.scrape()
    assert samples["qubix_provider_state", (("provider", provider), ("state", "offline"))] == 1
    assert samples["qubix_providers", (("state", "offline"),)] == 1
    assert samples["qubix_providers", (("state", "available"),)] == 0


def test_what_is_simulated_says_so(fleet: Fleet) -> None:
    """By a label, by the provider's facts, and in DCGM's view by its name."""
    provider = fleet.add("a", simulated=True)
    assert provider == "sim-a"
    for name, labels in fleet.scrape():
        if name.startswith("qubix_gpu_"):
            assert ("simulated", "true") in labels
        if name.startswith("DCGM"):
            assert ("Hostname", "sim-a") in labels
        if name == "qubix_provider_info":
            assert ("simulated", "true") in labels


def test_names_from_outside_stay_within_their_label(fleet: Fleet) -> None:
    """Quotes, backslashes and what looks like a metric."""
    name = 'x"} 1 \\ qubix_connections 99 {a="'
    fleet.add("rig", Metrics(gpus=[GpuMetrics(index=0, uuid=name, name=name, temp_c=1)]), gpu_model=name)
    samples = fleet.scrape()
    assert samples["qubix_connections", ()] == 0
    assert ("uuid", name) in next(labels for at, labels in samples if at == "qubix_gpu_temperature_celsius")


def test_both_formats_say_the_same(fleet: Fleet) -> None:
    """Prometheus's own text and OpenMetrics are read as the same samples."""
    fleet.add("rig", gpu_model="a \\ b", location='“Zürich” "')
    fleet.add("a", simulated=True)
    fleet.add("silent", None)
    picture = fleet.picture()
    assert scrapes.scrape(picture) == scrapes.scrape(picture, openmetrics=False)


def test_the_values_of_a_gpu_that_are_old_are_left_out(fleet: Fleet) -> None:
    """Its agent says so of one GPU whose driver does not answer; its state stays, and so do the others."""
    stale = GpuMetrics(index=0, uuid="GPU-0", temp_c=60, throttle=["power cap"], state="stale")
    provider = fleet.add("rig", Metrics(gpus=[stale, GPU]))
    samples = fleet.scrape()
    labels = (("gpu", "0"), ("provider", provider), ("state", "stale"), ("uuid", "GPU-0"))
    assert samples["qubix_gpu_state", labels] == 1
    of_it = {name for name, labels in samples if ("uuid", "GPU-0") in labels or ("UUID", "GPU-0") in labels}
    assert of_it == {"qubix_gpu_state"}
    assert fleet.named("DCGM_FI_DEV_GPU_TEMP") == {"DCGM_FI_DEV_GPU_TEMP": 61}


def test_an_agent_that_repeats_itself_spoils_no_scrape(fleet: Fleet) -> None:
    """A GPU or a reason that comes twice is shown once: a sample that is there twice makes all invalid."""
    twice = GpuMetrics(index=0, temp_c=60, throttle=["power cap", "power cap"])
    fleet.add("rig", Metrics(gpus=[twice, twice]))
    assert fleet.named("qubix_gpu_temperature") == {"qubix_gpu_temperature_celsius": 60}


async def test_a_scrape_is_written_on_a_thread(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop takes the picture and nothing else."""
    wrote_on: list[int] = []
    write: Callable[..., None] = exposition.write

    def note(*arguments: Any, **options: Any) -> None:
        wrote_on.append(threading.get_ident())
        write(*arguments, **options)

    monkeypatch.setattr(exposition, "write", note)
    took_on: list[int] = []

    def picture() -> Picture:
        took_on.append(threading.get_ident())
        return fleet.picture()

    await Exposition(picture).render("", "")
    assert took_on == [threading.get_ident()]
    assert wrote_on != took_on


async def test_who_hangs_up_does_not_end_the_scrape_of_another(fleet: Fleet) -> None:
    """The writing that they share goes on."""
    answers = Exposition(fleet.picture)
    first, second = (asyncio.ensure_future(answers.render("", "")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert b"qubix_connections" in (await second).body
    assert first.cancelled()


async def test_a_client_does_not_choose_the_version(fleet: Fleet) -> None:
    """What we write is OpenMetrics 1.0.0; another version in the header makes no other claim, nor work."""
    answers = Exposition(fleet.picture)
    for version in ("1.0.0", "9.0", "1.0.0;escaping=dots"):
        answer = await answers.render(f"application/openmetrics-text;version={version}", "")
        assert answer.content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
        scrapes.read(answer.body)


async def fetch(port: int, *headers: str) -> tuple[str, bytes]:
    """GET /metrics as a program that knows nothing of ours: the head and the body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = ("GET /metrics HTTP/1.1", "Host: localhost", *headers, "", "")
    writer.write("\r\n".join(lines).encode())
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.decode(), body


async def test_a_hub_answers_a_scrape() -> None:
    """Over its socket, with the process's own figures beside the fleet's; compressed where that is taken."""
    async with running() as hub, await hub.agent() as agent, await hub.client():
        await agent.register("w", name="rig")
        await agent.send("GPU_METRICS_UPDATE", {"metrics": {"gpus": [{"index": 0, "tempC": 50}]}})
        await agent.heard()
        head, body = await fetch(hub.hub.port)
        assert "Content-Encoding" not in head
        samples = scrapes.read(body, openmetrics=False)
        names = {name: value for (name, _), value in samples.items()}
        assert names["qubix_gpu_temperature_celsius"] == names["DCGM_FI_DEV_GPU_TEMP"] == 50
        assert names["qubix_connections"] == 2
        assert names["process_resident_memory_bytes"] > 0
        head, body = await fetch(
            hub.hub.port, "Accept: application/openmetrics-text", "Accept-Encoding: gzip, deflate"
        )
        assert "Content-Encoding: gzip" in head
        assert {name for name, _ in scrapes.read(gzip.decompress(body))} >= names.keys()
