"""What the benchmark gives: figures, each with its unit."""

from dataclasses import asdict, dataclass
from typing import Any, Final

GIGA: Final = 1e9
TERA: Final = 1e12


class CantMeasure(Exception):
    """A figure can't be had here; the message says why."""


class WrongResult(Exception):
    """The machine computed something wrong; the message says what."""


@dataclass(frozen=True)
class Figure:
    """One measured value."""

    name: str
    value: float | None
    """None where it could not be measured; a note says why."""
    unit: str
    what: str
    """What was counted, in words."""
    gpu: str | None = None
    """UUID of the GPU that it belongs to; None for the machine's own."""

    def as_json(self) -> dict[str, Any]:
        """Give it as JSON objects are made of, with four significant digits."""
        members = asdict(self)
        if self.value is not None:
            members["value"] = float(f"{self.value:.4g}")
        return members

    def __str__(self) -> str:
        value = "—" if self.value is None else f"{self.value:.4g} {self.unit}"
        return f"{self.name}: {value} ({self.what})"
