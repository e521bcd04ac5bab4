"""What a console is started with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

FRAMES_PER_SECOND: Final = 10.0
"""How often changes are painted unless the user wants it slower: more says nothing more to a person."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """How to show things, and what is allowed."""

    ascii_only: bool = False
    """Whether glyphs beyond ASCII are to be avoided."""
    read_only: bool = False
    """Whether everything that changes something on the hub is hidden."""
    frames_per_second: float = FRAMES_PER_SECOND
    """Changes are painted at most so often; keys are answered at once."""
    directory: Path | None = None
    """Where the console keeps its files; None to keep nothing."""
