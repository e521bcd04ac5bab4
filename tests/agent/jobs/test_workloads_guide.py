"""docs/workloads.md says of workloads what the program does."""

import json
import re
from pathlib import Path

import pytest

from agent.jobs import workload_file
from agent.jobs.benchmark.figures import Figure
from agent.jobs.workload_schema import SCHEMA
from qubix_tui.settings.document import Document
from qubix_tui.settings.schema import Setting
from qubix_tui.settings.toml import toml_value
from tests.agent.jobs.test_benchmark import run_benchmark

TEXT = (Path(__file__).parents[3] / "docs" / "workloads.md").read_text(encoding="utf-8")


def row(setting: Setting) -> str:
    """How the guide lists a key."""
    default = "—" if setting.default in (None, ()) else f"`{toml_value(setting.default)}`"
    return f"| `{setting.key}` | {default} | {setting.description} |"


def test_every_key_is_listed_as_it_is() -> None:
    """Each with its default and what it is for, in the order of the program, and no others."""
    found = re.findall(r"^\| `(?:workload|limits|parameter)\.\w+` \|.*$", TEXT, flags=re.MULTILINE)
    assert found == [row(setting) for setting in SCHEMA.settings.values()]


@pytest.mark.parametrize("example", re.findall(r"```toml\n(.*?)```", TEXT, flags=re.DOTALL))
def test_every_example_of_the_file_is_good(example: str) -> None:
    """Each TOML block of the guide is taken as it stands."""
    assert workload_file.parse(Document(example, "the guide")).workloads


def test_every_figure_is_explained(tmp_path: Path) -> None:
    """Whatever the benchmark gives is in the guide, with its unit; so are the members around it."""
    result = json.loads(run_benchmark(tmp_path, "--seconds", "0.3", "--disk-mb", "4").stdout)
    listed = dict(re.findall(r"^\| `(\w+)` \| (\S+/s) \|", TEXT, flags=re.MULTILINE))
    assert {one["name"]: one["unit"] for one in result["figures"]}.items() <= listed.items()
    assert {"gpu_memory_copy", "gpu_fp32"} <= listed.keys()
    for member in (*result, *result["versions"], *Figure("", None, "", "").as_json()):
        assert f'"{member}": ' in TEXT, member
