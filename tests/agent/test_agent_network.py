"""Rates of the network: over the measured interval, from counters that wrap and are reset, nothing twice."""

from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sensors.network import NetworkMeter, outward_interfaces, read_counters


def test_rates_are_over_the_measured_interval() -> None:
    """Bytes per second come from the time between two readings; the first has none."""
    meter = NetworkMeter()
    assert meter.rates({"eth0": (1000, 500)}, 10.0) == (None, None)
    assert meter.rates({"eth0": (4000, 1000)}, 12.5) == (1200.0, 200.0)


def test_no_time_passed() -> None:
    """Two readings at one moment give no rate."""
    meter = NetworkMeter()
    meter.rates({"eth0": (1000, 500)}, 10.0)
    assert meter.rates({"eth0": (4000, 1000)}, 10.0) == (None, None)


def test_a_counter_that_was_reset() -> None:
    """A reset gives no rate for that reading, and the next one is right again."""
    meter = NetworkMeter()
    meter.rates({"eth0": (10_000, 10_000)}, 0.0)
    assert meter.rates({"eth0": (50, 11_000)}, 1.0) == (None, 1000.0)
    assert meter.rates({"eth0": (150, 12_000)}, 2.0) == (100.0, 1000.0)


def test_an_interface_that_comes() -> None:
    """What a new interface counted before it was first seen is no traffic of this interval."""
    meter = NetworkMeter()
    meter.rates({"eth0": (0, 0)}, 0.0)
    assert meter.rates({"eth0": (10, 10), "eth1": (10**9, 10**9)}, 1.0) == (10.0, 10.0)


class Interface(NamedTuple):
    """An interface in a made-up /sys/class/net."""

    name: str
    hardware: bool
    master: str | None = None


@pytest.mark.parametrize(
    ("interfaces", "counted"),
    [
        ([Interface("lo", False), Interface("eth0", True), Interface("docker0", False)], {"eth0"}),
        ([Interface("lo", False), Interface("eth0", False)], {"eth0"}),
        ([Interface("eth0", True), Interface("enP1", True, "eth0")], {"eth0"}),
        (
            [Interface("bond0", False), Interface("a", True, "bond0"), Interface("b", True, "bond0")],
            {"a", "b"},
        ),
        ([Interface("lo", False)], set()),
    ],
)
def test_nothing_is_counted_twice(interfaces: list[Interface], counted: set[str], tmp_path: Path) -> None:
    """Interfaces with hardware are counted, bonds by their members; in a container all but the loopback."""
    for interface in interfaces:
        (tmp_path / interface.name).mkdir()
        if interface.hardware:
            (tmp_path / interface.name / "device").mkdir()
    for interface in interfaces:
        if interface.master is not None:
            (tmp_path / interface.name / "master").symlink_to(tmp_path / interface.master)
    assert outward_interfaces(frozenset(i.name for i in interfaces), tmp_path) == counted


def test_virtual_interfaces_by_name(tmp_path: Path) -> None:
    """Where the system does not tell, names do."""
    names = frozenset({"lo0", "en0", "utun3", "bridge0", "awdl0"})
    assert outward_interfaces(names, tmp_path / "absent") == {"en0"}


NET_DEV = """\
Inter-|   Receive                                            |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs …
    lo:  1000 10 0 0 0 0 0 0 2000 10 0 0 0 0 0 0
eth0:1:98765432109 1 0 0 0 0 0 0 12345678901 10 0 0 0 0 0 0
"""


def test_the_kernels_table(tmp_path: Path) -> None:
    """Bytes in and out of each interface, also of one whose name has a colon."""
    path = tmp_path / "dev"
    path.write_text(NET_DEV)
    assert read_counters(path) == {"lo": (1000, 2000), "eth0:1": (98765432109, 12345678901)}


def test_the_machines_interfaces() -> None:
    """They are those that others see, whether the kernel has that table or not."""
    names = set(psutil.net_io_counters(pernic=True, nowrap=False))
    assert set(read_counters()) == names
    assert set(read_counters(Path("/nonexistent"))) == names


@given(st.binary())
def test_whatever_the_table_holds(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """A table of an unknown form is no error."""
    path = tmp_path_factory.getbasetemp() / "dev"
    path.write_bytes(content)
    assert isinstance(read_counters(path), dict)
