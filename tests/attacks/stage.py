"""A hub in a process of its own, and what must be so whatever is done to it."""

import json
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from qubix_tui import home
from qubix_tui.protocol.tokens import Role
from tests.attacks.probe import Probe, p99, probing
from tests.attacks.raw import RawClient, bearer
from tests.end_to_end.processes import hub_process, wait_for

MIB = 1 << 20

QUIET_SECONDS = 2.0
"""How long the well-behaved client is measured before an attack."""

FLOOR_SECONDS = 0.020
"""A quiet p99 below this counts as this. Two cores are shared by the hub, the attackers, the well-behaved
client and another worker's tests: what the scheduler alone adds is of this size."""

TIMES = 3
"""How much slower a well-behaved client may be served under an attack."""

TRIES = 3
"""How often an attack is made before it counts as one that slows others down. Neighbours on the same machine
can spoil a measurement; a hub that lets attackers in the way of others fails every one."""

MEMORY_MARGIN = 24 * MIB
"""What the process may keep after an attack: its allocator gives back whole arenas only, and code that was
imported, buckets of addresses and the history of samples stay."""


class AttackedHub:
    """A running hub.

    Args:
        process: Its process.
        port: Where it listens.
        directory: Its QUBIX_HOME.
    """

    def __init__(self, process: psutil.Process, port: int, directory: Path) -> None:
        self.process = process
        self.port = port
        self.directory = directory
        self.url = f"ws://127.0.0.1:{port}"
        self.log: list[str] = []

    def token(self, role: Role) -> str:
        """The local token of a role."""
        return home.ensure_local_token(role, home=self.directory)

    def client(self, role: Role | None = None, *headers: str) -> RawClient:
        """A client that has read ``connected``; an anonymous viewer without a role."""
        client = RawClient(self.port, *([] if role is None else [bearer(self.token(role))]), *headers)
        greeting = client.hear()
        assert greeting["type"] == "connected"
        return client

    def new_token(self, role: Role) -> str:
        """One more token of a role."""
        with self.client(Role.OPERATOR) as operator:
            issued = operator.ask("token:issue", {"role": role.value})
            token: str = issued["data"]["token"]
            return token

    def agent(self) -> RawClient:
        """A client with a provider's token of its own."""
        client = RawClient(self.port, bearer(self.new_token(Role.PROVIDER)))
        client.hear()
        return client

    def clients(self) -> int:
        """How many clients it counts."""
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.port}/api/websocket/stats", timeout=10
        ) as answer:
            total: int = json.load(answer)["stats"]["totalClients"]
            return total

    def memory(self) -> int:
        """The bytes of memory that its process holds."""
        resident: int = self.process.memory_info().rss
        return resident

    def check(self) -> None:
        """It answers, and has not made a mistake."""
        with self.client() as client:
            assert client.ask("ping")["type"] == "pong"
        self.check_log()

    def check_log(self) -> None:
        """Its log tells of no mistake."""
        mistakes = [line for line in self.log if "Traceback" in line or " ERROR " in line]
        assert not mistakes, "".join(self.log)[-4000:]


@contextmanager
def attacked_hub(directory: Path, *options: str) -> Iterator[AttackedHub]:
    """Run a hub, read its log, and check at the end that it lives, ends in order and logged no mistake."""
    with hub_process(directory, *options) as (process, url):
        hub = AttackedHub(psutil.Process(process.pid), int(url.rsplit(":", 1)[1]), directory)
        assert process.stderr is not None
        log = process.stderr
        # Read all along: a full pipe would hold the hub up, and hide what it has to say.
        reader = threading.Thread(target=lambda: hub.log.extend(log))
        reader.start()
        try:
            yield hub
            hub.check()
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0, "".join(hub.log)
        finally:
            process.kill()
            reader.join()
    hub.check_log()


class _Peak(threading.Thread):
    """Watches the most memory that a hub holds."""

    def __init__(self, hub: AttackedHub) -> None:
        super().__init__()
        self._hub = hub
        self._over = threading.Event()
        self.most = 0

    def run(self) -> None:
        while not self._over.wait(0.05):
            self.most = max(self.most, self._hub.memory())

    def end(self) -> int:
        """Watch no longer, and give the most that was seen."""
        self._over.set()
        self.join()
        return self.most


def withstands(
    hub: AttackedHub, attack: Callable[[], object], *, least_seconds: float = 2.0, most: int = 64 * MIB
) -> None:
    """Attack a hub, and check that those who behave do not notice, and that it takes no memory for good.

    Args:
        hub: The hub.
        attack: Makes the attack, and takes its attackers away before it returns.
        least_seconds: It is repeated until so much time has passed, so that p99 means something.
        most: Bytes of memory that it may cost while it lasts.
    """
    before = hub.memory()
    peak = _Peak(hub)
    peak.start()
    try:
        with probing(hub.port, hub.new_token(Role.PROVIDER)) as probe:
            _measure(probe, attack, least_seconds)
    finally:
        cost = peak.end() - before
    assert cost <= most, f"it took {cost / MIB:.0f} MiB"
    wait_for(
        lambda: hub.memory() <= before + MEMORY_MARGIN,
        f"the memory to come back to {before / MIB:.0f} MiB (it has {hub.memory() / MIB:.0f})",
        30,
    )
    hub.check()


def _measure(probe: Probe, attack: Callable[[], object], least_seconds: float) -> None:
    """Attack until a well-behaved client is served in time meanwhile; fail when it never is."""
    tries: list[tuple[float, float]] = []
    for _ in range(TRIES):
        # The first events of a pair that has just come together are none of a quiet hub's.
        time.sleep(0.5)
        quiet_from = time.monotonic()
        time.sleep(QUIET_SECONDS)
        begin = time.monotonic()
        while time.monotonic() < begin + least_seconds:
            attack()
        end = time.monotonic()
        quiet, attacked = p99(probe.between(quiet_from, begin)), p99(probe.between(begin, end))
        if attacked <= TIMES * max(quiet, FLOOR_SECONDS):
            return
        tries.append((quiet, attacked))
    shown = ", ".join(f"{quiet * 1000:.1f} → {attacked * 1000:.1f} ms" for quiet, attacked in tries)
    raise AssertionError(f"p99 of a well-behaved client, quiet → attacked: {shown}")
