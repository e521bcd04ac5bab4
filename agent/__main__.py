"""`python -m agent`: the same as `qubix-agent`."""

import sys

from agent.cli import main

sys.exit(main())
