"""A well-behaved agent and console, in a process of their own: how long an event takes from one to the other.

Each event is a sample whose ``uptimeSeconds`` says when it was sent, by the clock that all processes of a
machine share. The process prints one line an event: when it was sent, and the seconds until it was heard. It
is kept to plain blocking sockets, so that what it measures is the hub and not itself.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.attacks.raw import SECONDS, RawClient, bearer, message

EVENTS_PER_SECOND = 50


class Probe:
    """The events that such a pair has exchanged so far."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._heard: list[tuple[float, float]] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            sent, took = line.split()
            self._heard.append((float(sent), float(took)))

    def between(self, begin: float, end: float) -> list[float]:
        """The seconds that each event took that was sent in a span of monotonic time.

        Raises:
            AssertionError: The pair is not there any more, or heard next to nothing.
        """
        deadline = time.monotonic() + SECONDS
        while not (self._heard and self._heard[-1][0] >= end):
            assert self._process.poll() is None, "the well-behaved client was turned out"
            assert time.monotonic() < deadline, "the well-behaved client hears nothing any more"
            time.sleep(0.01)
        found = [took for sent, took in self._heard if begin <= sent < end]
        # Each event, sent late or not: a hub that stood still would else show few, quick ones.
        assert len(found) >= 0.8 * EVENTS_PER_SECOND * (end - begin), f"{len(found)} in {end - begin:.1f} s"
        return found

    def close(self) -> None:
        """End the pair."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def probing(port: int, token: str) -> Iterator[Probe]:
    """Let a well-behaved pair talk through a hub for as long as the block runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.attacks.probe", str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(token + "\n")
    process.stdin.close()
    probe = Probe(process)
    try:
        yield probe
    finally:
        probe.close()


def p99(seconds: list[float]) -> float:
    """What one of a hundred takes longer than."""
    return sorted(seconds)[int(len(seconds) * 0.99)]


def _publish(agent: RawClient) -> None:
    due = time.monotonic()
    for number in range(1 << 40):
        # When it was due, not when it went: an agent that is held up by the hub waits, too.
        metrics = {"cpuPercent": 50.0, "uptimeSeconds": due, "seq": number}
        agent.send(message("GPU_METRICS_UPDATE", {"metrics": metrics}))
        due += 1 / EVENTS_PER_SECOND
        time.sleep(max(0.0, due - time.monotonic()))


def main() -> None:
    """Talk until killed. The token is the first line of stdin."""
    port, token = int(sys.argv[1]), sys.stdin.readline().strip()
    console = RawClient(port)
    agent = RawClient(port, bearer(token))
    registered = agent.ask("provider:register", {"workerId": "probe", "instance": "one"})
    provider_id = registered["data"]["providerId"]
    console.ask("subscribe:provider", subscriptionId=provider_id)
    threading.Thread(target=_publish, args=(agent,), daemon=True).start()
    while True:
        heard = console.hear()
        now = time.monotonic()
        if heard["type"] == "GPU_METRICS_UPDATE":
            sent = heard["data"]["metrics"]["uptimeSeconds"]
            sys.stdout.write(f"{sent} {now - sent}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
