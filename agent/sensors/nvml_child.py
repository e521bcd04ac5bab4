"""The process that NVML lives in. It answers each byte on stdin with one line of JSON on stdout.

The byte is `WITH_PCIE` where PCIe throughput is asked for too, and any other where it is not.

`agent.sensors.nvml_process` starts it as a plain script and hands it the module search path. It imports as
little as it can: no event loop, no TLS, nothing of the wire. A call of the library may hang for ever: a
thread watches stdin all the while, so that the end of the agent, however it comes, is its end too.
"""

import json
import os
import sys
import threading
import time
from typing import Any, Final

WITH_PCIE: Final = b"p"


class Questions:
    """What was asked and is not answered. A thread takes it in, so that the end of stdin is always heard."""

    def __init__(self) -> None:
        self._bytes: list[bytes] = []
        self._asked = threading.Semaphore(0)
        threading.Thread(target=self._watch, daemon=True).start()

    def next(self) -> bytes:
        """Wait for the next one."""
        self._asked.acquire()
        return self._bytes.pop(0)

    def _watch(self) -> None:
        while question := os.read(0, 1):
            self._bytes.append(question)
            self._asked.release()
        os._exit(0)


def main(root: str) -> None:
    """Answer until stdin ends, or until the library has to be initialised again."""
    questions = Questions()
    question = questions.next()
    from agent.sensors import nvml
    from agent.sensors.nvml_unit import GenerationOver

    try:
        generation = nvml.Generation(root)
        while True:
            now = time.monotonic()
            _answer(
                gpus=generation.sample(now, on_request=question == WITH_PCIE),
                readAt=now,
                driverVersion=generation.driver_version,
                cudaVersion=generation.cuda_version,
                unified=[device.index for device in generation.devices if device.unified],
                unused=all(device.is_unused for device in generation.devices),
                remarks=generation.remarks,
                cpuSeconds=time.process_time(),
            )
            generation.remarks.clear()
            question = questions.next()
    except GenerationOver as over:
        _answer(over=over.code)


def _answer(**members: Any) -> None:  # noqa: ANN401 - whatever JSON takes
    line = json.dumps(members, separators=(",", ":")).encode() + b"\n"
    try:
        while line:
            line = line[os.write(1, line) :]
    except BrokenPipeError:
        os._exit(0)


if __name__ == "__main__":
    sys.path.extend(sys.argv[2:])
    main(sys.argv[1])
