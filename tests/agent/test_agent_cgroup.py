"""The limits of a control group, of both versions: made-up trees, and a real group where one can be made."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sensors.cgroup import ControlGroup, Limits, read_limits
from agent.sensors.host import HostSensor, effective, label
from agent.sensors.inventory import read_host
from agent.sensors.mounts import read_mounts
from tests.agent.running import NO_LIBRARY
from tests.end_to_end.processes import command, environment, wait_for

MIB = 2**20


class Tree:
    """A machine's control groups, made of files.

    Args:
        root: Where to make them.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.proc = root / "proc"
        self.proc.mkdir()
        self.groups: list[str] = []
        self.mounts: list[str] = []

    def mount(self, name: str, kind: str, *, options: str = "rw", root: str = "/") -> Path:
        """Mount a hierarchy, of which ``root`` is seen."""
        point = self.root / name
        point.mkdir()
        number = len(self.mounts) + 30
        self.mounts.append(f"{number} 23 0:{number} {root} {point} rw,relatime - {kind} cgroup {options}")
        (self.proc / "mountinfo").write_text("\n".join(self.mounts) + "\n")
        return point

    def join(self, controllers: str, group: str) -> None:
        """Put this process into a group."""
        self.groups.append(f"{len(self.groups)}:{controllers}:{group}")
        (self.proc / "cgroup").write_text("\n".join(self.groups) + "\n")

    def limits(self) -> Limits:
        """What is found."""
        return read_limits(self.proc)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A machine without groups."""
    return Tree(tmp_path)


def put(directory: Path, **files: object) -> None:
    """Write files whose names have dots for double underscores."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name.replace("__", ".")).write_text(f"{content}\n")


def test_no_group_at_all(tree: Tree) -> None:
    """Other systems, and machines without control groups, have no limits."""
    assert tree.limits() == Limits(None, None)


def test_version_2(tree: Tree) -> None:
    """Quota in cores, what was used in seconds; memory less the page cache that can be had at once."""
    mount = tree.mount("unified", "cgroup2")
    tree.join("", "/box")
    put(mount / "box", cpu__max="150000 100000", memory__max=512 * MIB, memory__current=300 * MIB)
    put(
        mount / "box",
        cpu__stat="usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000",
        memory__stat=f"anon 1\ninactive_file {100 * MIB}\nactive_file 7",
        memory__swap__max=64 * MIB,
        memory__swap__current=MIB,
    )
    cpu, memory = tree.limits()
    assert cpu is not None
    assert memory is not None
    assert (cpu.cores, cpu.used_seconds()) == (1.5, 2.5)
    assert (memory.total, memory.swap_total, memory.use()) == (512 * MIB, 64 * MIB, (200 * MIB, MIB))


def test_version_2_without_limits(tree: Tree) -> None:
    """``max`` is none."""
    mount = tree.mount("unified", "cgroup2")
    tree.join("", "/box")
    put(mount / "box", cpu__max="max 100000", memory__max="max", memory__current=5)
    assert tree.limits() == Limits(None, None)


def test_version_1(tree: Tree) -> None:
    """The same of version 1, where each controller is a hierarchy and swap is counted with memory."""
    cpu_mount = tree.mount("cpu", "cgroup", options="rw,cpu,cpuacct")
    memory_mount = tree.mount("memory", "cgroup", options="rw,memory")
    tree.join("cpu,cpuacct", "/box")
    tree.join("memory", "/other/box")
    put(cpu_mount / "box", cpu__cfs_quota_us=50_000, cpu__cfs_period_us=100_000)
    put(cpu_mount / "box", cpuacct__usage=1_250_000_000)
    put(
        memory_mount / "other" / "box",
        memory__limit_in_bytes=512 * MIB,
        memory__usage_in_bytes=300 * MIB,
        memory__memsw__limit_in_bytes=600 * MIB,
        memory__stat=f"cache 9\ntotal_inactive_file {100 * MIB}\ntotal_swap {MIB}",
    )
    cpu, memory = tree.limits()
    assert cpu is not None
    assert memory is not None
    assert (cpu.cores, cpu.used_seconds()) == (0.5, 1.25)
    assert (memory.total, memory.swap_total, memory.use()) == (512 * MIB, 88 * MIB, (200 * MIB, MIB))


