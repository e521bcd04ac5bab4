"""What an owner may set, what goes before what, and the sentence for whatever else is in ``agent.toml``."""

import json
import re
from functools import partial
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.cli import build_parser, main
from agent.settings import AGENT, ENVIRONMENT, FLAGS, AgentSettings, apply
from qubix_tui.protocol.tokens import Role, new_token
from qubix_tui.settings import toml
from qubix_tui.settings.layers import Applied
from qubix_tui.settings.schema import SettingsError
from tests.settings.documents import check_any_text, texts

parse, read = partial(toml.parse, AGENT), partial(toml.read, AGENT)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A QUBIX_HOME of its own, and no variable that speaks of an agent."""
    monkeypatch.setenv("QUBIX_HOME", str(tmp_path))
    for name in (*ENVIRONMENT, "QUBIX_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def settle(directory: Path, *flags: str, **environment: str) -> Applied[AgentSettings]:
    """What applies to `qubix-agent` with these flags and variables."""
    return apply(build_parser().parse_args(flags), directory, environment)


def test_nothing_said_is_the_default(directory: Path) -> None:
    """Without a word everything is at its default, and every GPU is offered."""
    applied = settle(directory)
    assert (applied.file, applied.settings) == (None, AgentSettings())
    assert set(applied.origins.values()) == {"default"}
    assert applied.settings.gpus.offer == ("all",)


def test_a_flag_goes_before_the_environment_before_the_file(directory: Path) -> None:
    """Each value comes from the first that gives it, and says from which."""
    (directory / "agent.toml").write_text(
        "[provider]\nname = 'file'\nlocation = 'file'\nprice_per_hour = 1\n[hub]\nurl = 'ws://file'\n"
    )
    applied = settle(
        directory, "--name", "flag", QUBIX_AGENT_NAME="variable", QUBIX_AGENT_PRICE="0.5", QUBIX_HUB=""
    )
    told = {key: (applied.values()[key], origin) for key, origin in applied.origins.items()}
    assert told["provider.name"] == ("flag", "--name")
    assert told["provider.price_per_hour"] == (0.5, "QUBIX_AGENT_PRICE")
    assert told["provider.location"] == ("file", f"{directory}/agent.toml line 3")
    assert told["hub.url"] == ("ws://file", f"{directory}/agent.toml line 6")
    assert told["sampling.interval_seconds"] == (1.0, "default")


def test_every_flag_gives_its_setting(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No flag is lost; paths are relative to the current directory."""
    monkeypatch.chdir(directory)
    words = """--hub wss://a --token-file t --ca c --proxy http://p:1 --insecure --name n --location l
        --price 2 --interval 0.5"""
    applied = settle(directory, *words.split())
    given = {key: value for key, value in applied.values().items() if applied.origins[key] != "default"}
    assert given == {
        "hub.url": "wss://a",
        "hub.token_file": str(directory / "t"),
        "hub.ca_file": str(directory / "c"),
        "hub.proxy": "http://p:1",
        "hub.insecure": True,
        "provider.name": "n",
        "provider.location": "l",
        "provider.price_per_hour": 2.0,
        "sampling.interval_seconds": 0.5,
    }
    assert {key for key, origin in applied.origins.items() if origin.startswith("--")} == set(FLAGS.values())


def test_a_token_in_the_environment_goes_before_a_file_that_was_set(directory: Path) -> None:
    """The token itself is shown nowhere; a token file by flag goes before it."""
    (directory / "agent.toml").write_text("hub.token_file = 'token'\n")
    token = new_token(Role.PROVIDER)
    applied = settle(directory, QUBIX_TOKEN=token)
    assert (applied.settings.hub.token_file, applied.origins["hub.token_file"]) == (None, "QUBIX_TOKEN")
    assert token not in repr(applied)
    flagged = settle(directory, "--token-file", "/other", QUBIX_TOKEN=token)
    assert flagged.settings.hub.token_file == "/other"
    assert settle(directory).settings.hub.token_file == str(directory / "token")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[hub]\nurl = 'http://hub'", "line 2: hub.url: 'http://hub' is no hub address; expected ws://"),
        ("[hub]\nproxy = 'proxy:3128'", "line 2: hub.proxy: expected http://host:port"),
        ("[hub]\nproxy = 'http://u:p@proxy'", "line 2: hub.proxy: .* without a user and a password"),
        ("[hub]\nproxy = 'socks5://proxy'", "line 2: hub.proxy: expected http://host:port"),
        ("[hub]\nproxy = 'http://proxy:99999'", "line 2: hub.proxy: expected http://host:port"),
        ("[hub]\ncafile = 'x'", r"line 2: there is no setting hub.cafile; did you mean ca_file\?"),
        ('\n[provider]\nname = "a\\u001bb"', "line 3: provider.name: expected one line of at most 128"),
        ("[provider]\nprice_per_hour = -1", "line 2: provider.price_per_hour: expected a number from 0 to"),
        ("[provider]\nprice_per_hour = '1'", "line 2: provider.price_per_hour: expected a number"),
        ("[gpus]\noffer = 'all'", 'line 2: gpus.offer: expected a list of "all", numbers and UUIDs'),
        ("[gpus]\noffer = [-1]", 'line 2: gpus.offer: expected a list of "all", numbers and UUIDs'),
        ("[gpus]\noffer = ['first']", 'line 2: gpus.offer: expected a list of "all", numbers and UUIDs'),
        ("[sampling]\ninterval_seconds = 60", "line 2: sampling.interval_seconds: .* from 0.1 to 10, not 60"),
        ("[sensors]\ngpu = 'no'", 'line 2: sensors.gpu: expected true or false, not "no"'),
        ("[gps]\noffer = [0]", r"line 1: there is no table gps; did you mean \[gpus\]\?"),
    ],
)
def test_what_is_wrong_is_one_sentence(text: str, complaint: str) -> None:
    """It has the file, the line, the key, and what was expected there."""
    with pytest.raises(SettingsError, match=complaint) as refused:
        parse(text, "agent.toml")
    assert str(refused.value).isprintable()
    assert refused.value.code == 2


