"""The names on the wire, written out by hand: a member renamed in Python must not change for clients."""

import json
from typing import Any

import msgspec
import pytest

from qubix_tui.protocol import codec, events, job_records, marketplace, records, requests
from qubix_tui.protocol.errors import CloseCode, ErrorCode
from qubix_tui.protocol.job_records import JobState
from qubix_tui.protocol.records import ProviderState

NAMES: dict[type, str] = {
    records.ProviderSpec: """workerId name gpuModel gpuCount gpuMemTotalMb gpus cpuModel cpuCores ramTotalMb
        limit os driverVersion cudaVersion location pricePerHour agentVersion simulated workloads""",
    records.Provider: """workerId name gpuModel gpuCount gpuMemTotalMb gpus cpuModel cpuCores ramTotalMb
        limit os driverVersion cudaVersion location pricePerHour agentVersion simulated workloads
        id state isOnline isAvailable currentJobId registeredAt lastHeartbeat""",
    records.GpuInfo: "uuid name memTotalMb",
    records.Workload: "name description gpus params",
    records.WorkloadParam: "name type default min max pattern choices",
    records.ProviderStatus: "isOnline isAvailable state reason currentJobId lastHeartbeat",
    records.Metrics: """cpuPercent ramPercent gpuPercent gpuTemp gpuMemUsedMb gpuMemTotalMb ramUsedMb
        ramTotalMb swapUsedMb swapTotalMb cpuCorePercents cpuMhz cpuTemp load1 netRxBytesPerSec
        netTxBytesPerSec diskPercent diskUsedMb diskTotalMb diskReadBytesPerSec diskWriteBytesPerSec
        uptimeSeconds limit gpus gpuNote sampledAt seq agent""",
    records.GpuMetrics: """index uuid name pciAddress parentIndex parentUuid gpuInstanceId utilPercent
        memUtilPercent memUsedMb memTotalMb tempC memTempC tempSlowdownC tempShutdownC
        memTempMaxC powerW avgPowerW powerLimitW energyJ smClockMhz memClockMhz performanceState
        fanPercent pcieRxBytesPerSec pcieTxBytesPerSec pcieLinkGen pcieLinkGenMax pcieLinkWidth
        pcieLinkWidthMax throttle eccCorrected eccUncorrected rowRemapsCorrectable
        rowRemapsUncorrectable rowRemapPending rowRemapFailure xid state ages processes""",
    records.GpuAges: "sample fiveSeconds minute",
    records.GpuProcess: "pid name memUsedMb kind",
    records.AgentCost: "cpuPercent rssMb sampleMs",
    records.Headline: """providerId timestamp seq cpuPercent ramPercent gpuPercent gpuTemp hottestGpu
        tempSlowdownC gpuMemUsedMb gpuMemTotalMb powerW powerLimitW throttle gpusLost""",
    records.HistoryPoint: """timestamp cpuPercent ramPercent gpuPercent gpuTemp netRxBytesPerSec
        netTxBytesPerSec gpus""",
    records.GpuHistoryPoint: "utilPercent memUsedMb tempC powerW",
    job_records.Job: """id workload params requires state attempt providerId progress createdAt startedAt
        finishedAt cancelRequestedAt leaseEndsAt pricePerHour costMicros result reason submittedBy""",
    job_records.Requirements: "gpuModel minGpuMemMb maxPricePerHour providerId simulated",
    job_records.JobProgress: "progress status message source etaSeconds elapsedSeconds costMicros",
    job_records.Receipt: """jobId attempt providerId assignedAt startedAt endedAt status reason runningMs
        pricePerHour costMicros""",
    job_records.LogPiece: "attempt stream from text dropped timestamp",
}
"""Every record of the contract, with its members in their order."""

