"""What a ``hub.toml`` may hold, and the sentence for whatever else is in it."""

import re
from functools import partial
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given

from qubix_tui.cli.hub_settings import HUB, Settings
from qubix_tui.hub.config import HubConfig
from qubix_tui.hub.engine.local import LocalEngine
from qubix_tui.hub.limits import Limits
from qubix_tui.hub.outbox import DEFAULT_BOUND
from qubix_tui.settings import toml
from qubix_tui.settings.document import MAX_FILE_BYTES
from qubix_tui.settings.schema import SettingsError
from tests.settings.documents import check_any_text, texts

SETTINGS = HUB.settings
parse, read, template = partial(toml.parse, HUB), partial(toml.read, HUB), partial(toml.template, HUB)


def uncommented(text: str) -> str:
    """The file of `template`, with every setting set."""
    return re.sub(r"^#(?=\w+ = )", "", text, flags=re.MULTILINE)


def test_the_template_sets_nothing() -> None:
    """As it is written, every default still applies."""
    assert parse(template(), "hub.toml") == {}


def test_the_template_shows_every_setting_with_its_default() -> None:
    """Uncommented, it sets all there is: each to its default, or to an example where there is none."""
    set_there = {key: one.value for key, one in parse(uncommented(template()), "hub.toml").items()}
    assert list(set_there) == list(SETTINGS)
    for key, setting in SETTINGS.items():
        assert set_there[key] == (setting.example if setting.default is None else setting.default), key


def test_the_defaults_are_those_of_the_hub() -> None:
    """A hub without a file is the hub that its own defaults describe."""
    settings, config = Settings(), HubConfig()
    limits = msgspec.structs.asdict(settings.limits)
    assert limits.pop("outbox_bytes") == DEFAULT_BOUND == config.outbox_bytes
    assert Limits(**limits) == Limits()
    engine = LocalEngine.__init__.__kwdefaults__
    assert engine is not None
    storage = settings.storage
    assert (storage.events_per_channel, storage.max_age_seconds, storage.max_bytes) == (
        engine["max_events"],
        engine["max_age"],
        engine["max_bytes"],
    )
    assert (settings.listen.host, settings.listen.port) == (config.host, config.port)


