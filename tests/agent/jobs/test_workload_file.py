"""What an owner may write in ``workloads.toml``, and the sentence for whatever else is in it."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.jobs import workload_file
from agent.jobs.definition import Definition
from agent.jobs.launch import Limits, ProgressSource
from agent.jobs.workload_schema import SCHEMA
from agent.jobs.workload_template import template
from qubix_tui.protocol.errors import ProtocolError
from qubix_tui.protocol.params import check_params
from qubix_tui.protocol.records import WorkloadParam
from qubix_tui.settings.document import Document
from qubix_tui.settings.schema import SettingsError

DIGEST = "a" * 64

WHOLE = f"""\
benchmark = false

[workload.train]
description = "Trains."
command = ["/opt/train", "--epochs={{epochs}}", "--name", "{{name}}", "{{{{}}}}"]
gpus = 2
sandbox = "container"
image = "docker.io/library/train:1@sha256:{DIGEST}"
network = true
read = ["/srv/models"]
progress = {{ regex = '(?P<done>[0-9]+)/(?P<total>[0-9]+)' }}
no_progress_seconds = 600
grace_seconds = 30

[workload.train.limits]
memory_mb = 512
cpu_cores = 2
cpu_seconds = 100
wall_seconds = 200.5
log_mb = 0.5
processes = 10
open_files = 100

[workload.train.environment]
SEED = "{{seed}}"

[workload.train.parameters.epochs]
type = "integer"
min = 1
max = 10
default = 3

[workload.train.parameters.name]
type = "string"
pattern = "[a-z]+"

