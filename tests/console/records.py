"""Records for tests of the console."""

from typing import Any

from qubix_tui.protocol.records import Headline, Provider, ProviderState
from qubix_tui.protocol.types import to_timestamp

NOW = 1_800_000_000.0


def provider(name: str = "rig-1", state: ProviderState = ProviderState.AVAILABLE, **more: Any) -> Provider:
    """A provider's record."""
    known: dict[str, Any] = {
        "id": f"{name}-3f9a1c",
        "worker_id": f"w-{name}",
        "name": name,
        "state": state,
        "is_online": state.is_online,
        "is_available": state.is_available,
        "registered_at": to_timestamp(NOW),
        "gpu_model": "NVIDIA GeForce RTX 4090",
        "gpu_count": 4,
        "gpu_mem_total_mb": 98304,
        "price_per_hour": 0.45,
    }
    return Provider(**{**known, **more})


def headline(name: str = "rig-1", at: float = NOW, **more: Any) -> Headline:
    """A provider's newest sample."""
    known: dict[str, Any] = {"gpu_percent": 88.0, "gpu_temp": 61.0, "cpu_percent": 34.0, "ram_percent": 61.0}
    return Headline(provider_id=f"{name}-3f9a1c", timestamp=to_timestamp(at), **{**known, **more})
