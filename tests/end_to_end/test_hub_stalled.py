"""A hub that was stopped for a while, as by a sleeping laptop, declares nobody gone for it."""

import json
import signal
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.end_to_end.processes import hub_process, started, wait_for

FROZEN_SECONDS = 20.0
"""Longer than it takes for a silent provider to be unreachable."""


def providers(url: str) -> list[dict[str, object]]:
    """What the hub says of its providers."""
    with urlopen(f"{url.replace('ws://', 'http://')}/api/providers", timeout=5) as response:
        listed: list[dict[str, object]] = json.load(response)["providers"]
    return listed


@pytest.mark.soak
def test_a_frozen_hub_takes_nobody_for_gone(tmp_path: Path) -> None:
    """After 20 s of SIGSTOP the agent's provider is online without a break: no status event was told."""
    with (
        hub_process(tmp_path) as (hub, url),
        started(["qubix-agent", "--hub", url, "--name", "steady"], tmp_path),
        started(["qubix", "watch", "marketplace", "--hub", url, "--json"], tmp_path) as watch,
    ):
        wait_for(lambda: [one["state"] for one in providers(url)] == ["available"], "the agent")
        hub.send_signal(signal.SIGSTOP)
        time.sleep(FROZEN_SECONDS)
        hub.send_signal(signal.SIGCONT)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            assert [one["state"] for one in providers(url)] == ["available"]
            time.sleep(0.1)
        watch.terminate()
        told, _ = watch.communicate()
        assert "PROVIDER_STATUS_CHANGED" not in told
        assert "unreachable" not in told
