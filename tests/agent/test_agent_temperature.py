"""The one file that tells the temperature of the CPU."""

from pathlib import Path

import pytest

from agent.sensors.cpu_temperature import CpuTemperature


def chip(root: Path, number: int, name: str, **sensors: str) -> Path:
    """Make a chip as the kernel lists it: ``temp1="45000 Label"``."""
    directory = root / f"hwmon{number}"
    directory.mkdir(parents=True)
    (directory / "name").write_text(f"{name}\n")
    for sensor, told in sensors.items():
        value, _, label = told.partition(" ")
        (directory / f"{sensor}_input").write_text(f"{value}\n")
        if label:
            (directory / f"{sensor}_label").write_text(f"{label}\n")
    return directory


@pytest.mark.parametrize(
    ("name", "sensors", "expected"),
    [
        ("coretemp", {"temp1": "51000 Package id 0", "temp2": "66000 Core 0"}, 51.0),
        ("k10temp", {"temp1": "72500 Tctl", "temp2": "45500 Tdie", "temp3": "40000 Tccd1"}, 45.5),
        ("k10temp", {"temp1": "48125 Tctl", "temp3": "40000 Tccd1"}, 48.1),
        ("zenpower", {"temp1": "61000 Tdie", "temp2": "71000 Tctl"}, 61.0),
        ("cpu_thermal", {"temp1": "39166"}, 39.2),
    ],
)
def test_the_package_is_chosen(name: str, sensors: dict[str, str], expected: float, tmp_path: Path) -> None:
    """Each maker's sensor for the package as a whole is read: no single core, no offset."""
    chip(tmp_path, 0, "nvme", temp1="82000 Composite")
    chip(tmp_path, 1, name, **sensors)
    assert CpuTemperature(tmp_path).read(0.0) == expected


def test_the_hottest_of_two_packages(tmp_path: Path) -> None:
    """A machine with two sockets tells the hotter one."""
    chip(tmp_path, 0, "coretemp", temp1="41000 Package id 0")
    chip(tmp_path, 1, "coretemp", temp1="47000 Package id 1")
    assert CpuTemperature(tmp_path).read(0.0) == 47.0


def test_no_sensor_is_unknown(tmp_path: Path) -> None:
    """Disks and boards are no CPU: without its sensor, and without any, the temperature is None."""
    chip(tmp_path, 0, "nvme", temp1="40000")
    assert CpuTemperature(tmp_path).read(0.0) is None
    assert CpuTemperature(tmp_path / "missing").read(0.0) is None


def test_a_sensor_that_goes_and_comes_back(tmp_path: Path) -> None:
    """A file that can't be read is None; where it is now is looked for again after a minute."""
    old = chip(tmp_path, 0, "k10temp", temp1="50000 Tctl")
    sensor = CpuTemperature(tmp_path)
    assert sensor.read(0.0) == 50.0
    (old / "temp1_input").unlink()
    assert sensor.read(1.0) is None
    chip(tmp_path, 3, "k10temp", temp1="55000 Tctl")
    assert sensor.read(2.0) is None
    assert sensor.read(62.0) == 55.0


def test_nonsense_is_unknown(tmp_path: Path) -> None:
    """A sensor that answers no number is None."""
    chip(tmp_path, 0, "coretemp", temp1="hot Package id 0")
    assert CpuTemperature(tmp_path).read(0.0) is None
