"""The supervisor, on a machine that gives jobs no control groups."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # The first is the directory that the package would be in if this script were of it.
    sys.path[:] = [*sys.argv[3:], *sys.path]

    from agent.jobs import supervisor
    from agent.jobs.cgroup import Cgroup

    Cgroup.make = classmethod(lambda *_: None)  # type: ignore[method-assign, assignment]
    supervisor.main(Path(sys.argv[1]))
