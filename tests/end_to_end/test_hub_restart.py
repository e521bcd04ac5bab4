"""The hub killed and restarted under a running console and agent."""

import json
import signal
import time
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from tests.end_to_end.processes import hub_process, started, wait_for
from tests.end_to_end.terminal import terminal

BACK_WITHIN = 6.0
"""Seconds that console and agent may take to be back and current once the hub is."""


def fresh(url: str) -> list[str]:
    """The ids of the providers that the hub hears and has a sample of; empty while it can't be asked."""
    base = url.replace("ws://", "http://")
    try:
        with urlopen(f"{base}/api/providers", timeout=2) as response:
            listed = json.load(response)["providers"]
        found = []
        for provider in listed:
            with urlopen(f"{base}/api/providers/{provider['id']}", timeout=2) as response:
                known = json.load(response)
            if known["provider"]["isOnline"] and known["metrics"]:
                found.append(provider["id"])
    except (OSError, HTTPException):
        return []
    return found


def test_console_and_agent_recover_by_themselves(tmp_path: Path) -> None:
    """After SIGKILL and a restart of the hub both are back within 6 s; still one provider, same id."""
    with hub_process(tmp_path) as (first, url):
        port = int(url.rsplit(":", 1)[1])
        with (
            started(["qubix-agent", "--hub", url, "--name", "steady"], tmp_path),
            terminal(["qubix", "--hub", url], tmp_path) as console,
        ):
            before = wait_for(lambda: fresh(url), "the agent's first sample")
            console.wait_for("steady")
            console.wait_for("● live")
            first.send_signal(signal.SIGKILL)
            first.wait()
            console.wait_for("stopped answering")
            assert "steady" in console.text, "what was known stays on the screen, marked as old"
            with hub_process(tmp_path, port=port):
                restarted = time.monotonic()
                console.wait_for("● live", BACK_WITHIN)
                after = wait_for(lambda: fresh(url), "the agent to be back", BACK_WITHIN)
                assert time.monotonic() - restarted < BACK_WITHIN
                assert after == before
                wait_for(lambda: console.live_row("steady"), "the row to be current", 3)
                assert "stopped answering" not in console.text
                console.press("q")
                assert console.wait_end() == 0