[workload.train.parameters.seed]
type = "number"
choices = [1, 2.5]
"""


def parse(text: str) -> workload_file.WorkloadFile:
    """What the file ``w.toml`` with this text says."""
    return workload_file.parse(Document(text, "w.toml"))


def complaint(text: str) -> str:
    """The sentence for a file with this text."""
    with pytest.raises(SettingsError) as caught:
        parse(text)
    return str(caught.value)


def test_every_key_is_taken() -> None:
    """A file with every key gives a definition with every value."""
    file = parse(WHOLE)
    assert file.benchmark is False
    assert file.workloads == (
        Definition(
            name="train",
            description="Trains.",
            command=("/opt/train", "--epochs={epochs}", "--name", "{name}", "{{}}"),
            params=(
                WorkloadParam(name="epochs", type="integer", min=1, max=10, default=3),
                WorkloadParam(name="name", type="string", pattern="[a-z]+"),
                WorkloadParam(name="seed", type="number", choices=[1, 2.5]),
            ),
            environment={"SEED": "{seed}"},
            gpus=2,
            limits=Limits(
                memory_bytes=512 * 1024 * 1024,
                cpu_cores=2,
                cpu_seconds=100,
                wall_seconds=200.5,
                log_bytes=512 * 1024,
                max_processes=10,
                open_files=100,
            ),
            progress=ProgressSource(kind="regex", pattern="(?P<done>[0-9]+)/(?P<total>[0-9]+)"),
            no_progress_seconds=600,
            sandbox="container",
            image=f"docker.io/library/train:1@sha256:{DIGEST}",
            network=True,
            read=("/srv/models",),
            grace_seconds=30,
        ),
    )


def test_what_is_not_said_is_the_careful_choice() -> None:
    """Without a word a workload is shut in, has no network and no GPU, and is limited in its output alone."""
    assert parse("").benchmark is True
    (found,) = parse('[workload.x]\ncommand = ["true"]').workloads
    assert (found.sandbox, found.network, found.gpus, found.limits) == ("bubblewrap", False, 0, Limits())
    assert found.progress == ProgressSource(kind="json")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('"json"', ProgressSource(kind="json")),
        ('"tqdm"', ProgressSource(kind="tqdm")),
        ('"none"', ProgressSource(kind="none")),
        ('{ fraction_file = "a/b" }', ProgressSource(kind="fraction_file", path="a/b")),
        ('{ regex = "([0-9]+)%" }', ProgressSource(kind="regex", pattern="([0-9]+)%")),
        ('{ regex = "(?P<fraction>.*)" }', ProgressSource(kind="regex", pattern="(?P<fraction>.*)")),
    ],
)
def test_progress_has_its_forms(value: str, expected: ProgressSource) -> None:
    """A word, a file or a pattern say where progress is read."""
    (found,) = parse(f'[workload.x]\ncommand = ["true"]\nprogress = {value}').workloads
    assert found.progress == expected


X = '[workload.x]\ncommand = ["true", "{p}"]\n'
P = f"{X}[workload.x.parameters.p]\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a = = 1", r"w\.toml line 1: no TOML: .*"),
        ("benchmark = 1", r"w\.toml line 1: benchmark: expected true or false, not 1"),
        ("\nworkloads = 1", r"w\.toml line 2: workloads: there is no such key; did you mean workload\?"),
        ("workload = 3", r"w\.toml line 1: workload: expected a table, \[workload\], not 3"),
        ("[workload]\nx = 3", r"w\.toml line 2: workload\.x: expected a table, .*not 3"),
        ('[workload."a b"]', r'w\.toml line 1: workload\.a b: expected a name of .*, not "a b"'),
        (
            "[workload.benchmark]",
            r"w\.toml line 1: workload\.benchmark: this name is the built-in workload's.*",
        ),
        ("[workload.x]", r"w\.toml line 1: workload\.x\.command: expected the program and its arguments.*"),
        ("[workload.x]\ncommand = []", r"w\.toml line 2: workload\.x\.command: expected the program.*"),
        ('[workload.x]\ncommand = [""]', r"w\.toml line 2: workload\.x\.command: expected the program.*"),
        (
            '[workload.x]\ncommand = "true"',
            r"w\.toml line 2: workload\.x\.command: expected a list of texts.*",
        ),
        ('[workload.x]\ncomand = ["true"]', r"w\.toml line 2: .*comand: there is no such key; .*command\?"),
        (
            '[workload.x]\ncommand = ["{p}"]',
            r"w\.toml line 2: .*\{p\} is the place of a parameter that is not .*",
        ),
        ('[workload.x]\ncommand = ["a", "{"]', r"w\.toml line 2: .*a single \{ is no place.*"),
        (
            f'{P}type = "string"\n[workload.x.environment]\nE = "}}"',
            r"w\.toml line 6: .*a single \} is no .*",
        ),
        (
            '[workload.x]\ncommand = ["{p}"]\n[workload.x.parameters.p]\ntype = "string"',
            r"w\.toml line 2: .*the program itself is not for a parameter to choose",
        ),
        (
            '[workload.x]\ncommand = ["true"]\n[workload.x.parameters.p]\ntype = "string"',
            r"w\.toml line 3: workload\.x\.parameters\.p: .*no place \{p\} for it",
        ),
        (
            f"{X}gpus = -1",
            r'w\.toml line 3: workload\.x\.gpus: expected a whole number from 0 .*"all", not -1',
        ),
        (f'{X}sandbox = "jail"', r'w\.toml line 3: .*sandbox: expected .*"bubblewrap".*, not "jail"'),
        (f'{X}sandbox = "container"', r"w\.toml line 1: .*image: expected an image with its digest.*"),
        (
            f'{X}sandbox = "container"\nimage = "x:latest"',
            r"w\.toml line 4: .*image: expected an image with.*",
        ),
        (
            f'{X}image = "x@sha256:{DIGEST}"',
            r'w\.toml line 3: .*image: an image is of sandbox = "container".*',
        ),
        (f'{X}sandbox = "none"\nnetwork = false', r'w\.toml line 4: .*network: sandbox = "none" withholds.*'),
        (f'{X}read = ["a"]', r'w\.toml line 3: .*read: expected absolute paths .*, not "a"'),
        (f'{X}read = ["/a/../b"]', r"w\.toml line 3: .*read: expected absolute paths .*"),
        (f'{X}progress = "percent"', r'w\.toml line 3: .*progress: expected "json", .*, not "percent"'),
        (f"{X}progress = {{ regex = 'x' }}", r"w\.toml line 3: .*progress: regex needs a group.*"),
        (f"{X}progress = {{ regex = '(' }}", r"w\.toml line 3: .*progress: no regular expression: .*"),
        (
            f"{X}progress = {{ fraction_file = '/etc/passwd' }}",
            r"w\.toml line 3: .*inside the job's working .*",
        ),
        (f"{X}progress = {{ regex = 'x', a = 1 }}", r"w\.toml line 3: .*progress: expected .*"),
        (
            f"{X}no_progress_seconds = 0",
            r"w\.toml line 3: .*no_progress_seconds: expected a number above 0 .*",
        ),
        (
            f'{X}limits = {{ memory_mb = "1G" }}',
            r'w\.toml line 3: .*memory_mb: expected a whole number .*"1G"',
        ),
        (f"{X}limits = 1", r"w\.toml line 3: workload\.x\.limits: expected a table, .*"),
        (f'{X}environment = {{ "A-B" = "" }}', r"w\.toml line 3: .*A-B: the name of a variable has .*"),
        (
            f'{X}environment = {{ QUBIX_X = "" }}',
            r"w\.toml line 3: .*QUBIX_X: the agent sets this one itself",
        ),
        (f"{X}environment = {{ A = 1 }}", r"w\.toml line 3: .*A: expected a text in quotes, .*, not 1"),
        (f"{P}default = 1", r'w\.toml line 3: .*p\.type: expected "boolean" or "integer" .*'),
        (f'{P}type = "text"', r'w\.toml line 4: .*p\.type: expected .*, not "text"'),
        (f'{P}type = "string"\nmin = 1', r"w\.toml line 5: .*p\.min: a parameter of type string has no min"),
        (
            f'{P}type = "integer"\npattern = "x"',
            r"w\.toml line 5: .*p\.pattern: .*type integer has no pattern",
        ),
        (f'{P}type = "integer"\nmin = 2\nmax = 1', r"w\.toml line 5: .*p\.min: it is more than max"),
        (f'{P}type = "string"\npattern = "("', r"w\.toml line 5: .*p\.pattern: no regular expression: .*"),
        (f'{P}type = "string"\nchoices = []', r"w\.toml line 5: .*p\.choices: expected at least one"),
        (
            f'{P}type = "integer"\nchoices = ["a"]',
            r"w\.toml line 5: .*p\.choices: p: expected a whole number.*",
        ),
        (
            f'{P}type = "integer"\nmin = 1\ndefault = 0',
            r"w\.toml line 6: .*p\.default: p: expected at least 1.*",
        ),
        (f'{P}type = "string"\ndefault = "-x"', r"w\.toml line 5: .*p\.default: .*can't begin with .*"),
        (f'{P}type = "string"\npatern = "x"', r"w\.toml line 5: .*patern: there is no such key; .*pattern\?"),
    ],
)
def test_each_error_names_line_key_and_what_was_expected(text: str, sentence: str) -> None:
    """One sentence, with the line of the key, the key, and what to write there."""
    found = complaint(text)
    assert re.fullmatch(sentence, found), found


def test_control_characters_never_reach_a_terminal() -> None:
    """What a file holds is made harmless before it is in a sentence."""
    assert "\x1b" not in complaint('[workload."\\u001b[2J"]')
    assert "\x1b" not in complaint('[workload.x]\ncommand = ["true"]\ndescription = "\\u001b[2J"')


JSONISH = st.recursive(
    st.one_of(
        st.integers(-(2**63), 2**63 - 1), st.booleans(), st.text(max_size=5), st.floats(allow_nan=False)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
KEYS = st.sampled_from(
    [key.partition(".")[2] for key in SCHEMA.settings] + ["parameters", "limits", "environment", "p", "other"]
)
CONTENT = st.dictionaries(
    KEYS,
    st.one_of(JSONISH, st.dictionaries(KEYS, st.one_of(JSONISH, st.dictionaries(KEYS, JSONISH)))),
    max_size=4,
)


@given(CONTENT)
def test_whatever_a_file_holds_is_taken_or_refused(content: dict[str, Any]) -> None:
    """No content makes the reader fail in another way than with a sentence of its own."""
    file = Document("", "w.toml")
    file.content = {"workload": {"x": {"command": ["true", "{p}"], **content}}}
    try:
        found = workload_file.parse(file)
        said = found.workloads[0].record().name
    except SettingsError as error:
        said = str(error)
    assert said == "x" or said.startswith("w.toml: workload.x")


@given(
    kind=st.sampled_from(["string", "integer", "number", "boolean"]),
    bounds=st.tuples(st.integers(-5, 5), st.integers(-5, 5)),
    value=st.one_of(st.integers(-9, 9), st.floats(), st.text(max_size=5), st.booleans(), st.none()),
)
def test_a_default_is_what_a_job_could_have_given(kind: str, bounds: tuple[int, int], value: Any) -> None:
    """A declaration is read exactly where the hub's and the agent's own check takes its default."""
    table = {"type": kind, **({"min": bounds[0], "max": bounds[1]} if kind in {"integer", "number"} else {})}
    file = Document("", "w.toml")
    definition = {"command": ["true", "{p}"], "parameters": {"p": table}}
    file.content = {"workload": {"x": definition}}
    if bounds[0] > bounds[1] and "min" in table:
        with pytest.raises(SettingsError, match="more than max"):
            workload_file.parse(file)
        return
    record = workload_file.parse(file).workloads[0].record()
    try:
        check_params(record, {"p": value})
        is_taken = True
    except ProtocolError:
        is_taken = False
    if value is None:
        return
    table["default"] = value
    if is_taken:
        assert workload_file.parse(file).workloads[0].params[0].default == value
    else:
        with pytest.raises(SettingsError):
            workload_file.parse(file)


def test_the_file_to_begin_with_allows_nothing_and_shows_what_works() -> None:
    """As it is written it offers nothing of the owner's; its example, uncommented, is a workload."""
    text = template()
    assert parse(text) == workload_file.WorkloadFile()
    example = re.sub(r"^#(\[|\w+ = )", r"\1", text, flags=re.MULTILINE)
    (found,) = parse(example).workloads
    assert found.name == "count"
    for key in SCHEMA.settings:
        assert f"#   {key.partition('.')[2]} = " in text


