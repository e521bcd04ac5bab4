"""What every server of the benchmarks is given to do: the same sample, the same commands.

A server process writes the port that it listens on, and then answers each line on its standard input by one
on its standard output:

- ``publish EVENTS EVERY SECONDS``: publish so many events every so many seconds, to whoever subscribed. A
  turn that comes late is not made up for. Answer: the number of events published.
- ``received``: the number of samples that it has taken.
"""

import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

EVENT_BYTES = 350
"""The JSON text of a published event."""

FIRST_SEQ = 1_000_000
"""All numbers up to 9,999,999 have the same length."""

PROVIDER = "rig-7"


def sample() -> dict[str, Any]:
    """Give the sample of one small machine, as the guide's backend would broadcast it."""
    gpu = {"index": 0, "utilPercent": 80.5, "memUsedMb": 8192, "tempC": 72}
    return {
        "cpuPercent": 45.2,
        "ramPercent": 60.1,
        "gpuPercent": 80.5,
        "gpuTemp": 72,
        "gpus": [gpu],
        "seq": FIRST_SEQ,
    }


def padded(metrics: dict[str, Any], encode: Callable[[dict[str, Any]], bytes]) -> dict[str, Any]:
    """Give ``metrics`` with a note that is as long as it must be for an event of `EVENT_BYTES`."""
    noted = {**metrics, "gpuNote": ""}
    return {**noted, "gpuNote": "x" * (EVENT_BYTES - len(encode(noted)))}


async def publish(
    broadcast: Callable[[int], None], sleep: Callable[[float], Awaitable[None]], words: list[str]
) -> int:
    """Publish as a ``publish`` command says.

    Args:
        broadcast: Publishes the event with this sequence number.
        sleep: Gives the event loop its time.
        words: EVENTS, EVERY and SECONDS.

    Returns:
        How many events were published.
    """
    events, every, seconds = int(words[0]), float(words[1]), float(words[2])
    start = due = time.monotonic()
    published = 0
    while True:
        for _ in range(events):
            published += 1
            broadcast(FIRST_SEQ + published)
        now = time.monotonic()
        if now - start >= seconds:
            return published
        due = max(due + every, now)
        await sleep(due - now)


def answer(line: object) -> None:
    """Write one line to whoever gave the command."""
    print(line)
    sys.stdout.flush()


def as_json(message: object) -> bytes:
    """Encode plain JSON as everybody would."""
    return json.dumps(message, separators=(",", ":")).encode()
