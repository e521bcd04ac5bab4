"""The wire contract: every message, record, error and close code, and one codec for bytes.

Nothing in here knows about sockets, clocks or screens. See ``docs/asyncapi.yaml`` for the same contract in
a form that other languages can read.
"""

PROTOCOL_VERSION = 1
"""What ``connected`` announces. Additive changes leave it alone."""

MAX_FRAME_BYTES = 64 * 1024
"""No frame is longer, in either direction; what is longer is cut into pages."""

MAX_DEPTH = 32
"""Deepest nesting of arrays and objects in a message."""

DEFAULT_PORT = 3001
"""The port of a hub when nobody says otherwise."""

PING_EVERY_SECONDS = 30
"""How often a client sends ``ping``."""

SILENCE_TIMEOUT_SECONDS = 60
"""How long a client may be silent before the hub closes it with 4008."""
