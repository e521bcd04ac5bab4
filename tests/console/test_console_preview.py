"""The selected provider in short."""

from qubix_tui.console.widgets.preview import gpus_of
from qubix_tui.protocol.records import GpuInfo
from tests.console.records import provider


def test_gpus_of_several_kinds_are_listed_by_kind() -> None:
    """A machine with different GPUs shows each kind with its number; one kind shows once."""
    mixed = [GpuInfo(name="NVIDIA A100 80GB"), GpuInfo(name="NVIDIA L40S"), GpuInfo(name="NVIDIA A100 80GB")]
    assert gpus_of(provider(gpus=mixed, gpu_count=3)) == ["2× A100 80GB", "1× L40S"]
    assert gpus_of(provider(gpus=mixed[1:2], gpu_count=1, gpu_model="NVIDIA L40S")) == ["1× L40S"]
    assert gpus_of(provider(gpu_count=0, gpu_model=None)) == ["no GPU"]
