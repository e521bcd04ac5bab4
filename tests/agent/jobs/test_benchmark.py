"""The built-in workload measures the machine it runs on."""

import hashlib
import json
import os
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from agent.jobs.benchmark import gpu, kernels
from agent.jobs.benchmark.disk import kind_of
from agent.jobs.benchmark.figures import Figure
from agent.jobs.benchmark.processor import cache_bytes, cores, throughput
from agent.jobs.benchmark.progress import Progress, Stage

ROOT = Path(__file__).parents[3]
MIB = 1024 * 1024


def run_benchmark(directory: Path, *options: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end, as a job is run: in a directory of its own and with a clean environment."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "agent.jobs.benchmark", *options],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **extra},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def figures_of(result: dict[str, Any]) -> dict[str, float | None]:
    """The machine's own figures, by name."""
    return {one["name"]: one["value"] for one in result["figures"] if one["gpu"] is None}


def sha256_rate_of_one_core() -> float:
    """GB/s, measured here."""
    block = bytes(4 * MIB)
    begun = time.perf_counter()
    for _ in range(20):
        hashlib.sha256(block).digest()
    return 20 * len(block) / (time.perf_counter() - begun) / 1e9


def copy_rate_of_one_core() -> float:
    """GB/s, bytes read plus bytes written, measured here."""
    source, target = bytearray(64 * MIB), memoryview(bytearray(64 * MIB))
    target[:] = source
    begun = time.perf_counter()
    for _ in range(5):
        target[:] = source
    return 5 * 2 * len(source) / (time.perf_counter() - begun) / 1e9


def test_the_figures_are_this_machine_s(tmp_path: Path) -> None:
    """Every figure is there, and none is far from what the same machine does when measured another way."""
    progress, result_file = tmp_path / "progress", tmp_path / "result"
    done = run_benchmark(
        tmp_path,
        "--seconds",
        "3",
        "--disk-mb",
        "32",
        QUBIX_PROGRESS=str(progress),
        QUBIX_RESULT=str(result_file),
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(result_file.read_text())
    figures = figures_of(result)
    assert set(figures) == {"sha256", "memory_copy", "disk_write", "disk_read"}
    assert {one["unit"] for one in result["figures"] if one["gpu"] is None} == {"GB/s"}
    hashed, copied = figures["sha256"], figures["memory_copy"]
    assert hashed is not None
    assert copied is not None
    # The machine may be busy with other tests while either is measured: an order of magnitude is asked for.
    assert sha256_rate_of_one_core() / 10 < hashed < sha256_rate_of_one_core() * cores() * 10
    assert copy_rate_of_one_core() / 10 < copied < copy_rate_of_one_core() * cores() * 10
    for name in ("disk_write", "disk_read"):
        figure = figures[name]
        assert figure is None or 0 < figure < copied * 10
    assert result["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert result["versions"]["kernel"] == f"Linux {os.uname().release}"
    assert all(f"{name}: " in done.stdout for name in figures), "the log has a line for each figure"
    assert len(result_file.read_bytes()) < 32 * 1024
    assert sorted(path.name for path in tmp_path.iterdir()) == ["progress", "result"], "nothing is left over"


def test_progress_grows_to_the_end(tmp_path: Path) -> None:
    """Each line of progress is one JSON object, none is behind the one before, and the last says 100."""
    progress = tmp_path / "progress"
    done = run_benchmark(tmp_path, "--seconds", "1", "--disk-mb", "8", QUBIX_PROGRESS=str(progress))
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in progress.read_text().splitlines()]
    values = [line["progress"] for line in lines]
    assert values == sorted(values)
    assert values[0] < 50
    assert values[-1] == 100
    assert {"SHA-256", "memory", "disk: writing", "disk: reading", "done"} <= {
        line["message"] for line in lines
    }
    assert json.loads(done.stdout)["figures"], "by hand, the result goes to stdout"


def test_a_directory_in_memory_is_no_disk(tmp_path: Path) -> None:
    """Where the working directory is a tmpfs, a note says that the disk's figures are of no disk."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or kind_of(shared) != "tmpfs":
        pytest.skip("this machine has no tmpfs at /dev/shm")
    directory = shared / f"qubix-test-{os.getpid()}"
    directory.mkdir()
    try:
        done = run_benchmark(directory, "--seconds", "0.4", "--disk-mb", "4")
    finally:
        directory.rmdir()
    assert any("no disk" in note for note in json.loads(done.stdout)["notes"])


def test_a_disk_without_room_is_said(tmp_path: Path) -> None:
    """A disk that is too full for the test has no figure, and a note says why; the rest is measured."""
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize // MIB
    if free + 1024 > 65_536:
        directory, size = Path("/dev/shm"), 65_536
        if os.statvfs(directory).f_bavail * os.statvfs(directory).f_frsize // MIB >= size:
            pytest.skip("no disk here is small enough")
    else:
        directory, size = tmp_path, free + 1024
    done = run_benchmark(directory, "--seconds", "0.4", "--disk-mb", str(size))
    result = json.loads(done.stdout)
    assert figures_of(result)["disk_write"] is None
    assert figures_of(result)["sha256"] is not None
    assert any("to spare" in note for note in result["notes"])


@pytest.mark.parametrize(
    "options", [["--seconds", "0"], ["--seconds", "301"], ["--disk-mb", "0"], ["--seconds", "nan"]]
)
def test_what_it_can_t_do_is_refused(tmp_path: Path, options: list[str]) -> None:
    """A time or a size beyond measure is refused before anything is measured."""
    done = run_benchmark(tmp_path, *options)
    assert done.returncode == 2
    assert "--seconds up to 300" in done.stderr


def test_the_gpu_s_sums_are_those_of_exact_arithmetic() -> None:
    """What a GPU's sums are compared with is what fused multiply-add gives, rounded once a step."""
    steps = 200
    found = memoryview(gpu.sums(steps)).cast("f")
    factor, term = Fraction(kernels.FACTOR), Fraction(kernels.TERM)
    for chain, begin in enumerate(range(1, 2 * kernels.CHAINS + 1)):
        value = Fraction(begin)
        for _ in range(steps):
            value = _rounded_to_float32(value * factor + term)
        assert Fraction(found[chain]) == value


def _rounded_to_float32(value: Fraction) -> Fraction:
    """To 24 bits, halves to even; for values from 1 to 128."""
    scale = Fraction(2) ** (23 - (value.numerator // value.denominator).bit_length() + 1)
    return Fraction(round(value * scale)) / scale


def test_a_worker_s_failure_is_everybody_s() -> None:
    """An error in one thread ends the measurement with that error, and leaves no thread behind."""
    turn = iter(range(100))

    def prepare() -> Any:
        if next(turn) == 1:
            raise MemoryError("no room")
        return lambda: 1

    stage = Stage(30, lambda _: None, time.monotonic)
    with pytest.raises(MemoryError, match="no room"):
        throughput(stage, 4, prepare)


def test_throughput_counts_all_threads() -> None:
    """Every byte that any thread counted is in the rate, over the time that the slowest took."""
    clock = time.perf_counter
    begun = clock()
    counted = [0]

    def step() -> int:
        counted[0] += 1
        return 1000

    rate = throughput(Stage(0.2, lambda _: None, time.monotonic), 1, lambda: step)
    assert rate >= counted[0] * 1000 / (clock() - begun)


def test_stages_add_up(tmp_path: Path) -> None:
    """The percentage is the part of the planned time that is over, whatever became of a stage."""
    now = 0.0
    progress = Progress(str(tmp_path / "progress"), 10, clock=lambda: now)
    with progress.stage("one", 5) as stage:
        now = 2.5
        stage.tick()
        now = 2.6
        stage.tick()
    with pytest.raises(ValueError, match="broken"), progress.stage("two", 5):
        raise ValueError("broken")
    progress.finish()
    lines = [json.loads(line) for line in (tmp_path / "progress").read_text().splitlines()]
    assert [line["progress"] for line in lines] == [25.0, 100.0]


def test_a_figure_keeps_what_is_unknown() -> None:
    """What could not be measured is null, not 0; what was has four significant digits."""
    assert Figure("x", None, "GB/s", "not measured").as_json()["value"] is None
    assert Figure("x", 1234.5678, "GB/s", "bytes").as_json()["value"] == 1235
    assert "—" in str(Figure("x", None, "GB/s", "not measured"))


def test_caches_are_told_in_bytes() -> None:
    """The last-level caches of this machine are between nothing told and a few GiB."""
    assert 0 <= cache_bytes() < 8 * 1024 * MIB
