"""Whether what runs in this container answers: a hub by its `/healthz`, an agent by its status.

Exit code 0 for yes, 1 for no. A hub's certificate is not looked at: it is made out for the name by which
others reach it, and not for this container.
"""

import ssl
import subprocess
import sys
from urllib.request import urlopen

from qubix_tui import home

SECONDS = 5.0


def hub_answers(url: str) -> bool:
    """Whether the hub at an address (``ws://`` or ``wss://``) says that it is there."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with urlopen(f"http{url.removeprefix('ws')}/healthz", timeout=SECONDS, context=context) as answer:  # noqa: S310 - our own file's
            return bool(answer.status == 200)
    except OSError:
        return False


def agent_answers() -> bool:
    """Whether an agent runs here and tells how it does."""
    try:
        asked = subprocess.run(
            ["qubix-agent", "status"], stdout=subprocess.DEVNULL, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0


if __name__ == "__main__":
    hub = home.running_hub(home=home.home_dir())
    sys.exit(not (hub_answers(hub) if hub is not None else agent_answers()))
