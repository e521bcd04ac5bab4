"""The console's themes: five meanings, one accent, and quiet for everything else."""

from collections.abc import Mapping
from typing import Final

from textual.color import Color
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
            "cursor-text-style": "none",
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
            "stale": "#848e9c",
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
            "warn": "#8a5a08",
            "hot": "#c4271b",
            "stale": "#626973",
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
            "hot": "#ff857c",
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
            "stale": "#929aa3",
        },
    ),
    # The terminal's own sixteen colours, on whatever background it has.
    Theme(
        name="qubix-ansi",
        ansi=True,
        primary="ansi_cyan",
        secondary="ansi_cyan",
        accent="ansi_cyan",
        foreground="ansi_default",
        background="ansi_default",
        surface="ansi_default",
        panel="ansi_default",
        success="ansi_green",
        warning="ansi_yellow",
        error="ansi_red",
        variables={
            "ok": "ansi_green",
            "busy": "ansi_cyan",
            "warn": "ansi_yellow",
            "hot": "ansi_red",
            "stale": "ansi_bright_black",
            "rule": "ansi_bright_black",
            "quiet": "ansi_bright_black",
            "cursor-background": "ansi_default",
            # No colour of the sixteen is legible as a background everywhere.
            "cursor-text-style": "reverse",
            "footer-key-foreground": "ansi_cyan",
            "footer-description-foreground": "ansi_bright_black",
            "scrollbar": "ansi_bright_black",
            "scrollbar-background": "ansi_default",
            "scrollbar-background-hover": "ansi_default",
            "scrollbar-background-active": "ansi_default",
            "scrollbar-hover": "ansi_bright_black",
            "scrollbar-active": "ansi_cyan",
            "border": "ansi_cyan",
            "border-blurred": "ansi_bright_black",
            "ansi-background": "ansi_black",
            "ansi-foreground": "ansi_white",
        },
    ),
)

FADED: Final = 0.45
"""How far what is quiet goes from the foreground to the background."""


def variables_for(theme: Theme) -> dict[str, str]:
    """Give our variables for a theme that is not ours, made from the colours that it has."""
    if theme.ansi:
        quiet = rule = "ansi_bright_black"
    else:
        light, dark = "#e0e0e0", "#121212"
        front = Color.parse(theme.foreground or (light if theme.dark else dark))
        back = Color.parse(theme.background or (dark if theme.dark else light))
        quiet, rule = front.blend(back, FADED).hex, front.blend(back, 0.8).hex
    return {
        "ok": theme.success or theme.primary,
        "busy": theme.primary,
        "warn": theme.warning or theme.primary,
        "hot": theme.error or theme.primary,
        "stale": quiet,
        "quiet": quiet,
        "rule": rule,
        "cursor-background": "ansi_default" if theme.ansi else rule,
        "cursor-text-style": "reverse" if theme.ansi else "none",
    }