@pytest.mark.parametrize(
    "offer", ["[]", '["all"]', "[0, 3]", '["GPU-11111111-2222-3333-4444-555555555555", 1, "2"]']
)
def test_gpus_by_number_and_uuid(offer: str) -> None:
    """Numbers with and without quotes, UUIDs, all of them, or none."""
    assert list(parse(f"gpus.offer = {offer}", "agent.toml")["gpus.offer"].value) == json.loads(offer)


@given(texts(AGENT, ["ws://a", "all", "http://p"], ["hub", "gpus", "offer", "jobs"]))
@example("[hub]\nurl = 'ws://[::1'")
@example("[hub]\nurl = 'ws://é'\nproxy = 'http://[x'")
@example("[hub]\nurl = 'ws://\\ud800'")
def test_any_text_is_a_configuration_or_one_sentence(text: str) -> None:
    """Whatever is read, what comes out are settings in their types, or a sentence that can be shown."""
    check_any_text(AGENT, text)


@given(st.text(max_size=60))
def test_any_value_of_a_flag_is_taken_or_named(text: str) -> None:
    """A flag's value ends in a setting or in a sentence that begins with the flag."""
    arguments = build_parser().parse_args([])
    for name in ("hub", "proxy", "name", "location"):
        setattr(arguments, name, text)
        refused = ""
        try:
            apply(arguments, Path("/nonexistent"), {})
        except SettingsError as error:
            refused = str(error)
        assert refused.startswith(f"--{name}: ") or not refused
        assert refused.isprintable()
        setattr(arguments, name, None)


def test_the_commands_write_check_and_show(directory: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`config init` once, `check` with an exit code, `show` with origins; flags count on either side."""
    assert main(["config", "init"]) == 0
    assert main(["config", "check"]) == 0
    file = directory / "agent.toml"
    assert f"{file} is good; it sets 0 of {len(AGENT.settings)} settings" in capfd.readouterr().out
    assert main(["config", "init"]) == 1
    assert "is there already" in capfd.readouterr().err
    file.write_text("[hub]\nurl = 3\n")
    assert main(["config", "check"]) == 2
    assert capfd.readouterr().err.startswith(f"qubix-agent: {file} line 2: hub.url: expected a text")
    file.write_text("[gpus]\noffer = [1]\n")
    assert main(["--price", "3", "config", "show", "--json"]) == 0
    shown = json.loads(capfd.readouterr().out)["settings"]
    assert list(shown) == list(AGENT.settings)
    assert shown["gpus.offer"] == {"value": [1], "origin": f"{file} line 2"}
    assert shown["provider.price_per_hour"] == {"value": 3.0, "origin": "--price"}
    assert main(["config", "show", "--config", str(directory / "none")]) == 2
    assert "`qubix-agent config init" in capfd.readouterr().err


def test_the_template_shows_every_setting(directory: Path) -> None:
    """Uncommented, it sets all there is: each to its default, or to an example where there is none."""
    text = toml.template(AGENT)
    assert parse(text, "agent.toml") == {}
    found = parse(re.sub(r"^#(?=\w+ = )", "", text, flags=re.MULTILINE), "agent.toml")
    assert list(found) == list(AGENT.settings)
    for key, setting in AGENT.settings.items():
        assert found[key].value == (setting.example if setting.default is None else setting.default), key
    assert not re.search(r" $", text, flags=re.MULTILINE)
