"""The benchmark's GPU part around the driver: what it makes of a GPU that fails, lies, or is not there.

The driver here is a stand-in; what the figures of real GPUs are worth is in ``docs/workloads.md``.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agent.jobs.benchmark import kernels
from tests.agent.jobs.test_benchmark import run_benchmark

GPU = "GPU-5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the built stand-in."""
    compiler = shutil.which("cc")
    if compiler is None and "CI" not in os.environ:
        pytest.skip("there is no C compiler")
    directory = tmp_path_factory.mktemp("cuda")
    source = Path(__file__).with_name("fake_cuda.c")
    options = ["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(directory / "libcuda.so.1")]
    subprocess.run([compiler or "cc", *options, str(source), "-lm"], check=True, timeout=50)
    return directory


def run(driver: Path, directory: Path, mode: str = "") -> tuple[int, dict[str, Any]]:
    """Run the benchmark with the stand-in as it is told to be; gives the exit code and the result."""
    done = run_benchmark(
        directory, "--seconds", "0.4", "--disk-mb", "4", LD_LIBRARY_PATH=str(driver), FAKE_CUDA=mode
    )
    return done.returncode, json.loads(done.stdout)


def gpu_figures(result: dict[str, Any]) -> dict[str, float | None]:
    """The figures of the one GPU, by name."""
    return {one["name"]: one["value"] for one in result["figures"] if one["gpu"] == GPU}


def test_a_gpu_that_computes_right_has_its_figures(driver: Path, tmp_path: Path) -> None:
    """Both figures are there, with the GPU's identity and the driver's version of CUDA."""
    code, result = run(driver, tmp_path)
    assert code == 0, result
    assert result["gpus"] == [{"uuid": GPU, "name": "Stand-in"}]
    assert result["versions"]["cuda"] == "12.4"
    figures = gpu_figures(result)
    assert set(figures) == {"gpu_memory_copy", "gpu_fp32"}
    assert all(value for value in figures.values())
    assert result["notes"] == []


@pytest.mark.parametrize(
    ("mode", "lost", "note"),
    [
        ("bad memory", "gpu_memory_copy", "the GPU's memory gave back other bytes than were copied"),
        ("bad sums", "gpu_fp32", "computes other FP32 sums than the CPU"),
    ],
)
def test_a_gpu_that_computes_wrong_is_told(
    driver: Path, tmp_path: Path, mode: str, lost: str, note: str
) -> None:
    """One wrong byte, one wrong sum: no figure, a note, and the job fails; the other figure is there."""
    code, result = run(driver, tmp_path, mode)
    assert code == 1
    assert {name for name, value in gpu_figures(result).items() if value is None} == {lost}
    (said,) = result["notes"]
    assert note in said


@pytest.mark.parametrize(
    ("mode", "lost", "note"),
    [
        (
            "cuMemAlloc_v2=2",
            {"gpu_memory_copy", "gpu_fp32"},
            "cuMemAlloc_v2 failed: CUDA_ERROR_OUT_OF_MEMORY",
        ),
        ("cuModuleLoadDataEx=218", {"gpu_memory_copy", "gpu_fp32"}, "218: ptxas error: no such thing"),
        (
            "cuDevicePrimaryCtxRetain=46",
            {"gpu_memory_copy", "gpu_fp32"},
            "cuDevicePrimaryCtxRetain failed: 46",
        ),
        ("full", {"gpu_memory_copy"}, "other programs hold it"),
    ],
)
def test_a_gpu_that_fails_costs_its_own_figures_alone(
    driver: Path, tmp_path: Path, mode: str, lost: set[str], note: str
) -> None:
    """What the driver refuses is unknown, with the driver's own words; the machine's figures are there."""
    code, result = run(driver, tmp_path, mode)
    assert code == 0
    assert {name for name, value in gpu_figures(result).items() if value is None} == lost
    assert note in " ".join(result["notes"])
    assert next(one["value"] for one in result["figures"] if one["name"] == "sha256")


@pytest.mark.parametrize(
    ("mode", "note"), [("none", "no GPU was given to this job"), ("cuInit=999", "cuInit failed: 999")]
)
def test_without_a_gpu_there_are_no_figures_of_one(
    driver: Path, tmp_path: Path, mode: str, note: str
) -> None:
    """No GPU, or a driver that does not start: a note, and nothing that looks like a figure."""
    code, result = run(driver, tmp_path, mode)
    assert (code, gpu_figures(result), result["gpus"], result["versions"]["cuda"]) == (0, {}, [], None)
    assert note in " ".join(result["notes"])


def test_the_kernels_are_for_every_gpu_since_2014() -> None:
    """The module is for compute capability 5.0, and has the three kernels."""
    source = kernels.source()
    assert source.startswith(".version 5.0\n.target sm_50\n")
    entries = [line.split()[2].partition("(")[0] for line in source.splitlines() if ".entry" in line]
    assert entries == ["fill", "copy", "multiply_add"]
    assert source.count("fma.rn.f32") == kernels.CHAINS * kernels.UNROLLED
