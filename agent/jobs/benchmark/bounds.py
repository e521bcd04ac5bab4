"""What the benchmark may be asked for. Apart from the rest: an agent that offers it does not load it."""

from typing import Final

LEAST_SECONDS: Final = 10
MOST_SECONDS: Final = 300
DEFAULT_SECONDS: Final = 30

LEAST_DISK_MB: Final = 4
MOST_DISK_MB: Final = 65_536
DEFAULT_DISK_MB: Final = 512