def test_version_1_without_limits(tree: Tree) -> None:
    """-1 is no quota, and the most that a counter holds is more than any machine has."""
    cpu_mount = tree.mount("cpu", "cgroup", options="rw,cpu")
    memory_mount = tree.mount("memory", "cgroup", options="rw,memory")
    tree.join("cpu", "/")
    tree.join("memory", "/")
    put(cpu_mount, cpu__cfs_quota_us=-1, cpu__cfs_period_us=100_000)
    put(memory_mount, memory__limit_in_bytes=9223372036854771712, memory__usage_in_bytes=5)
    limits = tree.limits()
    assert limits.cpu is None
    assert effective(limits, 24 * 2**30) == Limits(None, None)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("outer", "inner", "counts"),
    [((100, 1.0), (200, 2.0), "outer"), ((200, 2.0), (100, 1.0), "inner"), ((100, 1.0), (100, 1.0), "outer")],
)
def test_the_tightest_of_nested_groups(
    version: int, outer: tuple[int, float], inner: tuple[int, float], counts: str, tree: Tree
) -> None:
    """The tightest limit on the path holds, with what its own group uses; of equal ones the outermost."""
    if version == 2:
        mount = tree.mount("unified", "cgroup2")
        tree.join("", "/outer/inner")
    else:
        mount = tree.mount("all", "cgroup", options="rw,cpu,cpuacct,memory")
        tree.join("cpu,cpuacct,memory", "/outer/inner")
    used = {"outer": 90, "inner": 40}
    for name, directory, (memory, cores) in (
        ("outer", mount / "outer", outer),
        ("inner", mount / "outer" / "inner", inner),
    ):
        if version == 2:
            put(directory, cpu__max=f"{int(cores * 100_000)} 100000", memory__max=memory * MIB)
            put(directory, cpu__stat=f"usage_usec {used[name]}000000", memory__current=used[name] * MIB)
        else:
            put(directory, cpu__cfs_quota_us=int(cores * 100_000), cpu__cfs_period_us=100_000)
            put(directory, memory__limit_in_bytes=memory * MIB, memory__usage_in_bytes=used[name] * MIB)
            put(directory, cpuacct__usage=used[name] * 10**9)
    found = tree.limits()
    assert found.cpu is not None
    assert found.memory is not None
    assert (found.cpu.cores, found.cpu.used_seconds()) == (1.0, used[counts])
    use = found.memory.use()
    assert (found.memory.total, use and use.used) == (100 * MIB, used[counts] * MIB)


@pytest.mark.parametrize(
    ("root", "group", "place"),
    [
        ("/docker/abc", "/docker/abc", "."),
        ("/docker/abc", "/docker/abc/sub", "sub"),
        ("/", "/../../elsewhere", "."),
        ("/docker/abc", "/", "."),
    ],
)
def test_what_a_container_sees(root: str, group: str, place: str, tree: Tree) -> None:
    """Only a part of the hierarchy may be mounted: the group is looked for from there, or is that itself."""
    mount = tree.mount("unified", "cgroup2", root=root)
    tree.join("", group)
    put(mount / place, memory__max=100 * MIB)
    memory = tree.limits().memory
    assert memory is not None
    assert memory.total == 100 * MIB


def test_accounting_elsewhere(tree: Tree) -> None:
    """Where another hierarchy does the accounting, and has other groups, what was used is unknown, not 0."""
    cpu_mount = tree.mount("cpu", "cgroup", options="rw,cpu")
    accounts = tree.mount("cpuacct", "cgroup", options="rw,cpuacct")
    tree.join("cpu", "/box")
    tree.join("cpuacct", "/")
    put(cpu_mount / "box", cpu__cfs_quota_us=50_000, cpu__cfs_period_us=100_000)
    put(accounts / "box", cpuacct__usage=7)
    cpu = tree.limits().cpu
    assert cpu is not None
    assert (cpu.cores, cpu.used_seconds()) == (0.5, None)


def test_limits_are_looked_for_again(tree: Tree) -> None:
    """A limit that is set while the agent runs counts from a minute later on."""
    mount = tree.mount("unified", "cgroup2")
    tree.join("", "/")
    group = ControlGroup(tree.proc)
    assert group.limits(0.0).memory is None
    put(mount, memory__max=100 * MIB)
    assert group.limits(59.9).memory is None
    assert group.limits(60.0).memory is not None


def test_a_reading_within_limits(tree: Tree, tmp_path: Path) -> None:
    """Percentages and totals are the group's, and say so; shares of single cores it has none."""
    mount = tree.mount("unified", "cgroup2")
    tree.join("", "/")
    put(mount, cpu__max="50000 100000", cpu__stat="usage_usec 1000000", memory__max=100 * MIB)
    put(mount, memory__current=30 * MIB, memory__swap__max=0, memory__swap__current=0)
    now = [0.0]
    sensor = HostSensor(tmp_path, monotonic=lambda: now[0], group=ControlGroup(tree.proc))
    first = sensor.read()
    assert (first.cpu_percent, first.limit) == (None, "cgroup")
    put(mount, cpu__stat="usage_usec 1250000")
    now[0] = 2.0
    second = sensor.read()
    assert second.cpu_percent == 25.0
    assert (second.ram_total_mb, second.ram_used_mb, second.ram_percent) == (100, 30, 30.0)
    assert (second.swap_total_mb, second.swap_used_mb) == (0, 0)
    assert second.cpu_core_percents is None
    facts = read_host(tree.limits())
    assert (facts.cpu_cores, facts.ram_total_mb, facts.limit) == (1, 100, "cgroup")


