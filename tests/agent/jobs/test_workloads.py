"""What a machine offers to run, and what is made of a job that asks for it."""

import json
import os
import pwd
import shutil
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.cli import main
from agent.jobs import built_in, workloads
from agent.jobs.definition import Definition
from agent.jobs.launch import Limits
from agent.jobs.sandbox import wrap
from agent.jobs.workload_file import FILE_NAME
from agent.jobs.workloads import Catalogue, Refusal, owner_file
from qubix_tui.hub.provider_state import MAX_RECORD_BYTES
from qubix_tui.protocol.errors import ProtocolError
from qubix_tui.protocol.params import check_params, param_text
from qubix_tui.protocol.records import Workload, WorkloadParam
from qubix_tui.settings.schema import SettingsError
from tests.agent.jobs.stage import Stage, ended
from tests.agent.running import provider, running
from tests.end_to_end.processes import hub_process

needs_bubblewrap = pytest.mark.skipif(
    shutil.which("bwrap") is None and "CI" not in os.environ, reason="bubblewrap is not installed"
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A QUBIX_HOME of its own."""
    directory = tmp_path / "home"
    directory.mkdir(mode=0o755)
    monkeypatch.setenv("QUBIX_HOME", str(directory))
    return directory


ECHO = """\
[workload.echo]
command = ["printf", "%s|", "{text}", "--n={number}"]
sandbox = "none"
gpus = 1
limits = { wall_seconds = 100 }
environment = { GREETING = "hello {text}" }
[workload.echo.parameters.text]
type = "string"
[workload.echo.parameters.number]
type = "number"
min = -5
default = 1
"""


def catalogue(home: Path, text: str) -> Catalogue:
    """What an agent offers whose owner wrote this."""
    path = home / FILE_NAME
    path.write_text(text)
    return Catalogue.load(path)


def refusal(
    offers: Catalogue, workload: str, params: dict[str, object], gpus: tuple[str, ...] = ("GPU-1",)
) -> str:
    """The sentence for a job that is not taken."""
    with pytest.raises(Refusal) as caught:
        offers.prepare(workload, params, job_id="j", attempt=1, gpus=gpus)
    return str(caught.value)


def test_without_a_file_the_benchmark_alone_is_offered(home: Path) -> None:
    """No file, no workload of the owner's; the built-in one is there, and its bounds are told."""
    assert owner_file(None, home) is None
    (record,) = Catalogue.load(None).offered()
    assert record == Workload(
        name="benchmark",
        description=built_in.BENCHMARK.description,
        gpus=None,
        params=[
            WorkloadParam(name="seconds", type="integer", default=30, min=10, max=300),
            WorkloadParam(name="disk_mb", type="integer", default=512, min=4, max=65536),
        ],
    )


def test_an_owner_can_do_without_the_benchmark(home: Path) -> None:
    """With ``benchmark = false`` nothing is offered but what is written."""
    assert catalogue(home, "benchmark = false").offered() == []
    assert [one.name for one in catalogue(home, ECHO).offered()] == ["benchmark", "echo"]


def test_the_file_is_looked_for_where_the_owner_says(home: Path) -> None:
    """The one that was asked for, though it is not there; else the one in QUBIX_HOME, if it is there."""
    assert owner_file("/etc/x.toml", home) == Path("/etc/x.toml")
    (home / FILE_NAME).touch()
    assert owner_file(None, home) == home / FILE_NAME


def test_a_job_becomes_a_launch(home: Path) -> None:
    """Parameters are in their places, it gets the GPUs that it uses, and the shorter time is its limit."""
    launch = catalogue(home, ECHO).prepare(
        "echo",
        {"text": "a b; $(id) {number}", "number": -2.5},
        job_id="j",
        attempt=3,
        gpus=["GPU-1", "GPU-2"],
        timeout_seconds=60,
    )
    assert launch.argv == ["printf", "%s|", "a b; $(id) {number}", "--n=-2.5"]
    assert launch.env == {"GREETING": "hello a b; $(id) {number}"}
    assert (launch.tag, launch.gpus, launch.limits.wall_seconds) == ("j.3", ["GPU-1"], 60)
    assert launch.user == ("nobody" if os.geteuid() == 0 else None)


@pytest.mark.parametrize(("asked", "limit"), [(None, 100), (60, 60), (1000, 100)])
def test_a_job_can_ask_for_less_time_and_not_for_more(home: Path, asked: float | None, limit: float) -> None:
    """The workload's own limit stands."""
    launch = catalogue(home, ECHO).prepare(
        "echo", {"text": ""}, job_id="j", attempt=1, gpus=["GPU-1"], timeout_seconds=asked
    )
    assert launch.limits.wall_seconds == limit


def test_what_can_t_be_run_is_refused_in_words(home: Path) -> None:
    """An unknown workload, a wrong parameter, a missing GPU: each has its sentence."""
    offers = catalogue(home, ECHO)
    assert "does not offer such a workload" in refusal(offers, "rm", {})
    assert "echo has no parameter x" in refusal(offers, "echo", {"text": "", "x": 1})
    assert "the parameter text is missing" in refusal(offers, "echo", {})
    assert "can't begin with" in refusal(offers, "echo", {"text": "--help"})
    assert "expected at least -5" in refusal(offers, "echo", {"text": "", "number": -6})
    assert "echo needs 1 GPU, and 0 are free" in refusal(offers, "echo", {"text": ""}, ())


def test_a_workload_for_more_gpus_than_there_are_is_not_offered(home: Path) -> None:
    """Where the number of GPUs is known, what needs more is not told; where it is not known, all is."""
    offers = catalogue(home, ECHO)
    assert [one.name for one in offers.offered(0)] == ["benchmark"]
    assert [one.name for one in offers.offered(1)] == ["benchmark", "echo"]


def test_what_the_machine_lacks_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No such program, no such file, a sandbox that does not hold: it is not offered, and why."""
    monkeypatch.setattr(workloads, "check_sandbox", lambda _, **how: "it leaks" if how["network"] else None)
    offers = catalogue(
        home,
        """
        benchmark = false
        [workload.program]
        command = ["/no/such/program"]
        sandbox = "none"
        [workload.file]
        command = ["true"]
        read = ["/no/such/file"]
        [workload.leaky]
        command = ["true"]
        network = true
        """,
    )
    assert offers.offered() == []
    assert {entry.definition.name: entry.reason for entry in offers.entries} == {
        "program": "there is no program /no/such/program that could be run",
        "file": "there is no /no/such/file, which it is to read",
        "leaky": "it leaks",
    }
    assert refusal(offers, "leaky", {}) == "leaky is not offered here now: it leaks"


def test_each_sandbox_is_tried_out_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten workloads in the same sandbox cost one self-test; whether each program is there, one look each."""
    tried, looked = [], []
    monkeypatch.setattr(
        workloads, "check_sandbox", lambda kind, **rest: tried.append((kind, rest["network"]))
    )
    monkeypatch.setattr(workloads, "check_launch", lambda launch, _: looked.append(launch.workload))
    tables = [f'[workload.w{n}]\ncommand = ["true"]\nnetwork = {str(n > 4).lower()}\n' for n in range(10)]
    assert len(catalogue(home, "".join(tables)).offered()) == 11
    assert tried == [("bubblewrap", False), ("bubblewrap", True)]
    assert looked == [f"w{n}" for n in range(10)]


@needs_bubblewrap
def test_a_program_that_its_sandbox_hides_is_told_before_a_job_is_lost(home: Path, tmp_path: Path) -> None:
    """What lies in a hidden place is not offered, with what to do; once the owner lets it be read, it is."""
    (tmp_path / "hidden").mkdir()
    program = tmp_path / "hidden" / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    workload = f'benchmark = false\n[workload.x]\ncommand = ["{program}"]\n'
    (home / FILE_NAME).write_text(workload)
    (entry,) = Catalogue.load(home / FILE_NAME, user=pwd.getpwuid(os.geteuid()).pw_name).entries
    assert entry.reason is not None
    assert "can't run" in entry.reason
    assert "`read`" in entry.reason
    (home / FILE_NAME).write_text(f'{workload}read = ["{program.parent}"]\n')
    (entry,) = Catalogue.load(home / FILE_NAME, user=pwd.getpwuid(os.geteuid()).pw_name).entries
    assert entry.reason is None


@needs_bubblewrap
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a job as somebody else")
def test_what_its_user_can_t_read_is_told_before_a_job_is_lost(home: Path, tmp_path: Path) -> None:
    """A path that nobody may enter can't be shown to a job of nobody; nor can a program there be run."""
    tmp_path.chmod(0o700)
    (tmp_path / "program").write_text("#!/bin/sh\n")
    (tmp_path / "program").chmod(0o755)
    text = f"""
        benchmark = false
        [workload.data]
        command = ["true"]
        read = ["{tmp_path}/program"]
        [workload.program]
        command = ["{tmp_path}/program"]
        sandbox = "none"
    """
    reasons = [str(entry.reason) for entry in catalogue(home, text).entries]
    assert reasons[0].startswith("its sandbox can't be made, as the user nobody: bwrap: ")
    assert reasons[1].startswith(f"the user nobody can't run {tmp_path}/program: install it where everybody")


def test_what_a_hub_would_not_take_is_refused_at_once(home: Path) -> None:
    """All that a hub is told fits its limit with room for the machine itself; more is the file's error."""
    description = f'description = "{"d" * 1000}"\n'
    tables = [f'[workload.w{n}]\ncommand = ["true"]\n{description}' for n in range(40)]
    path = home / FILE_NAME
    path.write_text("".join(tables))
    with pytest.raises(SettingsError, match="shorten descriptions and patterns"):
        workloads.read(path)
    assert workloads.MOST_RECORD_BYTES < MAX_RECORD_BYTES * 3 / 4


def test_the_hub_never_hears_a_command(home: Path) -> None:
    """What is told of a workload is its name, its description and its parameters."""
    (_, record) = catalogue(home, ECHO).offered()
    assert not any(word in str(msgspec.to_builtins(record)) for word in ("printf", "GREETING", "hello"))


PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "text": st.one_of(
            st.text(max_size=12), st.sampled_from(["-x", "{number}", "a\0b", "x" * 5000, "\ud800"])
        ),
        "number": st.one_of(st.integers(-9, 9), st.floats(), st.booleans(), st.none(), st.text(max_size=2)),
        "other": st.just(1),
    },
)
DEFINITION = Definition(
    name="echo",
    command=("echo", "{text}", "--x={text}:{number}"),
    environment={"E": "{number}{text}"},
    params=(
        WorkloadParam(name="text", type="string"),
        WorkloadParam(name="number", type="number", min=-5, default=1),
    ),
    sandbox="none",
)