def test_a_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    """What is in it is run: others may write neither it nor its directory, and it says how to mend that."""
    path = tmp_path / "workloads.toml"
    path.write_text('[workload.x]\ncommand = ["true"]\n')
    tmp_path.chmod(0o755)
    for wrong, mode, right in ((path, 0o666, 0o644), (tmp_path, 0o777, 0o755)):
        wrong.chmod(mode)
        with pytest.raises(SettingsError, match=f"others may write {wrong}, .*`chmod go-w {wrong}`"):
            workload_file.read(path)
        wrong.chmod(right)
    assert len(workload_file.read(path).workloads) == 1
    tmp_path.chmod(0o1777)
    assert len(workload_file.read(path).workloads) == 1, "as in /tmp, nobody can replace it"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """Nor may it belong to anybody but root and the agent's user; what is root's, its group may not write."""
    path = tmp_path / "workloads.toml"
    path.write_text("")
    os.chown(path, 65534, 65534)
    with pytest.raises(SettingsError, match=r"is user 65534's, .*`chown 0 "):
        workload_file.read(path)
    os.chown(path, 0, 0)
    path.chmod(0o664)
    with pytest.raises(SettingsError, match="others may write"):
        workload_file.read(path)


def test_a_file_that_is_not_there_is_said_with_the_remedy(tmp_path: Path) -> None:
    """The sentence names the command that writes one."""
    with pytest.raises(SettingsError, match=r"there is no .*; `qubix-agent workloads init .*` writes one"):
        workload_file.read(tmp_path / "workloads.toml")