def test_a_value_is_given_with_its_line() -> None:
    """Where each value came from is known, also where a statement spans lines."""
    text = (
        "# a comment\r\n\r\n[listen]\r\nport = 4000\n\n[access]\npublic_names = [\n  # one\n  'a', 'b',\n]\n"
    )
    found = parse(text, "hub.toml")
    assert {key: (one.value, one.origin) for key, one in found.items()} == {
        "listen.port": (4000, "hub.toml line 4"),
        "access.public_names": (("a", "b"), "hub.toml line 7"),
    }


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("listen.port = 'x'", 'line 1: listen.port: expected a whole number from 0 to 65535, not "x"'),
        (
            "\n[listen]\n\nport = 65536",
            "line 4: listen.port: expected a whole number from 0 to 65535, not 65536",
        ),
        ("[listen]\nport = true", "line 2: listen.port: expected a whole number from 0 to 65535, not true"),
        ("[listen]\nport = 3001.0", "line 2: listen.port: expected a whole number .* not 3001.0"),
        (
            "[listen]\nhost = ''",
            'line 2: listen.host: expected a text in quotes, .* that is not empty, not ""',
        ),
        ("[listen]\ninsecure = 1", "line 2: listen.insecure: expected true or false, not 1"),
        ("[listen]\nprot = 1", r"line 2: there is no setting listen.prot; did you mean port\?"),
        ("[listen]\nxyz = 1", "line 2: there is no setting listen.xyz; .listen. has host, port, "),
        ("[lisen]\nport = 1", r"line 1: there is no table lisen; did you mean \[listen\]\?"),
        ("[nonsense]", "line 1: there is no table nonsense; the tables are listen, tls, "),
        ("port = 1", r"line 1: port is set in a table: under \[listen\]"),
        ('"listen.port" = 1', "line 1: there is no table listen.port"),
        ("listen = 1", r"line 1: listen is a table, \[listen\], with settings under it, not 1"),
        ("[[listen]]\nport = 1", "line 1: listen is a table, .* not a list of other things"),
        (
            "[limits]\nmessages_per_second = 0",
            "line 2: limits.messages_per_second: expected a number above 0",
        ),
        ("[limits]\nmessages_per_second = nan", "line 2: limits.messages_per_second: expected .* not nan"),
        ("[limits]\nmessages_per_second = inf", "line 2: limits.messages_per_second: expected .* not inf"),
        (
            "[limits]\nbytes_burst = 1000",
            "line 2: limits.bytes_burst: expected a whole number from 131072 to",
        ),
        (f"[limits]\nconnections = 0x{'f' * 5000}", "line 2: limits.connections: .* as large as that"),
        (f"[limits]\nconnections = {'9' * 5000}", "beyond all measure"),
        ("x = " + "[" * 50_000, "beyond all measure"),
        ("[log]\nlevel = 'loud'", 'line 2: log.level: expected "debug" or "error" or .* not "loud"'),
        (
            "[shutdown]\ndrain_seconds = -1",
            "line 2: shutdown.drain_seconds: expected a number from 0 to 3600",
        ),
        ("[access]\npublic_names = 'hub'", "line 2: access.public_names: expected a list of texts"),
        ("[access]\npublic_names = ['hub', 3]", "line 2: access.public_names: expected a list of texts"),
        ("[access]\npublic_names = ['a b']", "line 2: access.public_names: “a b” is no host name"),
        ("[access]\nallow_origins = ['*']", "line 2: access.allow_origins: .* is no origin"),
        (
            "[access]\ntrusted_proxies = ['proxy']",
            "line 2: access.trusted_proxies: “proxy” is no address and no",
        ),
        ("[access]\ntrusted_proxies = ['10.0.0.1/8']", "line 2: .* has host bits set"),
        ("[listen]\nport =", "line 2: no TOML: Invalid value"),
        ("[listen]\nport = 1\nport = 2", "line 3: no TOML: Cannot overwrite a value"),
        ("\x1b[31m = 1", "line 1: no TOML: Invalid statement"),
    ],
)
def test_what_is_wrong_is_one_sentence(text: str, complaint: str) -> None:
    """It has the file, the line, the key, what was expected and what stood there."""
    with pytest.raises(SettingsError, match=complaint) as refused:
        parse(text, "hub.toml")
    assert str(refused.value).startswith("hub.toml ")
    assert str(refused.value).isprintable()
    assert refused.value.code == 2


@given(texts(HUB, ["127.0.0.1", "hub", "info"], ["listen", "limits", "port", "log"]))
@example('[access]\npublic_names = []\n#"""')
@example("a = '''\n# '''")
def test_any_text_is_a_configuration_or_one_sentence(text: str) -> None:
    """Whatever is read, what comes out are settings in their types, or a sentence that can be shown."""
    check_any_text(HUB, text)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """A path in a file means the same wherever the hub is started; ~ is the user's home."""
    file = tmp_path / "hub.toml"
    file.write_text("[tls]\ncert = 'tls/hub.pem'\nkey = '/etc/hub.key'\n[storage]\ndata = '~/hub'\n")
    found = read(file)
    assert found["tls.cert"].value == str(tmp_path / "tls" / "hub.pem")
    assert found["tls.key"].value == "/etc/hub.key"
    assert found["storage.data"].value == str(Path.home() / "hub")
    assert {key for key in SETTINGS if key.endswith(("socket", "cert", "key", "data", "_file"))} == HUB.paths


def test_a_file_that_can_not_be_read(tmp_path: Path) -> None:
    """Missing, a directory, not UTF-8, or far too large: one sentence with the name."""
    missing = tmp_path / "none.toml"
    with pytest.raises(SettingsError, match=f"no {re.escape(str(missing))}; .*config init"):
        read(missing)
    with pytest.raises(SettingsError, match="can't read"):
        read(tmp_path)
    file = tmp_path / "hub.toml"
    file.write_bytes(b"# fine\n# \xff\n")
    with pytest.raises(SettingsError, match=r"hub.toml line 2: TOML is UTF-8"):
        read(file)
    file.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(SettingsError, match="more than 64 KiB"):
        read(file)
