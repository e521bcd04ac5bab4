"""What a person may set for the console. No Textual in it.

``console.toml`` is the person's: the console reads it and never writes it. What is changed on the screen is
kept beside it (`settings_store`).
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from qubix_tui.console.columns import BY_KEY
from qubix_tui.console.query_eval import FIELDS
from qubix_tui.console.query_syntax import QueryError, parse
from qubix_tui.console.themes import THEMES
from qubix_tui.settings.schema import Schema, Text

FILE_NAME: Final = "console.toml"

THEME_NAMES: Final = tuple(theme.name.removeprefix("qubix-") for theme in THEMES)
COLUMN_KEYS: Final = tuple(BY_KEY)


class Display(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How things are shown."""

    theme: Annotated[Text, Meta(description=f"One of {', '.join(THEME_NAMES)}.")] = THEME_NAMES[0]
    frames_per_second: Annotated[
        float, Meta(ge=0.2, le=60, description="Changes are painted at most so often; 2 suits a slow link.")
    ] = 10.0
    mouse: Annotated[bool, Meta(description="Whether the mouse is the console's.")] = True
    ascii: Annotated[bool, Meta(description="Whether glyphs beyond ASCII are avoided.")] = False


class FleetTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table of the fleet."""

    columns: Annotated[
        tuple[Text, ...],
        Meta(
            description=f"What to show in place of what fits, from the left: {', '.join(COLUMN_KEYS)}.",
            examples=[["trouble", "name", "use", "temp", "job", "age"]],
        ),
    ] = ()
    sort: Annotated[Text, Meta(description="The column that it is sorted by.")] = "trouble"
    reverse: Annotated[bool, Meta(description="Whether that is turned round.")] = False


class AlertSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The alerts that are there from the start."""

    off: Annotated[
        tuple[Text, ...],
        Meta(description="Those not wanted: hot, lost, gpu-lost, job-failed.", examples=[["hot"]]),
    ] = ()
    hot_c: Annotated[float, Meta(ge=0, le=200, description="A GPU is hot from here on, °C.")] = 85.0
    hot_seconds: Annotated[float, Meta(ge=0, le=3600, description="For so long.")] = 30.0
    bell: Annotated[bool, Meta(description="Whether the terminal's bell is rung.")] = False


class AlertRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An alert of one's own: a query that a provider must fulfil."""

    when: Text
    """The query."""
    until: str = ""
    """Another query: it is over when a provider fulfils this; empty for as soon as ``when`` fails."""
    seconds: float = 0.0
    """For how long it must be so."""
    bell: bool = False


class Settings(msgspec.Struct, frozen=True):
    """All of it."""

    display: Display = Display()
    fleet: FleetTable = FleetTable()
    alerts: AlertSettings = AlertSettings()
    rules: Annotated[
        dict[str, AlertRule],
        Meta(
            description="Alerts of your own, each with a query as in the fleet's filter.",
            examples=[
                {"idle but full": {"when": "use<5 used>20", "until": "use>20", "seconds": 600, "bell": True}}
            ],
        ),
    ] = {}
    views: Annotated[
        dict[str, Text],
        Meta(
            description="Saved views: queries by name, listed by v.",
            examples=[{"hot and at work": "temp>80 state:busy"}],
        ),
    ] = {}
    keys: Annotated[
        dict[str, Text],
        Meta(
            description="Keys by what they do: the names are those of the help (?). Several with commas.",
            examples=[{"app.pause": "space", "fleet.sort": "o,f6"}],
        ),
    ] = {}


def _check_theme(name: str) -> None:
    if name not in THEME_NAMES:
        raise ValueError(f"expected one of {', '.join(THEME_NAMES)}, not {name!r}")


def _check_column(key: str) -> None:
    if key not in BY_KEY:
        raise ValueError(f"expected one of {', '.join(COLUMN_KEYS)}, not {key!r}")


def _check_query(text: str) -> None:
    try:
        parse(text, FIELDS)
    except QueryError as error:
        raise ValueError(f"{error} (at {text[error.start : error.end]!r})") from None


def _check_rule(pair: tuple[str, AlertRule]) -> None:
    _check_query(pair[1].when)
    _check_query(pair[1].until)


SCHEMA: Final = Schema(
    Settings,
    file_name=FILE_NAME,
    command="qubix",
    heading=(
        "# How the console looks and behaves. Every setting is shown with its default; take the # away\n"
        "# before those to change. The console reads it when it starts, and never writes it: what is\n"
        "# changed on the screen is kept beside it, until the same is set here anew.\n"
    ),
    flags={},
    environment={},
    checks={
        "display.theme": _check_theme,
        "fleet.columns": _check_column,
        "fleet.sort": _check_column,
        "views": lambda pair: _check_query(pair[1]),
        "rules": _check_rule,
    },
)
