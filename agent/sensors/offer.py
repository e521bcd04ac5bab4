"""Which GPUs the owner offers. Of the others neither a record nor a sample speaks."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from qubix_tui.protocol.records import GpuMetrics

ALL_GPUS: Final = "all"

GPU_WORDS: Final = 'a list of "all", numbers and UUIDs, as nvidia-smi -L shows them: [0, "GPU-…"]'
"""What a list of GPUs is, for a person."""

_NUMBER_OR_UUID: Final = re.compile(r"[0-9]{1,4}|(?:GPU|MIG)-[0-9a-zA-Z/-]{1,80}")


def check_gpu(choice: int | str) -> None:
    """Check one item of a list of GPUs.

    Raises:
        ValueError: It is neither "all", nor a number, nor a UUID.
    """
    if choice != ALL_GPUS and not _NUMBER_OR_UUID.fullmatch(str(choice)):
        raise ValueError(f"expected {GPU_WORDS}")


class Offer:
    """A choice of GPUs.

    Args:
        choices: Numbers, as the driver counts, and UUIDs; or ``all``.
    """

    def __init__(self, choices: Sequence[int | str] = (ALL_GPUS,)) -> None:
        names = frozenset(str(choice) for choice in choices)
        self._all = ALL_GPUS in names
        self._names = frozenset() if self._all else names

    def includes(self, gpu: GpuMetrics) -> bool:
        """Whether a GPU is offered, by itself or, a MIG instance, with the whole that it is a part of."""
        return self._all or not self._names.isdisjoint(_names_of(gpu))

    def missing(self, gpus: Iterable[GpuMetrics]) -> list[str]:
        """Give what is offered and is none of these GPUs."""
        there = {name for gpu in gpus for name in _names_of(gpu)}
        return sorted(self._names - there)


def _names_of(gpu: GpuMetrics) -> Iterable[str]:
    """By what an owner may offer it; the driver numbers whole GPUs only."""
    number = gpu.index if gpu.parent_index is None else gpu.parent_index
    return filter(None, (str(number), gpu.uuid, gpu.parent_uuid))
