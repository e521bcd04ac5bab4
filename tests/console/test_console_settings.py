"""What a person sets for the console, what is kept of changes in it, and what is said of mistakes."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qubix_tui.console.keymap import binding_ids, complaints_about
from qubix_tui.console.settings import SCHEMA, Settings
from qubix_tui.console.settings_store import CHANGED_NAME, SettingsStore
from qubix_tui.settings import toml
from qubix_tui.settings.schema import SettingsError

GOOD = """\
[display]
theme = "light"
frames_per_second = 2

[fleet]
columns = ["trouble", "name", "temp"]
sort = "temp"

[alerts]
off = ["lost"]
bell = true

[rules.idle]
when = "use<5 used>20"
seconds = 600

[views]
hot = "temp>80"
"at work" = "state:busy"

[keys]
app.pause = "space"
"fleet.sort" = "o,f6"
"""


def store(directory: Path, text: str | None = None) -> SettingsStore:
    """What a console in a directory begins with."""
    if text is not None:
        (directory / "console.toml").write_text(text, encoding="utf-8")
    return SettingsStore(directory)


def test_a_file_sets_what_it_says(tmp_path: Path) -> None:
    """Each table; names with dots are names; what is not there has its default."""
    read = store(tmp_path, GOOD)
    assert read.complaints == []
    settings = read.settings
    assert settings.display.theme == "light"
    assert settings.display.frames_per_second == 2
    assert settings.display.mouse
    assert settings.fleet.columns == ("trouble", "name", "temp")
    assert settings.alerts.off == ("lost",)
    assert settings.rules["idle"].when == "use<5 used>20"
    assert settings.rules["idle"].seconds == 600
    assert settings.views == {"hot": "temp>80", "at work": "state:busy"}
    assert settings.keys == {"app.pause": "space", "fleet.sort": "o,f6"}


def test_without_a_file_there_are_defaults(tmp_path: Path) -> None:
    """And nothing to complain of, nor anything written."""
    read = store(tmp_path)
    assert read.settings == Settings()
    assert read.complaints == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('theme = "drak"', "display.theme: expected one of dark, light"),
        ("theme = 7", 'display.theme: expected a text in quotes, "like this", that is not empty, not 7'),
        ("frames_per_second = 0", "display.frames_per_second: expected a number from 0.2 to 60, not 0"),
        ("thme = 1", "there is no setting display.thme; did you mean theme?"),
    ],
)
def test_a_mistake_is_said_with_its_line_and_the_rest_holds(tmp_path: Path, line: str, words: str) -> None:
    """The sentence has the file, the line, the key and what was expected; other settings are as they say."""
    read = store(tmp_path, f'# mine\n[display]\n{line}\nascii = true\n\n[views]\nhot = "temp>80"\n')
    (complaint,) = read.complaints
    assert complaint.startswith(f"{tmp_path / 'console.toml'} line 3: ")
    assert words in complaint
    assert read.settings.display.ascii
    assert read.settings.display.theme == "dark"
    assert read.settings.views == {"hot": "temp>80"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[views]\nhot = "tmp>80"', "line 2: views.hot: no field tmp; did you mean temp? (at 'tmp')"),
        ('[rules.a]\nwhen = "temp>"', "rules.a: temp> needs a number"),
        ('[rules.a]\nwhen = "temp>1"\nuntil = "("', "rules.a: ( needs a term behind it"),
        ("[rules.a]\nseconds = 1", "rules.a: expected a table, [rules.NAME], with when, until"),
        ('[rules.a]\nwhen = "temp>1"\nwhne = 1', "rules.a: expected a table, [rules.NAME]"),
        ('[fleet]\ncolumns = ["name", "heat"]', "fleet.columns: expected one of trouble, state"),
        ("[keys]\napp.pause = 7", "line 2: keys.app.pause: expected a text in quotes"),
        ("views = 7", "views is a table, [views]"),
        ("[kyes]\na = 1", "did you mean [keys]?"),
        ("[display\n", "line 1: no TOML"),
        ("[views]\n\x1b = 1", "no TOML"),
    ],
)
def test_every_table_says_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    """One sentence, harmless to show, and the console starts."""
    read = store(tmp_path, text)
    (complaint,) = read.complaints
    assert words in complaint
    assert complaint.isprintable()
    assert read.settings == Settings()


def test_a_file_that_is_no_text_is_said(tmp_path: Path) -> None:
    """Its line is named; a directory in its place is said too."""
    path = tmp_path / "console.toml"
    path.write_bytes(b"[display]\n\xff")
    assert "line 2: TOML is UTF-8" in SettingsStore(tmp_path).complaints[0]
    path.unlink()
    path.mkdir()
    assert "can't read" in SettingsStore(tmp_path).complaints[0]


def test_what_is_changed_is_kept(tmp_path: Path) -> None:
    """The next console begins with it; the person's file is as it was, comments and all."""
    text = '# mine\n[display]\ntheme = "light" # bright room\n'
    store(tmp_path, text).change("display.theme", "contrast")
    assert store(tmp_path).settings.display.theme == "contrast"
    assert (tmp_path / "console.toml").read_text(encoding="utf-8") == text


