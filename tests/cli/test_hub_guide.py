"""docs/operating.md says of a hub's settings what the program does."""

import re
from pathlib import Path

from qubix_tui.cli.hub_settings import ENVIRONMENT, FLAGS, HUB
from qubix_tui.settings.schema import Setting
from qubix_tui.settings.toml import parse, toml_value

TEXT = (Path(__file__).parents[2] / "docs" / "operating.md").read_text(encoding="utf-8")


def row(setting: Setting) -> str:
    """How the guide lists a setting."""
    default = "—" if setting.default is None else f"`{toml_value(setting.default)}`"
    return f"| `{setting.key}` | {default} | {setting.description or '—'} |"


def test_every_setting_is_listed_as_it_is() -> None:
    """Each key with its default and what it is for, in the order of the file, and no others."""
    assert re.findall(r"^\| `[a-z]+\.[a-z_]+` \|.*$", TEXT, flags=re.MULTILINE) == list(
        map(row, HUB.settings.values())
    )


def test_every_variable_and_flag_is_named() -> None:
    """Those that give a setting, and no variable beside them."""
    assert set(re.findall(r"QUBIX_HUB_[A-Z_]+", TEXT)) == set(ENVIRONMENT)
    for name in FLAGS:
        assert f"--{name.replace('_', '-')}" in TEXT, name


def test_every_example_of_the_file_is_good() -> None:
    """Each TOML block of the guide is taken as it stands."""
    examples = re.findall(r"```toml\n(.*?)```", TEXT, flags=re.DOTALL)
    assert examples
    for example in examples:
        assert parse(HUB, example, "the guide")
