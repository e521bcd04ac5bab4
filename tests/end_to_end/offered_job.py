"""An agent's owner offers a workload: one that says how far it is, and waits to be told to go on."""

import asyncio
import json
import os
import sys
from pathlib import Path

from tests.agent.running import ask
from tests.end_to_end.processes import wait_for

JOB = """
import os, sys, time
for percent in (25, 75):
    with open(os.environ["QUBIX_PROGRESS"], "a") as file:
        file.write('{"progress": %d, "message": "epoch"}\\n' % percent)
    print("at", percent, flush=True)
    while not os.path.exists(os.path.join(sys.argv[1], str(percent))):
        time.sleep(0.01)
with open(os.environ["QUBIX_RESULT"], "w") as file:
    file.write('{"loss": 0.1}')
"""


def offer(home: Path) -> None:
    """Have the owner of an agent offer a workload that waits for a file at 25 % and at 75 %."""
    # Whom jobs run as where the agent is root can't look into a directory of the test.
    user = '[jobs]\nuser = "root"\n' if os.geteuid() == 0 else ""
    (home / "agent.toml").write_text(user)
    (home / "train.py").write_text(JOB)
    command = [sys.executable, str(home / "train.py"), str(home)]
    (home / "workloads.toml").write_text(
        f'[workload.train]\ncommand = {json.dumps(command)}\nsandbox = "none"\n'
    )


async def until_offered(url: str, workload: str) -> None:
    """Wait until a provider offers a workload."""

    def look() -> bool:
        providers = ask(url, "/api/providers")["providers"]
        return any(offered["name"] == workload for one in providers for offered in one["workloads"])

    await asyncio.to_thread(wait_for, look, f"a provider that offers {workload}")