REQUEST_NAMES = {
    "subscribe:marketplace": "snapshot digest epoch since",
    "subscribe:provider": "snapshot digest epoch since",
    "subscribe:job": "snapshot digest epoch since",
    "unsubscribe": "",
    "ping": "",
    "auth": "token",
    "provider:register": f"{NAMES[records.ProviderSpec]} instance jobs",
    "provider:status": "paused draining reason",
    "provider:remove": "providerId",
    "provider:history": "providerId seconds",
    "GPU_METRICS_UPDATE": "metrics late ageSeconds",
    "JOB_PROGRESS": "jobId attempt seq progress",
    "JOB_LOGS": "jobId attempt seq stream from text dropped",
    "JOB_COMPLETED": "jobId attempt seq status reason result",
    "job:accept": "jobId attempt reason",
    "job:refuse": "jobId attempt reason",
    "job:renew": "jobs",
    "job:submit": "workload params requires timeoutSeconds retries idempotencyKey",
    "job:cancel": "jobId",
    "job:why": "jobId",
    "token:issue": "role name",
    "token:list": "",
    "token:revoke": "tokenId",
    "audit:list": "limit",
    "enroll:new": "name",
    "enroll": "code workerId",
    "hub:stats": "",
}

EVENT_NAMES = {
    "connected": "clientId protocol version role heartbeat timestamp",
    "pong": "timestamp echo",
    "subscribed": "subscription epoch offset recovered",
    "unsubscribed": "subscription",
    "authenticated": "role subject",
    "registered": "providerId session jobs lastSampleSecondsAgo",
    "ok": "",
    "ack": "jobId attempt seq stale",
    "renewed": "jobs stop",
    "submitted": "jobId offered",
    "history": "providerId points page pages",
    "match": "jobId providers rules",
    "issued": "tokenId token",
    "tokens": "tokens page pages",
    "audit": "entries page pages",
    "enrollment": "code expiresAt",
    "enrolled": "token providerId",
    "hub_statistics": """timestamp version epoch uptimeSeconds connections maxConnections providers
        subscriptions sent received sentBytes receivedBytes flushes flushSeconds slowClients rateLimited
        authFailures storeBytes storeUp nodes""",
    "error": "code message field retryAfter",
    "PROVIDER_REGISTERED": NAMES[records.Provider],
    "PROVIDER_STATUS_CHANGED": "providerId status timestamp",
    "GPU_METRICS_UPDATE": "providerId metrics timestamp",
    "JOB_PROGRESS": "jobId providerId progress timestamp",
    "JOB_LOGS": "jobId stream from text dropped timestamp",
    "JOB_COMPLETED": "jobId providerId status reason result costMicros timestamp",
    "job:assign": "jobId attempt workload params gpus timeoutSeconds",
    "job:start": "jobId attempt leaseSeconds marginSeconds",
    "job:stop": "jobId attempt reason graceSeconds",
    "provider:backfill": "secondsAgo",
}

UPDATE_NAMES = {
    "snapshot": "providers page pages",
    "metrics": "providers",
    "provider_snapshot": "providerId provider metrics metricsTimestamp history page pages",
    "job_snapshot": "jobId job receipts",
    "jobs_snapshot": "jobs page pages",
    "provider_updated": "provider",
    "provider_removed": "providerId",
    "job_created": "job",
    "job_state": "job",
    "store": "up reason since",
}


def wire_names(form: type) -> list[str]:
    """The members of a struct as they are called on the wire."""
    return [field.encode_name for field in msgspec.structs.fields(form)]


@pytest.mark.parametrize("form", NAMES, ids=lambda form: form.__name__)
def test_members_of_records(form: type) -> None:
    """Each record has exactly the members that the contract lists."""
    assert wire_names(form) == NAMES[form].split()


@pytest.mark.parametrize("kind", requests.REQUESTS)
def test_members_of_requests(kind: str) -> None:
    """``data`` of each request has exactly the members that the contract lists."""
    assert set(wire_names(requests.REQUESTS[kind])) == set(REQUEST_NAMES[kind].split())


@pytest.mark.parametrize("kind", sorted(events.EVENTS.keys() - {"MARKETPLACE_UPDATE"}))
def test_members_of_events(kind: str) -> None:
    """``data`` of each event has exactly the members that the contract lists."""
    assert set(wire_names(events.EVENTS[kind])) == set(EVENT_NAMES[kind].split())


def test_kinds_of_marketplace_updates() -> None:
    """Each kind has its name and exactly its members."""
    kinds = marketplace.AnyMarketplaceUpdate.__args__
    assert {kind.__struct_config__.tag: " ".join(wire_names(kind)) for kind in kinds} == UPDATE_NAMES
    assert {kind.__struct_config__.tag_field for kind in kinds} == {"kind"}


