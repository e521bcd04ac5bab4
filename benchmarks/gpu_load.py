"""Keeps every NVIDIA GPU busy until stdin ends: its memory is written, and some of it is brought over PCIe.

It says `ready` once all work. Where that can't be done it says why in one sentence, and exits with 1.
"""

import os
import sys
import threading
from typing import Final

from agent.jobs.benchmark.cuda import Device, Driver
from agent.jobs.benchmark.figures import CantMeasure

_GIB: Final = 1024**3
_BROUGHT_BYTES: Final = 8 * 1024**2
_WRITES: Final = 100
"""Times that all of the memory is written for each time that some of it is brought."""


def keep_busy(device: Device, working: threading.Semaphore) -> None:
    """Work until the process ends, in a gigabyte of the GPU's memory at most."""
    with device.context() as context:
        size = max(_BROUGHT_BYTES, min(_GIB, context.free_bytes() // 4))
        with context.memory(size) as address:
            while True:
                for word in range(_WRITES):
                    context.set_words(address, word, size // 4)
                context.read(address, _BROUGHT_BYTES)
                working.release()


def main() -> int:
    """Start a thread for each GPU, and wait for the end of stdin."""
    working = threading.Semaphore(0)
    try:
        devices = Driver().devices()
    except CantMeasure as reason:
        print(reason, flush=True)
        return 1
    for device in devices:
        threading.Thread(target=keep_busy, args=(device, working), daemon=True).start()
    for _ in devices:
        working.acquire()
    print("ready", flush=True)
    sys.stdin.read()
    # The threads are amid a call of the driver; the process takes them with it.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
