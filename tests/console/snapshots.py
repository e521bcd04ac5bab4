"""Pictures of the console as text, kept beside the tests: a change of one is read in review as a diff.

A picture has each line of the screen between bars and, where it is not all plain, a line of letters below
that says how each cell looks. The letters stand for the theme's colours, capitals for bold; what they mean is
said at the end. `make snapshots` (``QUBIX_UPDATE_SNAPSHOTS=1``) writes all pictures anew.
"""

import os
from collections.abc import Callable, Iterable
from difflib import unified_diff
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.style import Style
from textual._compositor import LayoutUpdate
from textual.app import App
from textual.color import Color

KEPT = Path(__file__).parent / "snapshots"
UPDATE = "QUBIX_UPDATE_SNAPSHOTS"

LETTERS = {
    "foreground": "f",
    "quiet": "q",
    "ok": "o",
    "busy": "b",
    "warn": "w",
    "hot": "h",
    "stale": "q",
    "accent": "a",
    "rule": "r",
}
"""A theme's colours, those that are the first of their value winning."""


def picture_of(app: App[None]) -> str:
    """Give what is on the screen, with what lies below a dialog."""
    update = app.screen._compositor.render_update(
        full=True, screen_stack=app._background_screens, simplify=True
    )
    assert isinstance(update, LayoutUpdate)
    looks = _Looks(app)
    width = app.size.width
    lines = []
    for strips in update.strips:
        segments = [segment for strip in strips for segment in strip]
        text = "".join(segment.text for segment in segments)
        marks = "".join(looks.mark(segment.style) * cell_len(segment.text) for segment in segments)
        lines.append(f"|{text}|")
        if marks.strip("."):
            lines.append(f" {marks.rstrip('.')}")
    return "\n".join([f"{width}x{app.size.height}", *lines, *looks.legend(), ""])


class _Looks:
    """Gives each look of a cell a letter."""

    def __init__(self, app: App[None]) -> None:
        variables = app.theme_variables
        self._names: dict[str, tuple[str, str]] = {}
        for name, letter in LETTERS.items():
            self._names.setdefault(_hex(variables[name]), (name, letter))
        self._plain_back = _hex(variables["background"])
        self._others: dict[str, str] = {}
        self._used: dict[str, str] = {}

    def mark(self, style: Style | None) -> str:
        if style is None:
            return "."
        front = _hex(style.color.triplet.hex) if style.color and style.color.triplet else ""
        back = _hex(style.bgcolor.triplet.hex) if style.bgcolor and style.bgcolor.triplet else ""
        extra = [word for word in ("underline", "reverse", "italic", "dim") if getattr(style, word)]
        name, letter = self._names.get(front, (front, "")) if front else ("foreground", "f")
        if back in {"", self._plain_back} and not extra and letter:
            mark = letter.upper() if style.bold else "." if letter == "f" else letter
            if mark != ".":
                self._used[mark] = f"{name}, bold" if style.bold else name
            return mark
        words = [name or "default", *(["bold"] if style.bold else []), *extra]
        look = ", ".join(words) + (f" on {back}" if back not in {"", self._plain_back} else "")
        # Numbered in their order: unlike letters, they move when a new one comes before.
        return self._others.setdefault(look, "0123456789+*=$%&@!?<>^~"[min(len(self._others), 22)])

    def legend(self) -> Iterable[str]:
        known = sorted(self._used.items())
        numbered = [(mark, look) for look, mark in self._others.items()]
        return [f"{mark}  {look}" for mark, look in [*known, *numbered]]


def _hex(colour: str) -> str:
    try:
        return Color.parse(colour).hex6.lower()
    except ValueError:
        return colour


Snapshot = Callable[[App[None], str], None]


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    """Give what compares the screen with the picture that is kept of it, by name."""

    def compare(app: App[None], name: str) -> None:
        seen = picture_of(app)
        path = KEPT / f"{name}.txt"
        if os.environ.get(UPDATE):
            path.parent.mkdir(exist_ok=True)
            path.write_text(seen, encoding="utf-8")
            return
        assert path.exists(), f"there is no picture {name} yet; make snapshots writes it"
        kept = path.read_text(encoding="utf-8")
        if seen != kept:
            shown = tmp_path / f"{name}.svg"
            shown.write_text(app.export_screenshot(), encoding="utf-8")
            difference = unified_diff(kept.splitlines(), seen.splitlines(), "kept", "seen", lineterm="")
            lines = "\n".join(difference)
            pytest.fail(f"{name} is {shown} now; `make snapshots` if that is right.\n{lines}")

    return compare
