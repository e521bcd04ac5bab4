"""The supervisor, with less patience for what can't be ended."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # The first is the directory that the package would be in if this script were of it.
    sys.path[:] = [*sys.argv[3:], *sys.path]

    from agent.jobs import supervisor

    supervisor.UNKILLABLE_SECONDS = 0.5  # type: ignore[misc]
    supervisor.main(Path(sys.argv[1]))