def test_all_types_are_there() -> None:
    """The tables have the types of the contract and no others."""
    assert requests.REQUESTS.keys() == REQUEST_NAMES.keys()
    assert events.EVENTS.keys() == EVENT_NAMES.keys() | {"MARKETPLACE_UPDATE"}


def test_codes() -> None:
    """Every error code and close code, as clients know them."""
    assert " ".join(ErrorCode) == (
        "bad_json unknown_type invalid too_large unauthenticated forbidden not_found rate_limited conflict "
        "no_provider unavailable internal"
    )
    assert {code.name: code.value for code in CloseCode} == {
        "NORMAL": 1000,
        "RESTARTING": 1012,
        "UNAUTHENTICATED": 4001,
        "REVOKED": 4003,
        "SILENT": 4008,
        "REPLACED": 4009,
        "TOO_SLOW": 4013,
        "FLOODING": 4029,
    }


@pytest.mark.parametrize(
    ("state", "online", "available"),
    [
        ("available", True, True),
        ("busy", True, False),
        ("paused", True, False),
        ("unreachable", False, False),
        ("offline", False, False),
    ],
)
def test_what_a_providers_state_means(state: str, online: bool, available: bool) -> None:
    """The table of states: who is heard, and who takes a job."""
    assert (ProviderState(state).is_online, ProviderState(state).is_available) == (online, available)


def test_provider_states_are_all_told() -> None:
    """There is no state beside those of the table."""
    assert " ".join(ProviderState) == "available busy paused unreachable offline"


def test_final_job_states() -> None:
    """Nothing follows on completed, failed and cancelled; something may on all others."""
    assert [state for state in JobState if state.is_final] == ["completed", "failed", "cancelled"]
    assert " ".join(JobState) == "queued assigned running unknown completed failed cancelled"


@pytest.mark.parametrize(
    "record",
    [
        records.Metrics(),
        records.GpuMetrics(index=0),
        records.ProviderSpec(worker_id="w"),
        job_records.JobProgress(status=JobState.RUNNING),
        records.ProviderStatus(is_online=True, is_available=True, state=ProviderState.AVAILABLE),
        records.Headline(provider_id="a", timestamp="2026-01-31T12:00:00.000Z"),
        job_records.Job(id="j", workload="w", state=JobState.QUEUED, created_at="2026-01-31T12:00:00.000Z"),
    ],
    ids=lambda record: type(record).__name__,
)
def test_what_is_not_known_is_null_and_there(record: msgspec.Struct) -> None:
    """Every member of a record is on the wire; what nobody knows is null, never left out and never 0."""
    written: dict[str, Any] = json.loads(codec.encode_record(record))
    assert list(written) == NAMES[type(record)].split()
    for field in msgspec.structs.fields(type(record)):
        if getattr(record, field.name) is None:
            assert written[field.encode_name] is None
    assert not any(
        value == 0 and value is not False for name, value in written.items() if name not in COUNTERS
    )


COUNTERS = {"index", "attempt"}
"""Members of which 0 is the truth."""


def test_members_of_a_message_stand_beside_their_data() -> None:
    """An envelope has the members that it needs, a reply's ``id`` among them, and no nulls."""
    assert json.loads(codec.encode_request("ping")) == {"type": "ping"}
    assert json.loads(
        codec.encode_request("subscribe:job", {"since": 0}, subscription_id="j", request_id=3)
    ) == {"type": "subscribe:job", "subscriptionId": "j", "data": {"since": 0}, "id": 3}
    assert json.loads(codec.encode_event("ok", events.Ok(), channel="job:j", offset=0, request_id="")) == {
        "type": "ok",
        "data": {},
        "channel": "job:j",
        "offset": 0,
        "id": "",
    }


def test_the_echo_of_a_ping_is_left_out_where_there_was_none() -> None:
    """A bare ``pong`` is as the guide has it; a null that was sent comes back as null."""
    bare = codec.encode_event("pong", events.Pong(timestamp="2026-01-31T12:00:00.000Z"))
    assert "echo" not in json.loads(bare)["data"]
    echoed = codec.encode_event("pong", events.Pong(timestamp="2026-01-31T12:00:00.000Z", echo=None))
    assert json.loads(echoed)["data"]["echo"] is None
