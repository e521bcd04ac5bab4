"""Every key of a TOML file has the line on which it was set."""

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qubix_tui.settings.document import Document, KeyPath, lines_of_keys
from qubix_tui.settings.schema import SettingsError

TEXT = """\
# nothing yet
a = 1
b.c = [
  1,  # [not.a.table]
  2,
]

[table]
x = '''
[not.either]
y = 2
'''
z = { inner = { deep = true } }
[table."odd.name"]
k = "v"
[[list]]
n = 1
"""


def test_each_key_has_the_line_on_which_its_statement_begins() -> None:
    """Tables, dotted keys, inline tables and values over several lines: each key has one line, the first."""
    assert lines_of_keys(TEXT) == {
        ("a",): 2,
        ("b",): 3,
        ("b", "c"): 3,
        ("table",): 8,
        ("table", "x"): 9,
        ("table", "z"): 13,
        ("table", "z", "inner"): 13,
        ("table", "z", "inner", "deep"): 13,
        ("table", "odd.name"): 14,
        ("table", "odd.name", "k"): 15,
        ("list",): 16,
        ("list", "n"): 17,
    }


def test_what_is_not_there_has_the_line_of_its_table() -> None:
    """A key that is missing is looked for where its table begins; without one, in the file as a whole."""
    document = Document(TEXT, "f.toml")
    assert document.origin(("table", "odd.name", "missing")) == "f.toml line 14"
    assert document.origin(("missing",)) == "f.toml"


def test_what_is_no_toml_has_a_line_too() -> None:
    """The sentence names the line that can't be read."""
    with pytest.raises(SettingsError, match=r"^f\.toml line 2: no TOML: "):
        Document("a = 1\nb = = 2\n", "f.toml")


KEYS = st.text(alphabet='ab."[]#= \n', min_size=1, max_size=4)
SCALARS = st.one_of(st.integers(-5, 5), st.booleans(), st.text(alphabet='x"[]#=\n', max_size=4))
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=2))
TABLES = st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=3), max_size=3)


@given(TABLES)
def test_every_key_of_any_document_is_found_where_it_is(tables: dict[str, dict[str, Any]]) -> None:
    """Whatever keys and values hold, each key's line is the one that it was written on."""
    lines: list[str] = []
    expected: dict[KeyPath, int] = {}
    for name, table in tables.items():
        lines.append(f"[{json.dumps(name)}]")
        expected[name,] = len(lines)
        for key, value in table.items():
            expected[name, key] = len(lines) + 1
            lines += f"{json.dumps(key)} = {json.dumps(value)}".replace("[", "[\n", 1).split("\n")
    text = "\n".join(lines)
    try:
        assert tomllib.loads(text) == tables
    except tomllib.TOMLDecodeError:
        return
    assert lines_of_keys(text) == expected
