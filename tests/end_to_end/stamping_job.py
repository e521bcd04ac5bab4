"""A job that writes down when it runs: for tests that want to know whether it ever ran twice at once.

It appends lines to one file that all attempts share: ``start``, a ``beat`` many times a second, ``end``; each
with the attempt, and the time by a clock that the whole machine shares. It ends when it is told to.
"""

import os
import sys
import time
from pathlib import Path

BEAT_SECONDS = 0.05
PATIENCE_SECONDS = 300.0


def main(directory: Path) -> None:
    """Run until ``<job>.go`` is there."""
    job, _, attempt = os.environ["QUBIX_ATTEMPT"].rpartition(".")
    stamps = os.open(directory / "stamps", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def stamp(what: str) -> None:
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        os.write(stamps, f"{what} {job} {attempt} {os.getpid()} {now:.3f}\n".encode())

    stamp("start")
    began = time.monotonic()
    with Path(os.environ["QUBIX_PROGRESS"]).open("a", encoding="utf-8", buffering=1) as progress:
        while not (directory / f"{job}.go").exists():
            if time.monotonic() > began + PATIENCE_SECONDS:
                sys.exit("nobody told it to end")
            stamp("beat")
            progress.write(f'{{"progress": {min(99.0, time.monotonic() - began):.2f}}}\n')
            os.write(1, b"working\n")
            time.sleep(BEAT_SECONDS)
    Path(os.environ["QUBIX_RESULT"]).write_text(f'{{"attempt": {attempt}}}', encoding="utf-8")
    stamp("end")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
