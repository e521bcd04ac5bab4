"""The keys: what they are called, and what is wrong with a keymap of a person's own."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Final

from textual.binding import Binding
from textual.dom import DOMNode

from qubix_tui.protocol.checks import printable

KEY_WORDS: Final = {
    "enter": "enter",
    "escape": "esc",
    "pageup": "pgup",
    "pagedown": "pgdn",
    **{name: name for name in ("up", "down", "left", "right", "tab", "space", "home", "end")},
}
KEY_SIGNS: Final = {**KEY_WORDS, "enter": "↵", "up": "↑", "down": "↓", "left": "←", "right": "→"}


def sign_of(key: str, *, ascii_only: bool) -> str | None:
    """Give what is printed on a key; None for one that is called as Textual calls it."""
    return (KEY_WORDS if ascii_only else KEY_SIGNS).get(key)


def binding_ids() -> dict[str, Binding]:
    """Give every binding of the console that has a name, by it."""
    found: dict[str, Binding] = {}
    for node in _ours(DOMNode):
        for binding in node.__dict__.get("BINDINGS", ()):
            if isinstance(binding, Binding) and binding.id is not None:
                found[binding.id] = binding
    return found


def complaints_about(keymap: Mapping[str, str]) -> list[str]:
    """Say what of a keymap, keys by the names of bindings, names no key of the console."""
    known = binding_ids()
    said = []
    for name in keymap.keys() - known.keys():
        close = difflib.get_close_matches(name, known, 1)
        advice = f"did you mean {close[0]}?" if close else "the help (?) has the names"
        said.append(f"console.toml: [keys] has {printable(name)}, which is no key's name; {advice}")
    return sorted(said)


def _ours(node: type[DOMNode]) -> Iterator[type[DOMNode]]:
    for kind in node.__subclasses__():
        if kind.__module__.startswith("qubix_tui.console"):
            yield kind
        yield from _ours(kind)
