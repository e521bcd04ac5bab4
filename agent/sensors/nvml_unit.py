"""What is read of one GPU, or of one MIG instance, field by field: each as often as it is worth.

A field that the library does not support is null and is not asked for again. What it says that can't be is
not shown, and said.
"""

from collections.abc import Iterable
from typing import Any, Final

import pynvml

from agent.sensors.nvml_fields import ALWAYS, MEMORY, OFTEN, ON_REQUEST, SELDOM, UNSUPPORTED, Field, Handle

_EARLY: Final = 0.5
"""Samples come a little early or late: a value that is due within this is read now."""

_LOST: Final = frozenset(
    {pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED, pynvml.NVML_ERROR_GPU_NOT_FOUND}
)

OVER: Final = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "library_not_found",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "driver_not_loaded",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "version_mismatch",
    pynvml.NVML_ERROR_UNINITIALIZED: "uninitialized",
}
"""The errors that end a generation, and the word for each."""

_AGES: Final = {"sample": ALWAYS, "fiveSeconds": OFTEN, "minute": SELDOM}

_PERCENTAGES: Final = frozenset({"utilPercent", "memUtilPercent", "fanPercent"})
_HOTTEST: Final = 1000
_LARGEST: Final = 2**53

Remarks = dict[str, str]


def next_due(now: float, every: float) -> float:
    """When what is read now is to be read again, monotonic seconds."""
    return now + every - _EARLY if every > 0 else now


class GenerationOver(Exception):
    """Nothing more can be had without initialising again.

    Args:
        code: One word that says why (see `agent.sensors.gpu`).
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Unit:
    """What is read field by field: a GPU, or a MIG instance of one.

    Args:
        fields: What is read of it.
        label: What a person would call it: ``GPU 0``.
        remarks: Where to put what is odd, a sentence for each thing that is.
    """

    def __init__(self, fields: Iterable[Field], label: str, remarks: Remarks) -> None:
        self.handle: Handle | None = None
        """The library's, once it is opened."""
        self.remarks = remarks
        self.lost = False
        self.unified = False
        self.values: dict[str, Any] = {}
        self._label = label
        self._tiers: dict[float, list[Field]] = {}
        for field in fields:
            self._tiers.setdefault(field.every, []).append(field)
        self._due = dict.fromkeys(self._tiers, 0.0)
        self._read_at: dict[float, float] = {}

    def refresh(self, now: float, *, on_request: bool = False) -> None:
        """Read what is due.

        Args:
            now: Monotonic seconds.
            on_request: Whether to read what is read on request alone.

        Raises:
            GenerationOver: The driver went away.
        """
        for every, fields in self._tiers.items():
            if every == ON_REQUEST and not on_request:
                self.values.update((member, None) for field in fields for member in field.members)
                continue
            if now < self._due[every]:
                continue
            for field in tuple(fields):
                self._read_field(field)
                if self.lost:
                    return
            self._read_at[every] = now
            self._due[every] = next_due(now, every)

    def known(self, now: float) -> dict[str, Any]:
        """Give everything that is known, with the age of each tier in seconds."""
        ages = {
            name: round(now - self._read_at[every], 1)
            for name, every in _AGES.items()
            if every in self._read_at
        }
        return {**self.values, "ages": ages, "state": "ok"}

    def remark(self, member: str, what: str) -> None:
        """Note what is odd."""
        self.remarks[f"{self._label}: {member}"] = what

    def judge(self, error: pynvml.NVMLError) -> bool:
        """Whether the library will never answer this; notes a lost GPU, and ends what is over."""
        code: int = error.value
        if code in OVER:
            raise GenerationOver(OVER[code]) from None
        if code in _LOST:
            self.lost = True
        return code in UNSUPPORTED

    def _read_field(self, field: Field) -> None:
        name = field.members[0]
        try:
            answers = field.read(self.handle)
        except pynvml.NVMLError as error:
            unsupported = self.judge(error)
            if self.lost:
                return
            if unsupported:
                self._tiers[field.every].remove(field)
                self.unified |= field is MEMORY and error.value == pynvml.NVML_ERROR_NOT_SUPPORTED
            else:
                self.remark(name, str(error))
            answers = (None,) * len(field.members)
        except UnicodeDecodeError:
            answers = (None,) * len(field.members)
            self.remark(name, "not text")
        for member, value in zip(field.members, answers, strict=True):
            self.values[member] = self._plausible(member, value)

    def _plausible(self, member: str, value: Any) -> Any:  # noqa: ANN401 - whatever JSON takes
        """Clamp a percentage, and drop a number that can be none; either way what was read is said."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value
        if member in _PERCENTAGES and value > 100:
            self.remark(member, f"was read as {value} and is shown as 100")
            return 100
        if value > (_HOTTEST if member.endswith("C") else _LARGEST):
            self.remark(member, f"was read as {value} and is not shown")
            return None
        return value