def test_a_group_that_does_not_tell(tree: Tree, tmp_path: Path) -> None:
    """A limit without the group's use leaves percentages unknown: the machine's would be wrong."""
    mount = tree.mount("unified", "cgroup2")
    tree.join("", "/")
    put(mount, cpu__max="50000 100000", memory__max=100 * MIB)
    sensor = HostSensor(tmp_path, group=ControlGroup(tree.proc))
    sensor.read()
    seen = sensor.read()
    assert (seen.cpu_percent, seen.ram_percent, seen.ram_used_mb, seen.ram_total_mb) == (
        None,
        None,
        None,
        100,
    )


def test_limits_beyond_the_machine(tree: Tree) -> None:
    """A limit that is no tighter than the machine itself is none."""
    mount = tree.mount("unified", "cgroup2")
    tree.join("", "/")
    put(mount, cpu__max="102400000 100000", memory__max=2**50)
    found = effective(tree.limits(), 2**35)
    assert (found, label(found)) == (Limits(None, None), None)


@given(st.text(), st.text(), st.text())
def test_whatever_the_files_hold(
    tmp_path_factory: pytest.TempPathFactory, group: str, mounts: str, content: str
) -> None:
    """Files of an unknown form give no limits, and never an error."""
    root = tmp_path_factory.getbasetemp() / "arbitrary"
    root.mkdir(exist_ok=True)
    encoded = (text.encode(errors="surrogatepass") for text in (group, mounts, content))
    for name, data in zip(("cgroup", "mountinfo", "cpu.max"), encoded, strict=True):
        (root / name).write_bytes(data)
    assert read_limits(root) == Limits(None, None)
    (root / "cgroup").write_text("0::/\n")
    (root / "mountinfo").write_text(f"30 1 0:30 / {root} rw - cgroup2 cgroup rw\n")
    quota = read_limits(root).cpu
    assert quota is None or quota.cores >= 0
    read_mounts(root / "mountinfo")


@contextmanager
def real_group(**settings: object) -> Iterator[list[Path]]:
    """Make a group of version 1 within the one that the tests run in; gives what a process joins it by."""
    mounts = [mount for mount in read_mounts() if mount.kind == "cgroup"]
    made: list[Path] = []
    try:
        for controller in ("cpu", "cpuacct", "memory"):
            point = next((mount.point for mount in mounts if controller in mount.options), None)
            if point is None or not os.access(point, os.W_OK):
                pytest.skip(f"no group of {controller} can be made here")
            directory = point / f"qubix-test-{os.getpid()}"
            if directory not in made:
                directory.mkdir()
                made.append(directory)
            for name, value in settings.items():
                if name.startswith(f"{controller}__"):
                    (directory / name.replace("__", ".")).write_text(str(value))
        yield [directory / "cgroup.procs" for directory in made]
    finally:
        for directory in made:
            procs = directory / "cgroup.procs"
            wait_for(lambda procs=procs: not procs.read_text(), "an empty group")  # type: ignore[misc]
            directory.rmdir()


JOIN = 'until [ "$1" = -- ]; do echo $$ > "$1"; shift; done; shift; exec "$@"'


def test_in_a_real_group(tmp_path: Path) -> None:
    """An agent in a group that may use 0.8 cores and 256 MiB tells of these, under a load within it."""

    def start(joins: list[Path], *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            ["/bin/sh", "-c", JOIN, "sh", *map(str, joins), "--", *arguments],
            env=environment(tmp_path, **NO_LIBRARY),
            stdout=subprocess.PIPE,
            text=True,
        )

    limits = {"cpu__cfs_period_us": 100_000, "cpu__cfs_quota_us": 80_000}
    with real_group(**limits, memory__limit_in_bytes=256 * MIB) as joins:
        hog = "load = b'x' * (64 << 20); print(flush=True)\nwhile True: pass"
        load = start(joins, sys.executable, "-c", hog)
        try:
            assert load.stdout is not None
            assert load.stdout.readline()
            usage = next(join.parent / "cpuacct.usage" for join in joins if "cpuacct" in str(join))
            began, used = time.monotonic(), int(usage.read_text())
            agent = start(joins, command("qubix-agent"), "sample", "--json")
            told = json.loads(agent.communicate(timeout=30)[0])
            allowed = 0.8 * (time.monotonic() - began)
            memory = int((joins[-1].parent / "memory.usage_in_bytes").read_text())
            # The load gets less than its group may have where the machine has much else to do.
            share = 100 * (int(usage.read_text()) - used) / 1e9 / allowed
        finally:
            load.kill()
            load.communicate()
    assert told["limit"] == "cgroup"
    assert told["cpuPercent"] == pytest.approx(share, abs=25)
    assert told["cpuCorePercents"] is None
    assert told["ramTotalMb"] == 256
    assert 64 <= told["ramUsedMb"] <= memory / MIB + 64
    assert told["ramPercent"] == pytest.approx(100 * told["ramUsedMb"] / 256, abs=0.5)
