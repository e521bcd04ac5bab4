"""What a console is started with."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What the user asked for on the command line; it goes before the settings."""

    ascii_only: bool = False
    """Whether glyphs beyond ASCII are to be avoided."""
    read_only: bool = False
    """Whether everything that changes something on the hub is hidden."""
    frames_per_second: float | None = None
    """Changes are painted at most so often; keys are answered at once."""
    mouse: bool = True
    """Whether the mouse may be the console's."""
    directory: Path | None = None
    """Where the console keeps its files; None to keep nothing."""

    def as_settings(self) -> dict[str, object]:
        """Give what of it is a setting, by key."""
        asked: dict[str, object] = {}
        if self.ascii_only:
            asked["display.ascii"] = True
        if not self.mouse:
            asked["display.mouse"] = False
        if self.frames_per_second is not None:
            asked["display.frames_per_second"] = self.frames_per_second
        return asked
