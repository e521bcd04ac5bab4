"""The guides say of the settings what the programs do."""

import re
from pathlib import Path
from typing import Any

import pytest

from agent.settings import AGENT, TOKEN_VARIABLE
from qubix_tui.cli.hub_settings import HUB
from qubix_tui.settings.schema import Schema, Setting
from qubix_tui.settings.toml import parse, toml_value

DOCS = Path(__file__).parents[2] / "docs"

Guide = tuple[str, Schema[Any], str]


@pytest.fixture(params=[("operating.md", HUB, "QUBIX_HUB_"), ("providers.md", AGENT, "QUBIX_AGENT_")])
def guide(request: pytest.FixtureRequest) -> Guide:
    """A guide's text, the settings it lists, and how their variables begin."""
    name, schema, prefix = request.param
    return (DOCS / name).read_text(encoding="utf-8"), schema, prefix


def row(setting: Setting) -> str:
    """How a guide lists a setting."""
    default = "—" if setting.default is None else f"`{toml_value(setting.default)}`"
    return f"| `{setting.key}` | {default} | {setting.description or '—'} |"


def test_every_setting_is_listed_as_it_is(guide: Guide) -> None:
    """Each key with its default and what it is for, in the order of the file, and no others."""
    text, schema, _ = guide
    assert re.findall(r"^\| `[a-z]+\.[a-z_]+` \|.*$", text, flags=re.MULTILINE) == list(
        map(row, schema.settings.values())
    )


def test_every_variable_and_flag_is_named(guide: Guide) -> None:
    """Those that give a setting, and no variable beside them."""
    text, schema, prefix = guide
    assert set(re.findall(rf"{prefix}[A-Z_]+", text)) == {
        name for name in schema.environment if name.startswith(prefix)
    }
    for name in schema.environment:
        assert f"`{name}`" in text, name
    for name in schema.flags:
        assert f"--{name.replace('_', '-')}" in text, name


def test_every_example_of_the_file_is_good(guide: Guide) -> None:
    """Each TOML block of the guide is taken as it stands."""
    text, schema, _ = guide
    examples = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    assert examples
    for example in examples:
        assert parse(schema, example, "the guide")


def test_the_tokens_variable_is_named() -> None:
    """Though it is no setting."""
    assert f"`{TOKEN_VARIABLE}`" in (DOCS / "providers.md").read_text(encoding="utf-8")