@given(PARAMS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_agent_takes_what_the_hub_takes(params: dict[str, object]) -> None:
    """Both refuse the same with the same words; what both take is in its places, and no argument splits."""
    offers = _echo()
    said = None
    try:
        checked = check_params(DEFINITION.record(), params)
    except ProtocolError as error:
        said = error.message
    if said is not None:
        assert refusal(offers, "echo", params) == said
        return
    launch = offers.prepare("echo", params, job_id="j", attempt=1, gpus=[])
    text, number = param_text(checked["text"]), param_text(checked["number"])
    assert launch.argv == ["echo", text, f"--x={text}:{number}"]
    assert launch.env == {"E": number + text}
    assert not text.startswith("-")


def _echo() -> Catalogue:
    return Catalogue([DEFINITION], user=None)


def test_the_benchmark_runs_as_a_job(stage: Stage, home: Path) -> None:
    """As it is launched, under a supervisor, it ends well, with progress and a result on the way."""
    launch = Catalogue.load(None).prepare(
        "benchmark", {"seconds": 10, "disk_mb": 4}, job_id=stage.job_id, attempt=1, gpus=[]
    )
    # Its least time is for people; a test has less.
    argv = ["1.5" if word == "10" else word for word in launch.argv]
    attempt = stage.run(msgspec.structs.replace(launch, argv=argv), wrap=wrap)
    outcome = ended(attempt)
    assert outcome.status == "completed", attempt.files.stream("stderr").read_text()
    assert {one["name"] for one in outcome.result["figures"]} >= {"sha256", "memory_copy", "disk_write"}
    assert attempt.files.read_progress().progress == 100


@needs_bubblewrap
def test_a_workload_of_the_owner_s_runs_in_its_sandbox(stage: Stage, home: Path) -> None:
    """From the file to the output: the hub's parameter comes out of the owner's program, shut in."""
    offers = catalogue(
        home, ECHO.replace('sandbox = "none"', "network = false").replace("gpus = 1", "gpus = 0")
    )
    launch = offers.prepare("echo", {"text": "a b\n'\""}, job_id=stage.job_id, attempt=1, gpus=[])
    attempt = stage.run(launch, wrap=wrap)
    assert ended(attempt).status == "completed"
    assert attempt.files.stream("stdout").read_text() == "a b\n'\"|--n=1|"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a job as somebody else")
def test_the_benchmark_runs_as_the_agent_where_nobody_can_read_the_agent(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is part of the agent: files that other users can't read are no reason to do without it."""
    hidden = tmp_path / "python"
    hidden.symlink_to(sys.executable)
    tmp_path.chmod(0o700)
    monkeypatch.setattr(built_in, "COMMAND", (str(hidden), *built_in.COMMAND[1:]))
    (entry,) = Catalogue.load(None).entries
    assert (entry.user, entry.reason) == (None, None)


def test_an_agent_that_is_not_there_as_a_whole_offers_no_benchmark(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can't even say how it is used is not offered."""
    monkeypatch.setattr(built_in, "COMMAND", (sys.executable, "-m", "no.such.module"))
    (entry,) = Catalogue.load(None).entries
    assert entry.reason is not None
    assert "can't be run" in entry.reason


def test_an_owner_writes_checks_and_lists(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The commands write a file, read it over, and say what it makes this machine offer."""
    path = home / FILE_NAME
    assert main(["workloads", "check"]) == 0
    assert "the built-in benchmark alone" in capfd.readouterr().out
    assert main(["workloads", "init"]) == 0
    assert capfd.readouterr().out.startswith(f"wrote {path}; ")
    assert main(["workloads", "init"]) == 1
    assert "is left as it is" in capfd.readouterr().err
    path.write_text(ECHO + '[workload.lost]\ncommand = ["/no/such"]\nsandbox = "none"\n')
    assert main(["workloads", "check"]) == 0
    assert "it makes 3 workloads" in capfd.readouterr().out
    assert main(["workloads", "list"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == f"file: {path}"
    assert lines[3] == "echo       offered"
    assert lines[4].endswith(" · text, number (1)")
    assert lines[5] == "lost       NOT OFFERED: there is no program /no/such that could be run"
    assert main(["workloads", "list", "--json"]) == 0
    told = {one["name"]: one for one in json.loads(capfd.readouterr().out)["workloads"]}
    assert (told["echo"]["offered"], told["echo"]["sandbox"], told["lost"]["offered"]) == (
        True,
        "none",
        False,
    )


def test_a_wrong_file_ends_the_commands_with_its_sentence(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and line and key on stderr, for check and list alike; so has a file that is not there."""
    (home / FILE_NAME).write_text("[workload.x]\ncomand = 1\n")
    for command in ("check", "list"):
        assert main(["workloads", command]) == 2
        assert "workloads.toml line 2: workload.x.comand: there is no such key" in capfd.readouterr().err
        assert main(["workloads", command, str(home / "other.toml")]) == 2
        assert "there is no" in capfd.readouterr().err


def test_an_agent_says_at_its_start_what_it_does_not_offer(home: Path) -> None:
    """Each workload that can't be run here has its sentence on stderr, and the others are told to the hub."""
    (home / FILE_NAME).write_text(ECHO + '[workload.lost]\ncommand = ["/no/such"]\nsandbox = "none"\n')
    with hub_process(home) as (_, url), running(home, url) as agent:
        agent.complained("the workload lost is not offered: there is no program /no/such")
        told = provider(url, agent.registered())
    # The machine that runs this may have no GPU, of which echo needs one.
    assert {one["name"] for one in told["workloads"]} - {"echo"} == {"benchmark"}


def test_agent_toml_says_where_the_file_is(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The setting is a path beside ``agent.toml``; the file that it names is the one that counts."""
    (home / "agent.toml").write_text('[jobs]\nworkloads_file = "mine.toml"\n')
    (home / "mine.toml").write_text(ECHO)
    assert main(["workloads", "list"]) == 0
    assert capfd.readouterr().out.startswith(f"file: {home / 'mine.toml'}\n")


def test_limits_are_the_owner_s() -> None:
    """A job that says nothing of its time has the workload's limits as they are."""
    launch = DEFINITION.launch({"text": "x"}, job_id="j", attempt=1, gpus=[], wall_seconds=None, user=None)
    assert launch.limits == Limits()


def test_what_is_to_be_hidden_is_hidden_from_each_job() -> None:
    """The files that the agent names, such as the one with its token."""
    offers = Catalogue([DEFINITION], user=None, hidden=["/srv/token"])
    launch = offers.prepare("echo", {"text": "x"}, job_id="job-1", attempt=1, gpus=[])
    assert launch.hidden == ["/srv/token"]
