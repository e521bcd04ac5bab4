"""What a job says of its progress: every way to say it, and everything that is no way to."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.jobs.launch import ProgressSource
from agent.jobs.progress import MAX_LINE_BYTES, MAX_READ_BYTES, PROGRESS_FILE, Report, parse_line, reader_of

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
SAID = st.fixed_dictionaries({}, optional={"progress": ANY_JSON, "message": ANY_JSON, "etaSeconds": ANY_JSON})


def is_sound(report: Report) -> bool:
    """Whether the wire takes it."""
    return (
        (report.progress is None or 0 <= report.progress <= 100)
        and (report.message is None or (report.message.isprintable() and len(report.message) <= 200))
        and (report.eta is None or 0 <= report.eta < 2**53)
        and (report.progress is None) == (report.source == "none")
    )


@given(st.binary() | SAID.map(lambda said: json.dumps(said).encode()))
def test_no_line_breaks_it(line: bytes) -> None:
    """Whatever a line holds, what comes of it is a report that the wire takes."""
    report = parse_line(line, Report())
    assert report.message is None or "\n" not in report.message
    assert report.progress is None or 0 <= report.progress <= 100
    assert (report.progress is None) == (report.source == "none")
    assert report.eta is None or 0 <= report.eta < 2**53


@given(st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=300))
def test_numbers_are_clamped_and_words_made_one_line(progress: float, message: str) -> None:
    """A number becomes a percentage, a text one harmless line of at most 200 characters."""
    report = parse_line(json.dumps({"progress": progress, "message": message}).encode(), Report())
    assert report.progress == round(min(max(progress, 0), 100), 1)
    assert len(report.message or "") <= 200


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            b'{"progress": 42.54, "message": "epoch 3"}',
            Report(progress=42.5, message="epoch 3", source="reported"),
        ),
        (b'{"progress": 0}', Report(progress=0, message="before", source="reported")),
        (b'{"message": "loading"}', Report(progress=1, message="loading", source="reported")),
        (b'{"progress": null}', Report(message="before")),
        (b'{"progress": "12"}', Report(message="before")),
        (b'{"progress": true}', Report(message="before")),
        (
            b'{"progress": 5, "etaSeconds": 61}',
            Report(progress=5, message="before", source="reported", eta=61),
        ),
        (b'{"progress": 1e999}', Report(progress=1, message="before", source="reported")),
        (b"17", Report(progress=1, message="before", source="reported")),
        (b"[" * 5000, Report(progress=1, message="before", source="reported")),
        (b"\xff\xfe", Report(progress=1, message="before", source="reported")),
    ],
)
def test_lines_of_json(line: bytes, expected: Report) -> None:
    """What a line does not say stays as it was; what makes no sense changes nothing."""
    assert parse_line(line, Report(progress=1, message="before", source="reported")) == expected


def test_a_file_is_read_as_it_grows(tmp_path: Path) -> None:
    """Whole lines count, the last one first; a line that is too long and a file begun anew are no trouble."""
    reader = reader_of(ProgressSource(), tmp_path)
    assert reader.read() == Report()
    path = tmp_path / PROGRESS_FILE
    path.write_text('{"progress": 1}\n{"progress": 2}\n{"progr')
    assert reader.read().progress == 2
    with path.open("a") as file:
        file.write('ess": 3}\n')
    assert reader.read().progress == 3
    with path.open("a") as file:
        file.write("x" * (MAX_LINE_BYTES + 100))
    assert reader.read().progress == 3
    with path.open("a") as file:
        file.write('\n{"progress": 4}\n')
    assert reader.read().progress == 4
    path.write_text('{"progress": 5}\n')
    assert reader.read().progress == 5
    with path.open("a") as file:
        file.write('{"progress": 6}\n' * (MAX_READ_BYTES // 8) + '{"progress": 7}\n')
    assert reader.read().progress == 7


@pytest.mark.parametrize("make", ["symbolic", "hard", "pipe", "directory"])
def test_only_a_file_of_its_own_is_read(tmp_path: Path, make: str) -> None:
    """A link to a file of somebody else's, a pipe, a directory: not read, and not waited for."""
    secret = tmp_path / "secret"
    secret.write_text('{"progress": 66}\n')
    work = tmp_path / "work"
    work.mkdir()
    path = work / PROGRESS_FILE
    match make:
        case "symbolic":
            path.symlink_to(secret)
        case "hard":
            path.hardlink_to(secret)
        case "pipe":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
    assert reader_of(ProgressSource(), work).read() == Report()
    (work / "sub").symlink_to(tmp_path)
    source = ProgressSource(kind="fraction_file", path="sub/secret")
    secret.write_text("0.5")
    assert reader_of(source, work).read() == Report()


