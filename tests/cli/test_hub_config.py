"""Which value applies to a hub, where it came from, and the commands that say so."""

import json
import re
from pathlib import Path

import pytest

from qubix_tui.cli.hub_config import apply, hub_config
from qubix_tui.cli.hub_settings import ENVIRONMENT, FLAGS, HUB, Settings
from qubix_tui.cli.main import build_parser, main
from qubix_tui.hub.config import HubConfig
from qubix_tui.hub.limits import Limits
from qubix_tui.settings.layers import Applied
from qubix_tui.settings.schema import SettingsError


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A QUBIX_HOME of its own, and no variable that speaks of a hub."""
    monkeypatch.setenv("QUBIX_HOME", str(tmp_path))
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def settle(directory: Path, *flags: str, **environment: str) -> Applied[Settings]:
    """What applies to `qubix hub` with these flags and variables."""
    return apply(build_parser().parse_args(["hub", *flags]), directory, environment)


def test_nothing_said_is_the_default(directory: Path) -> None:
    """Without a word a hub is what its own defaults describe, with its data in QUBIX_HOME."""
    applied = settle(directory)
    assert applied.file is None
    assert set(applied.origins.values()) == {"default"}
    assert applied.settings.storage.data == str(directory / "hub")
    assert hub_config(applied.settings) == HubConfig()


def test_a_flag_goes_before_the_environment_before_the_file(directory: Path) -> None:
    """Each value comes from the first that gives it, and says from which."""
    (directory / "hub.toml").write_text("[listen]\nport = 1\nhost = '::1'\n[log]\nlevel = 'debug'\n")
    applied = settle(
        directory, "--port", "3", QUBIX_HUB_PORT="2", QUBIX_HUB_HOST="127.0.0.2", QUBIX_HUB_LOG_FORMAT=""
    )
    assert applied.file == directory / "hub.toml"
    told = {key: (applied.values()[key], origin) for key, origin in applied.origins.items()}
    assert told["listen.port"] == (3, "--port")
    assert told["listen.host"] == ("127.0.0.2", "QUBIX_HUB_HOST")
    assert told["log.level"] == ("debug", f"{directory}/hub.toml line 5")
    assert told["log.format"] == ("text", "default")


def test_every_flag_gives_its_setting(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No flag is lost, and each list replaces the file's; paths are relative to the current directory."""
    monkeypatch.chdir(directory)
    words = """--host ::1 --port 7 --unix-socket s --insecure --tls-cert c --tls-key k --allow-origin http://a
        --allow-origin http://b --public-name hub.example --no-anonymous --trusted-proxy 10.0.0.0/8 --data d
        --log-level error --log-format json --drain-seconds 1.5 --retention 7 --engine redis://r/1
        --engine-password-file p --workers 3"""
    (directory / "hub.toml").write_text("access.public_names = ['other.example']\n")
    applied = settle(directory, *words.split())
    given = {key: value for key, value in applied.values().items() if applied.origins[key] != "default"}
    assert given == {
        "listen.host": "::1",
        "listen.port": 7,
        "listen.unix_socket": str(directory / "s"),
        "listen.insecure": True,
        "listen.workers": 3,
        "tls.cert": str(directory / "c"),
        "tls.key": str(directory / "k"),
        "access.allow_origins": ("http://a", "http://b"),
        "access.public_names": ("hub.example",),
        "access.anonymous": False,
        "access.trusted_proxies": ("10.0.0.0/8",),
        "storage.engine": "redis://r/1",
        "storage.engine_password_file": str(directory / "p"),
        "storage.data": str(directory / "d"),
        "jobs.retention_days": 7.0,
        "log.level": "error",
        "log.format": "json",
        "shutdown.drain_seconds": 1.5,
    }
    assert {key for key, origin in applied.origins.items() if origin.startswith("--")} == set(FLAGS.values())


def test_the_hub_gets_what_was_settled(directory: Path) -> None:
    """Every setting that is the hub's own arrives there in its type."""
    file = directory / "other.toml"
    file.write_text(
        "[listen]\nhost = '::1'\nport = 9\nunix_socket = '/s'\ninsecure = true\n"
        "[tls]\ncert = '/c'\nkey = '/k'\n"
        "[access]\nallow_origins = ['http://a']\npublic_names = ['b']\nanonymous = false\n"
        "trusted_proxies = ['10.0.0.7']\n"
        "[limits]\nconnections = 5\nmessages_per_second = 7\noutbox_bytes = 100_000\n"
        "[shutdown]\ndrain_seconds = 3\n"
    )
    assert hub_config(settle(directory, "--config", str(file)).settings) == HubConfig(
        host="::1",
        port=9,
        unix_socket=Path("/s"),
        insecure=True,
        tls_cert=Path("/c"),
        tls_key=Path("/k"),
        allow_origins=("http://a",),
        public_names=("b",),
        anonymous=False,
        trusted_proxies=("10.0.0.7",),
        limits=Limits(connections=5, messages_per_second=7),
        outbox_bytes=100_000,
        drain_seconds=3,
    )


