"""What /metrics tells of a GPU's health and link, and of MIG instances."""

import msgspec

from qubix_tui.protocol.records import GpuMetrics, Metrics
from tests.hub.scrapes import GPU, Fleet, Samples

WHOLE = msgspec.structs.replace(
    GPU,
    ecc_corrected=5,
    row_remaps_correctable=3,
    row_remaps_uncorrectable=1,
    row_remap_pending=True,
    row_remap_failure=False,
    pcie_link_gen=4,
    pcie_link_width=8,
)
PART = GpuMetrics(index=2, uuid="MIG-1", mem_used_mb=1, parent_index=1, parent_uuid="GPU-1")


def labels_of(samples: Samples, name: str) -> list[dict[str, str]]:
    """The labels of a family's samples."""
    return [dict(labels) for sample, labels in samples if sample == name]


def test_health_and_link() -> None:
    """Remapped rows, corrected errors and the PCIe link are there under both names; a yes is 1, a no is 0."""
    fleet = Fleet()
    fleet.add("a", Metrics(gpus=[WHOLE]))
    ours = fleet.named("qubix_gpu_")
    assert ours["qubix_gpu_ecc_corrected_errors_total"] == 5
    assert ours["qubix_gpu_row_remap_pending"] == 1
    assert ours["qubix_gpu_row_remap_failure"] == 0
    assert (ours["qubix_gpu_pcie_link_generation"], ours["qubix_gpu_pcie_link_width_lanes"]) == (4, 8)
    theirs = fleet.named("DCGM_FI_DEV_")
    assert theirs["DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS"] == 3
    assert theirs["DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS"] == 1
    assert theirs["DCGM_FI_DEV_ROW_REMAP_FAILURE"] == 0


def test_what_is_not_known_of_them_is_left_out() -> None:
    """A GPU that tells nothing of its rows has no sample of them."""
    fleet = Fleet()
    fleet.add("a", Metrics(gpus=[GPU]))
    assert not [name for name in fleet.named("") if "row_remap" in name.lower()]


def test_a_mig_instance_names_its_gpu() -> None:
    """A sum over whole GPUs can leave instances out; DCGM's view has them under the number of their GPU."""
    fleet = Fleet()
    fleet.add("a", Metrics(gpus=[WHOLE, PART]))
    samples = fleet.scrape()
    whole, part = labels_of(samples, "qubix_gpu_memory_used_bytes")
    assert "parent" not in whole
    assert (part["gpu"], part["uuid"], part["parent"]) == ("2", "MIG-1", "GPU-1")
    whole, part = labels_of(samples, "DCGM_FI_DEV_FB_USED")
    assert (part["gpu"], part["UUID"], part["device"]) == (whole["gpu"], "MIG-1", whole["device"])