@pytest.mark.parametrize(
    ("content", "progress"),
    [(b"0.425", 42.5), (b" 1\n", 100), (b"7", 100), (b"-1", 0), (b"nan", None), (b"", None), (b"half", None)],
)
def test_a_fraction_file(tmp_path: Path, content: bytes, progress: float | None) -> None:
    """A number from 0 to 1 in a file, below the working directory if need be."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "fraction").write_bytes(content)
    reader = reader_of(ProgressSource(kind="fraction_file", path="out/fraction"), tmp_path)
    assert reader.read().progress == progress
    (tmp_path / "out" / "fraction").write_bytes(b"gone wrong")
    assert reader.read().progress == progress


@pytest.mark.parametrize(
    ("pattern", "output", "progress", "message"),
    [
        (r"(\d+)%", b"5%\n10%\nother\n", 10, None),
        (r"(?P<percent>[\d.]+)% (?P<message>.*)", b"12.5% of \x1bit\n", 12.5, "of �it"),
        (r"at (?P<fraction>[\d.]+)", b"at 0.25\n", 25, None),
        (r"(?P<done>\d+)/(?P<total>\d+)", b"3/12\n", 25, None),
        (r"(?P<done>\d+)/(?P<total>\d+)", b"3/0\n", None, None),
        (r"none", b"none\n", None, None),
        (r"(\w+)", b"word\n", None, None),
    ],
)
def test_a_pattern(
    tmp_path: Path, pattern: str, output: bytes, progress: float | None, message: str | None
) -> None:
    """The newest line that the pattern finds a number in."""
    reader = reader_of(ProgressSource(kind="regex", pattern=pattern), tmp_path)
    reader.feed("stdout", output)
    report = reader.read()
    assert (report.progress, report.message) == (progress, message)
    reader.feed("stderr", b"nothing of the kind")
    assert reader.read() == report


def test_bars_of_tqdm(tmp_path: Path) -> None:
    """A bar that is redrawn in place: its percentage, its description, the time that it says is left."""
    reader = reader_of(ProgressSource(kind="tqdm"), tmp_path)
    reader.feed("stderr", b"\repoch 3:   0%|          | 0/120 [00:00<?, ?it/s]")
    first = reader.read()
    assert (first.progress, first.message, first.eta) == (0, "epoch 3", None)
    reader.feed("stderr", "\repoch 3:  42%|████▏     | 50/120 [00:10<01:14,".encode())
    reader.feed("stderr", b"  4.94it/s]")
    report = reader.read()
    assert (report.progress, report.message, report.eta, report.source) == (42, "epoch 3", 74, "parsed")


@given(st.lists(st.binary(max_size=200) | st.just(b"\r 50%|#| 1/2 [00:01<00:01]\n"), max_size=10))
def test_no_output_breaks_the_bars(chunks: list[bytes]) -> None:
    """Whatever a job prints, what is read of it is a report that the wire takes."""
    reader = reader_of(ProgressSource(kind="tqdm"), Path("/nonexistent"))
    for chunk in chunks:
        reader.feed("stdout", chunk)
        assert is_sound(reader.read())


def test_a_pattern_that_explodes_is_given_up(tmp_path: Path) -> None:
    """A search that would not end is broken off, and after the third the pattern is not tried again."""
    reader = reader_of(ProgressSource(kind="regex", pattern=r"(a+)+b|(?P<percent>\d+)%"), tmp_path)
    reader.feed("stdout", b"7%\n")
    assert reader.read().progress == 7
    for _ in range(3):
        reader.feed("stdout", b"a" * 4000 + b"\n")
        assert reader.read().progress == 7
    reader.feed("stdout", b"8%\n")
    assert reader.read().progress == 7


def test_a_silent_source_invents_nothing(tmp_path: Path) -> None:
    """Without a source there is no percentage, whatever is printed."""
    reader = reader_of(ProgressSource(kind="none"), tmp_path)
    reader.feed("stdout", b"50%|#")
    assert reader.read() == Report()
