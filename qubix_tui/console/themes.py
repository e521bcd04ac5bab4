"""The console's themes: five meanings, one accent, and quiet for everything else."""

from collections.abc import Mapping
from typing import Final

from textual.theme import Theme

MEANINGS: Final = ("ok", "busy", "warn", "hot", "stale")
"""The tokens that carry meaning; each theme defines all of them, as ``$ok`` and so on."""


def _theme(
    name: str,
    *,
    dark: bool,
    background: str,
    raised: str,
    foreground: str,
    rule: str,
    accent: str,
    meanings: Mapping[str, str],
) -> Theme:
    """Make a theme from its few colours.

    Args:
        name: Its name in the palette, after ``qubix-``.
        dark: Whether its background is.
        background: Of everything.
        raised: Of what is selected, and of dialogs.
        foreground: Of plain text.
        rule: Of the thin lines between regions.
        accent: The one colour that is for neither good nor bad.
        meanings: Colours of `MEANINGS`.
    """
    return Theme(
        name=f"qubix-{name}",
        dark=dark,
        primary=accent,
        secondary=accent,
        accent=accent,
        foreground=foreground,
        background=background,
        surface=background,
        panel=raised,
        success=meanings["ok"],
        warning=meanings["warn"],
        error=meanings["hot"],
        variables={
            **meanings,
            "rule": rule,
            "quiet": meanings["stale"],
            "cursor-background": raised,
            "footer-background": background,
            "footer-key-foreground": accent,
            "footer-description-foreground": meanings["stale"],
            "footer-item-background": background,
            "footer-description-background": background,
            "footer-key-background": background,
            "scrollbar": rule,
            "scrollbar-background": background,
            "scrollbar-corner-color": background,
            "scrollbar-background-hover": background,
            "scrollbar-background-active": background,
            "scrollbar-hover": meanings["stale"],
            "scrollbar-active": accent,
            "border": accent,
            "border-blurred": rule,
            "block-cursor-background": raised,
            "block-cursor-foreground": foreground,
            "input-cursor-background": accent,
            "input-selection-background": f"{accent} 35%",
        },
    )


THEMES: Final = (
    _theme(
        "dark",
        dark=True,
        background="#0e1116",
        raised="#1d2632",
        foreground="#d4dae3",
        rule="#2a323d",
        accent="#5ab0ff",
        meanings={
            "ok": "#7fc98f",
            "busy": "#8fb8e8",
            "warn": "#e5b567",
            "hot": "#ff6b5e",
            "stale": "#77818f",
        },
    ),
    _theme(
        "light",
        dark=False,
        background="#fbfaf8",
        raised="#e4ebf3",
        foreground="#23282f",
        rule="#d6d8dc",
        accent="#0b63c4",
        meanings={
            "ok": "#22753c",
            "busy": "#2b5f9e",
            "warn": "#93600a",
            "hot": "#c4271b",
            "stale": "#717883",
        },
    ),
    _theme(
        "contrast",
        dark=True,
        background="#000000",
        raised="#1c3f66",
        foreground="#ffffff",
        rule="#6a6a6a",
        accent="#ffd400",
        meanings={
            "ok": "#4dff88",
            "busy": "#7cc7ff",
            "warn": "#ffcf33",
            "hot": "#ff7a70",
            "stale": "#b4b4b4",
        },
    ),
    # After Okabe and Ito: told apart with any kind of colour vision.
    _theme(
        "colourblind",
        dark=True,
        background="#101216",
        raised="#26303b",
        foreground="#dde1e6",
        rule="#30363e",
        accent="#56b4e9",
        meanings={
            "ok": "#56b4e9",
            "busy": "#cc9ec4",
            "warn": "#f0e442",
            "hot": "#e8782a",
            "stale": "#868d96",
        },
    ),
)

DEFAULT_THEME: Final = THEMES[0].name