def test_the_file_wins_when_it_is_newer(tmp_path: Path) -> None:
    """What was changed on the screen holds until the person sets the same thing anew."""
    store(tmp_path, '[display]\ntheme = "light"\n').change("display.theme", "contrast")
    assert store(tmp_path, '[display]\ntheme = "colourblind"\n').settings.display.theme == "colourblind"
    assert store(tmp_path, '[display]\ntheme = "light"\nascii = true\n').settings.display.theme == "contrast"


def test_flags_go_before_all(tmp_path: Path) -> None:
    """What was asked for on the command line holds, whatever is in the files, and is not kept."""
    store(tmp_path, "[display]\nascii = false\n").change("display.ascii", value=False)
    assert SettingsStore(tmp_path, {"display.ascii": True}).settings.display.ascii
    assert not SettingsStore(tmp_path).settings.display.ascii


def test_views_are_kept_renamed_and_deleted(tmp_path: Path) -> None:
    """Those of the person's file stand beside those saved on the screen, and only the latter can go."""
    first = store(tmp_path, '[views]\nhot = "temp>80"\n')
    first.save_view("work", "state:busy")
    second = store(tmp_path)
    assert second.views == {"hot": "temp>80", "work": "state:busy"}
    assert second.is_own_view("work")
    assert not second.is_own_view("hot")
    second.remove_view("work")
    assert store(tmp_path).views == {"hot": "temp>80"}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"views": {"a": 7}}', b"\xff"])
def test_a_damaged_memory_is_said_and_left_behind(tmp_path: Path, content: bytes) -> None:
    """What was changed before is forgotten, and the console starts."""
    (tmp_path / CHANGED_NAME).write_bytes(content)
    read = store(tmp_path)
    assert CHANGED_NAME in read.complaints[0]
    assert read.settings == Settings()
    read.save_view("hot", "temp>80")
    assert store(tmp_path).views == {"hot": "temp>80"}


def test_a_memory_of_another_version_does_no_harm(tmp_path: Path) -> None:
    """A theme that is no more, a setting that is no more: what the file says holds."""
    read = store(tmp_path)
    read.change("display.theme", "dark")
    path = tmp_path / CHANGED_NAME
    path.write_text(path.read_text("utf-8").replace('"value": "dark"', '"value": "sepia"'), "utf-8")
    assert store(tmp_path).settings == Settings()
    path.write_text(path.read_text("utf-8").replace("display.theme", "display.hue"), "utf-8")
    assert store(tmp_path).settings == Settings()


def test_what_can_t_be_kept_holds_all_the_same(tmp_path: Path) -> None:
    """Where the directory is gone the change is made, and the failure is an OSError for the screen to say."""
    directory = tmp_path / "console"
    directory.mkdir()
    read = SettingsStore(directory)
    directory.rmdir()
    with pytest.raises(OSError, match="No such file"):
        read.change("display.theme", "light")
    assert read.settings.display.theme == "light"


def test_the_template_sets_nothing_and_shows_all(tmp_path: Path) -> None:
    """As it is written it changes nothing; with the # away it is a good file of every setting."""
    read = store(tmp_path)
    path = read.write_template()
    text = path.read_text(encoding="utf-8")
    assert store(tmp_path).settings == Settings()
    with pytest.raises(FileExistsError):
        read.write_template()
    lines = [line[1:] if line.startswith("#") and line[1:2] != " " else line for line in text.split("\n")]
    complaints: list[str] = []
    given = toml.parse(SCHEMA, "\n".join(lines), "all", complaints)
    assert complaints == []
    assert set(given) >= set(SCHEMA.settings)
    assert {key.partition(".")[0] for key in given} == {*SCHEMA.tables, *SCHEMA.free_tables}


def test_the_keys_of_the_template_are_keys() -> None:
    """The examples, and the names in our own settings, are names of bindings."""
    assert complaints_about(dict.fromkeys(SCHEMA.free_tables["keys"].examples, "x")) == []
    assert "did you mean fleet.sort?" in complaints_about({"fleet.srot": "x"})[0]
    assert {"app.pause", "fleet.sort", "screen.save"} <= binding_ids().keys()


@given(st.text(max_size=60))
def test_whatever_is_in_the_file_the_console_starts(text: str) -> None:
    """Each text gives settings, and at most sentences beside them."""
    complaints: list[str] = []
    try:
        toml.parse(SCHEMA, text, "console.toml", complaints)
    except SettingsError as error:
        complaints.append(str(error))
    else:
        tomllib.loads(text)
    assert all(complaint.startswith("console.toml") for complaint in complaints)
