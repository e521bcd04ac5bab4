"""The console's colours: each meaning can be read, and told from the others without any colour."""

import pytest
from textual.color import Color
from textual.theme import Theme

from qubix_tui.console.columns import GLYPHS
from qubix_tui.console.themes import MEANINGS, THEMES

LEAST_CONTRAST = 4.5
"""WCAG 2.2, AA, for text of any size."""

OWN_COLOURS = [theme for theme in THEMES if not theme.ansi]


def luminance(colour: Color) -> float:
    """Relative luminance, as WCAG defines it."""

    def linear(part: int) -> float:
        share = part / 255
        return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4

    return 0.2126 * linear(colour.r) + 0.7152 * linear(colour.g) + 0.0722 * linear(colour.b)


def contrast(first: str, second: str) -> float:
    """Contrast ratio of two colours, 1 to 21."""
    darker, lighter = sorted((luminance(Color.parse(first)), luminance(Color.parse(second))))
    return (lighter + 0.05) / (darker + 0.05)


def test_the_ratio_is_the_standards() -> None:
    """Black on white is 21, a colour on itself 1, and a known pair what the standard's tools say."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#123456", "#123456") == pytest.approx(1)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", OWN_COLOURS, ids=lambda theme: theme.name)
def test_every_text_can_be_read(theme: Theme) -> None:
    """Plain text, the accent and every meaning, on the background and on a selected row."""
    colours = {meaning: theme.variables[meaning] for meaning in (*MEANINGS, "quiet")}
    colours |= {"foreground": theme.foreground or "", "accent": theme.accent or ""}
    poor = {
        f"{name} on {ground}": round(contrast(colour, ground), 2)
        for name, colour in colours.items()
        for ground in (theme.background or "", theme.panel or "")
        if contrast(colour, ground) < LEAST_CONTRAST
    }
    assert poor == {}


@pytest.mark.parametrize("theme", OWN_COLOURS, ids=lambda theme: theme.name)
def test_what_is_quiet_is_quieter(theme: Theme) -> None:
    """What is of the past stands back from what is of now, and a rule from both."""
    background = theme.background or ""
    plain = contrast(theme.foreground or "", background)
    quiet = contrast(theme.variables["quiet"], background)
    assert plain > 1.8 * quiet
    assert quiet > contrast(theme.variables["rule"], background)


def test_states_differ_without_colour() -> None:
    """Each state has a glyph of its own, in ASCII too."""
    assert len({glyph for glyph, _, _ in GLYPHS.values()}) == len(GLYPHS)
    assert len({plain for _, plain, _ in GLYPHS.values()}) == len(GLYPHS)
    assert all(plain.isascii() for _, plain, _ in GLYPHS.values())
