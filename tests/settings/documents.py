"""Files of settings to read: any text, and documents that are nearly right."""

import math
import re
from typing import Any

import msgspec
from hypothesis import strategies as st

from qubix_tui.settings.schema import Schema, SettingsError
from qubix_tui.settings.toml import parse, toml_value


def texts(schema: Schema[Any], words: list[str], places: list[str]) -> st.SearchStrategy[str]:
    """Any text, and statements with dotted keys.

    Args:
        schema: Its keys are used.
        words: Texts that some setting may take.
        places: Names to make other keys of.
    """
    values = st.recursive(
        st.integers() | st.floats() | st.booleans() | st.text() | st.sampled_from(words),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=5,
    )
    keys = st.sampled_from([key.split(".") for key in schema.settings]) | st.lists(
        st.sampled_from([*places, "", "a.b", "\x07"]), min_size=1, max_size=3
    )
    return st.lists(st.tuples(keys, values), max_size=4).map(document) | st.text(max_size=200)


def document(statements: list[tuple[list[str], object]]) -> str:
    """TOML; texts and lists are written as JSON does."""
    lines = [
        f"{'.'.join(toml_value(name) for name in path)} = {toml_value(value)}".replace("\x7f", "")
        for path, value in statements
    ]
    return "\n".join(lines).replace("NaN", "nan").replace("Infinity", "inf")


def check_any_text(schema: Schema[Any], text: str) -> None:
    """What comes out are settings in their types, or a sentence that can be shown."""
    refused = ""
    try:
        found = parse(schema, text, schema.file_name)
    except SettingsError as error:
        found, refused = {}, str(error)
    assert refused.startswith(f"{schema.file_name} ") or not refused
    assert refused.isprintable()
    assert len(refused) < 1_000
    tables: dict[str, dict[str, object]] = {}
    for key, one in found.items():
        table, _, name = key.partition(".")
        tables.setdefault(table, {})[name] = one.value
        assert re.fullmatch(rf"{re.escape(schema.file_name)} line [0-9]+", one.origin)
        if isinstance(one.value, float):
            assert math.isfinite(one.value)
    msgspec.convert(tables, schema.type)
