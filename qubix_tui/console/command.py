"""One thing to choose in the palette."""

from collections.abc import Callable
from typing import NamedTuple


class Command(NamedTuple):
    """A name to find it by, a few words more, and what it does."""

    name: str
    help: str
    run: Callable[[], object]
