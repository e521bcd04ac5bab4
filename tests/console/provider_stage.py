"""A console with a stand-in for its connection, and a provider to put on its screen."""

from collections.abc import Callable, Sequence
from typing import Any, cast

from qubix_tui.client import Connection, ConnectionState, Remedy
from qubix_tui.console.app import QubixApp
from qubix_tui.console.options import Options
from qubix_tui.protocol import events
from qubix_tui.protocol.events import Event, MetricsUpdate, StatusChanged
from qubix_tui.protocol.marketplace import ProviderSnapshot
from qubix_tui.protocol.records import (
    AgentCost,
    GpuHistoryPoint,
    GpuMetrics,
    GpuProcess,
    HistoryPoint,
    Metrics,
    Provider,
    ProviderState,
    ProviderStatus,
)
from qubix_tui.protocol.types import to_timestamp

NOW = 1_790_000_000.0
PROVIDER_ID = "rig-41"


class StandInConnection:
    """What the console uses of a connection, with the hub's clock in the test's hands."""

    def __init__(self) -> None:
        self.url = "ws://localhost:3001"
        self.state = ConnectionState.OPEN
        self.now = NOW
        self.attempt = 0
        self.attempts_allowed = 10
        self.next_attempt_at: float | None = None
        self.last_error: str | None = None
        self.remedy: Remedy | None = None
        self.role: str | None = "operator"
        self.subscribed: list[str] = []
        self.requested: list[str] = []
        self.requests: list[tuple[str, object]] = []
        self.replies: dict[str, Event | Exception] = {}
        self.asked: dict[str, dict[str, object]] = {}
        self.retries = 0
        self.handlers: list[Callable[[Event], None]] = []
        self.state_handlers: list[Callable[[ConnectionState], None]] = []
        self.gap_handlers: list[Callable[[str], None]] = []

    def hub_time(self) -> float:
        """Give the time that the test has set."""
        return self.now

    def on(self, _event_type: str, handler: Callable[[Event], None]) -> None:
        """Add a handler."""
        self.handlers.append(handler)

    def off(self, _event_type: str, handler: Callable[[Event], None]) -> None:
        """Take a handler away."""
        self.handlers.remove(handler)

    def on_state(self, handler: Callable[[ConnectionState], None]) -> Callable[[], None]:
        """Add a handler of states."""
        self.state_handlers.append(handler)
        return lambda: self.state_handlers.remove(handler)

    def on_gap(self, handler: Callable[[str], None]) -> Callable[[], None]:
        """Add a handler of gaps."""
        self.gap_handlers.append(handler)
        return lambda: self.gap_handlers.remove(handler)

    def subscribe(self, channel: str, **options: object) -> None:
        """Note a subscription."""
        self.subscribed.append(channel)
        self.asked[channel] = options

    def unsubscribe(self, channel: str) -> None:
        """Note the end of one."""
        self.subscribed.remove(channel)

    async def request(self, kind: str, data: object = None, timeout: float = 10.0) -> Event:
        """Answer as the test has laid down."""
        self.requested.append(kind)
        self.requests.append((kind, data))
        reply = self.replies[kind]
        if isinstance(reply, Exception):
            raise reply
        return reply

    def retry_now(self) -> None:
        """Count it."""
        self.retries += 1

    async def start(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    def emit(self, event_type: str, data: Any) -> None:
        """Let the hub say something."""
        for handler in list(self.handlers):
            handler(Event(type=event_type, data=data))

    def change_state(self, state: ConnectionState) -> None:
        """Let the connection come or go."""
        self.state = state
        for handler in list(self.state_handlers):
            handler(state)

    def sample(self, moment: float, metrics: Metrics) -> None:
        """Let a sample come, received by the hub at a moment."""
        update = MetricsUpdate(provider_id=PROVIDER_ID, metrics=metrics, timestamp=to_timestamp(moment))
        self.emit(events.GPU_METRICS_UPDATE, update)

    def snapshot(
        self, provider: Provider | None, metrics: Metrics | None, history: Sequence[HistoryPoint] = ()
    ) -> None:
        """Let a snapshot come, of now."""
        page = ProviderSnapshot(
            provider_id=PROVIDER_ID,
            provider=provider,
            metrics=metrics,
            metrics_timestamp=to_timestamp(self.now) if metrics is not None else None,
            history=list(history),
            page=1,
            pages=1,
        )
        self.emit(events.MARKETPLACE_UPDATE, page)

    def status(self, state: ProviderState, *, reason: str | None = None, job_id: str | None = None) -> None:
        """Let the provider's state change, now."""
        status = ProviderStatus(
            is_online=state.is_online,
            is_available=state.is_available,
            state=state,
            reason=reason,
            current_job_id=job_id,
        )
        change = StatusChanged(provider_id=PROVIDER_ID, status=status, timestamp=to_timestamp(self.now))
        self.emit(events.PROVIDER_STATUS_CHANGED, change)


def console(
    *, ascii_only: bool = False, options: Options | None = None
) -> tuple[QubixApp, StandInConnection]:
    """Make a console, and give the connection that stands in for its own."""
    app = QubixApp("ws://localhost:3001", options=options or Options(ascii_only=ascii_only))
    connection = StandInConnection()
    app.learn_from(cast(Connection, connection))
    return app, connection


def gpu(index: int = 0, **changes: Any) -> GpuMetrics:
    """Make one busy GPU's values."""
    values: dict[str, Any] = {
        "index": index,
        "name": "NVIDIA GeForce RTX 4090",
        "util_percent": 97,
        "mem_used_mb": 22630,
        "mem_total_mb": 24564,
        "temp_c": 64,
        "temp_slowdown_c": 90,
        "power_w": 438,
        "power_limit_w": 450,
        "energy_j": 12e6,
        "sm_clock_mhz": 2520,
        "mem_clock_mhz": 10501,
        "fan_percent": 78,
        "throttle": [],
        "processes": [GpuProcess(pid=7, name="python3", mem_used_mb=20000)],
    }
    return GpuMetrics(**{**values, **changes})


def metrics(gpus: int | Sequence[GpuMetrics] = 1, **changes: Any) -> Metrics:
    """Make one sample of a machine with so many GPUs, or with those given."""
    values: dict[str, Any] = {
        "cpu_percent": 34,
        "ram_percent": 61,
        "ram_total_mb": 131072,
        "load1": 11.2,
        "net_rx_bytes_per_sec": 1.2e6,
        "net_tx_bytes_per_sec": 18.4e6,
        "disk_percent": 71,
        "uptime_seconds": 12 * 86400,
        "agent": AgentCost(cpu_percent=0.1, rss_mb=31),
        "gpus": [gpu(index) for index in range(gpus)] if isinstance(gpus, int) else list(gpus),
    }
    return Metrics(**{**values, **changes})


def record(gpus: int = 1, **changes: Any) -> Provider:
    """Make the record of a machine with so many GPUs."""
    state = changes.get("state", ProviderState.AVAILABLE)
    values: dict[str, Any] = {
        "id": PROVIDER_ID,
        "worker_id": "w-1",
        "name": PROVIDER_ID,
        "gpu_model": "NVIDIA GeForce RTX 4090" if gpus else None,
        "gpu_count": gpus,
        "cpu_model": "AMD EPYC 9354",
        "cpu_cores": 32,
        "driver_version": "580.65.06",
        "cuda_version": "13.0",
        "location": "Lisbon",
        "price_per_hour": 0.45,
        "state": state,
        "is_online": state.is_online,
        "is_available": state.is_available,
        "registered_at": to_timestamp(NOW - 1000),
    }
    return Provider(**{**values, **changes})


def history(gpus: int = 1, *, end: float = NOW, steps: int = 120, use: float = 50) -> list[HistoryPoint]:
    """Make the hub's history: steps of five seconds, up to and without the one that ``end`` begins."""
    return [
        HistoryPoint(
            timestamp=to_timestamp(end - 5 * (steps - step)),
            cpu_percent=use,
            ram_percent=use,
            gpus=[GpuHistoryPoint(util_percent=use, mem_used_mb=4096, temp_c=60, power_w=200)] * gpus,
        )
        for step in range(steps)
    ]
