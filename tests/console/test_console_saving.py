"""Files that are saved from a screen."""

import csv
import io
import json
from pathlib import Path

import pytest

from qubix_tui.console.saving import Table, save_text, to_csv, to_json

TABLE = Table(
    "fleet",
    ["name", "temp_c", "simulated"],
    [["rig, 41", 87.5, False], ["=1+1", None, True], ['"é"\n-', 0.0, False]],
)


def test_csv_is_read_as_it_was() -> None:
    """Commas, quotes and line ends survive; unknown is empty, not 0; a formula is text."""
    read = list(csv.reader(io.StringIO(to_csv(TABLE))))
    assert read == [
        ["name", "temp_c", "simulated"],
        ["rig, 41", "87.5", "False"],
        ["'=1+1", "", "True"],
        ['"é"\n-', "0.0", "False"],
    ]


def test_json_is_read_as_it_was() -> None:
    """An object a row; unknown is null."""
    assert json.loads(to_json(TABLE)) == [
        {"name": "rig, 41", "temp_c": 87.5, "simulated": False},
        {"name": "=1+1", "temp_c": None, "simulated": True},
        {"name": '"é"\n-', "temp_c": 0.0, "simulated": False},
    ]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """Saved twice in a second there are two files, each whole."""
    paths = [save_text("fleet", ".csv", text, [tmp_path]) for text in ("one", "two", "three")]
    assert [path.read_text(encoding="utf-8") for path in paths] == ["one", "two", "three"]


def test_the_next_place_is_taken_where_the_first_does_not_allow_it(tmp_path: Path) -> None:
    """A directory that is none does not lose the file; where no place allows it, the last reason is given."""
    missing = tmp_path / "missing"
    assert save_text("fleet", ".csv", "x", [missing, tmp_path]).parent == tmp_path
    with pytest.raises(FileNotFoundError):
        save_text("fleet", ".csv", "x", [missing])