@pytest.mark.parametrize(
    ("flags", "environment", "complaint"),
    [
        (["--public-name", "a b"], {}, "--public-name: “a b” is no host name"),
        (["--trusted-proxy", "x"], {}, "--trusted-proxy: “x” is no address and no network"),
        (["--drain-seconds", "nan"], {}, "--drain-seconds: expected a number from 0 to 3600, not nan"),
        (
            [],
            {"QUBIX_HUB_PORT": "http"},
            'QUBIX_HUB_PORT: expected a whole number from 0 to 65535, not "http"',
        ),
        ([], {"QUBIX_HUB_LOG_LEVEL": "loud"}, 'QUBIX_HUB_LOG_LEVEL: expected "debug" or'),
        ([], {"QUBIX_HUB_TLS_KEY": "k"}, "QUBIX_HUB_TLS_KEY: tls.key is of no use without"),
        (["--workers", "0"], {}, "--workers: expected a whole number from 1 to 64, not 0"),
        (
            ["--workers", "2"],
            {},
            "--workers: 2 hubs can't share a SQLite file: give them a Redis, with --engine redis://HOST",
        ),
        (["--workers", "2", "--engine", "sqlite"], {}, "--workers: 2 hubs can't share a SQLite file"),
        (["--config", "none.toml"], {}, "there is no none.toml; `qubix hub config init none.toml`"),
    ],
)
def test_a_value_that_can_not_be_used_is_named_where_it_was_given(
    flags: list[str], environment: dict[str, str], complaint: str, directory: Path
) -> None:
    """The sentence begins with the flag, the variable or the line, and the exit code is 2."""
    with pytest.raises(SettingsError, match=f"^{re.escape(complaint)}") as refused:
        settle(directory, *flags, **environment)
    assert refused.value.code == 2


@pytest.mark.parametrize(
    ("listen", "complaint"),
    [
        ("workers = 4", "line 2: 4 hubs can't share a SQLite file"),
        ("worker_port = 3101", "line 2: listen.worker_port is of no use without listen.workers above 1"),
        ("worker_port = 3101\nworkers = 1", "line 2: listen.worker_port is of no use"),
        (
            "worker_port = 65533\nworkers = 4\n[storage]\nengine = 'redis://r/0'",
            "line 2: 4 ports from 65533 on go beyond 65535: begin lower",
        ),
    ],
)
def test_what_workers_need_is_said_where_it_was_set(listen: str, complaint: str, directory: Path) -> None:
    """Several hubs have no use for SQLite, one has none for ports of workers, and there are no more ports."""
    (directory / "hub.toml").write_text(f"[listen]\n{listen}\n")
    with pytest.raises(SettingsError, match=re.escape(complaint)):
        settle(directory)


def test_one_worker_is_the_plain_hub(directory: Path) -> None:
    """It needs nothing, and a flag for one goes before a file that asks for several."""
    assert settle(directory, "--workers", "1").settings.listen.workers == 1
    (directory / "hub.toml").write_text("[listen]\nworkers = 4\n")
    assert settle(directory, "--workers", "1").settings.listen.workers == 1


def test_init_writes_a_file_once(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It writes where the hub looks, and what it wrote is good; a file that is there is left alone."""
    assert main(["hub", "config", "init"]) == 0
    file = directory / "hub.toml"
    assert main(["hub", "config", "check"]) == 0
    assert f"{file} is good; it sets 0 of {len(HUB.settings)} settings" in capsys.readouterr().out
    file.write_text("# mine\n")
    assert main(["hub", "config", "init"]) == 1
    assert main(["hub", "config", "init", str(directory / "no" / "hub.toml")]) == 1
    assert "is there already" in capsys.readouterr().err
    assert file.read_text() == "# mine\n"


def test_check_says_what_is_wrong(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence on stderr with the line and the key; exit code 2."""
    file = directory / "mine.toml"
    file.write_text("[listen]\nport = 'x'\n")
    assert main(["hub", "config", "check", str(file)]) == 2
    assert capsys.readouterr().err == (
        f'qubix: {file} line 2: listen.port: expected a whole number from 0 to 65535, not "x"\n'
    )
    file.write_text("[tls]\nkey = 'x'\n")
    assert main(["hub", "--config", str(file), "config", "check"]) == 2
    assert main(["hub", "config", "check"]) == 2


@pytest.mark.parametrize("place", ["before", "after"])
def test_show_says_what_applies_and_from_where(
    place: str, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--json` gives every setting with its value and origin, `--config` on either side; else a line each."""
    file = directory / "mine.toml"
    file.write_text("[listen]\nport = 4\n")
    config = ["--config", str(file)]
    before, after = (config, []) if place == "before" else ([], config)
    assert main(["hub", *before, "--host", "::1", "config", "show", *after, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["file"] == str(file)
    assert list(shown["settings"]) == list(HUB.settings)
    assert shown["settings"]["listen.port"] == {"value": 4, "origin": f"{file} line 2"}
    assert shown["settings"]["listen.host"] == {"value": "::1", "origin": "--host"}
    assert shown["settings"]["tls.cert"] == {"value": None, "origin": "default"}
    assert main(["hub", *before, "config", "show", *after]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"file: {file}"
    assert re.fullmatch(rf"listen\.port = 4 +# {re.escape(str(file))} line 2", lines[2])
    assert re.fullmatch(r"tls\.cert = — +# default", next(line for line in lines if "tls.cert" in line))


def test_the_help_and_the_parser_agree() -> None:
    """Each flag of `qubix hub` that is no subcommand's is a setting, and is unset unless it is given."""
    arguments = build_parser().parse_args(["hub"])
    unset = {name for name, value in vars(arguments).items() if value is None}
    assert unset == {*FLAGS, "config", "hub", "token_file", "fps"}


def test_a_command_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """`qubix hub config` alone says which commands there are."""
    with pytest.raises(SystemExit) as ended:
        main(["hub", "config"])
    assert ended.value.code == 2
    assert "config" in capsys.readouterr().err
