"""What the agent says, where nobody can hear it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agent.running import NO_LIBRARY, ask, provider
from tests.end_to_end.processes import command, environment, hub_process, wait_for


def pushed(url: str) -> int:
    """The number of the newest sample that the hub has of its one provider."""
    ids = [listed["id"] for listed in ask(url, "/api/providers")["providers"]]
    return max((provider(url, one)["metrics"].get("seq", 0) for one in ids), default=0)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
@pytest.mark.parametrize("place", ["full disk", "gone reader"])
def test_it_goes_on_unheard(place: str, tmp_path: Path) -> None:
    """A log on a full disk, or a pipe that nobody reads, stops neither the samples nor a clean end."""
    if place == "full disk":
        output = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, output = os.pipe()
        os.close(reader)
    with hub_process(tmp_path) as (_, url):
        agent = subprocess.Popen(
            [command("qubix-agent"), "--hub", url],
            env=environment(tmp_path, **NO_LIBRARY),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        os.close(output)
        try:
            wait_for(lambda: pushed(url) >= 3, "the third sample")
            agent.send_signal(signal.SIGTERM)
            assert agent.wait(5) == 0
        finally:
            agent.kill()
            agent.wait()
