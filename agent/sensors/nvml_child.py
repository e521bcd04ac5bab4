"""The process that NVML lives in. It answers each line on stdin with one line of JSON on stdout.

`agent.sensors.nvml_process` starts it as a plain script and hands it the module search path. It imports as
little as it can: no event loop, no TLS, nothing of the wire. A call of the library may hang for ever: a
thread watches stdin all the while, so that the end of the agent, however it comes, is its end too.
"""

import json
import os
import sys
import threading
import time
from typing import Any


def main() -> None:
    """Answer until stdin ends, or until the library has to be initialised again."""
    asked = threading.Semaphore(0)
    threading.Thread(target=_watch, args=(asked,), daemon=True).start()
    asked.acquire()
    from agent.sensors import nvml

    try:
        generation = nvml.Generation()
        while True:
            _answer(
                gpus=generation.sample(time.monotonic()),
                driverVersion=generation.driver_version,
                cudaVersion=generation.cuda_version,
                unified=[device.index for device in generation.devices if device.unified],
                remarks=generation.remarks,
                cpuSeconds=time.process_time(),
            )
            generation.remarks.clear()
            asked.acquire()
    except nvml.GenerationOver as over:
        _answer(over=over.code)


def _watch(asked: threading.Semaphore) -> None:
    while os.read(0, 1):
        asked.release()
    os._exit(0)


def _answer(**members: Any) -> None:  # noqa: ANN401 - whatever JSON takes
    line = json.dumps(members, separators=(",", ":")).encode() + b"\n"
    try:
        while line:
            line = line[os.write(1, line) :]
    except BrokenPipeError:
        os._exit(0)


if __name__ == "__main__":
    sys.path.extend(sys.argv[1:])
    main()
