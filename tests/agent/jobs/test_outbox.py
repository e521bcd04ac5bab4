"""Messages of an attempt: numbered once, the same whenever they are sent again, gone when acknowledged."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.jobs.files import Ended, Files
from agent.jobs.outbox import AFTER_REBOOT, COMPACT_BYTES, Completion, Logs, Outbox, Progress
from agent.jobs.output import Kept
from agent.jobs.progress import Report
from agent.jobs.reporter import MAX_CHUNK_BYTES, Reporter, piece
from qubix_tui.protocol.requests import ReportLogs


def logs(end: int) -> Logs:
    """A piece of output."""
    return Logs(stream="stdout", start=end - 1, end=end)


def test_it_survives_its_agent(tmp_path: Path) -> None:
    """What was numbered and not acknowledged is there after a restart, with its number, and nothing else."""
    outbox = Outbox(tmp_path / "outbox", "boot")
    for end in range(1, 6):
        assert outbox.add(logs(end)) == end
    outbox.add(Progress(report=Report(progress=5, source="reported")))
    outbox.acknowledge(3)
    again = Outbox(tmp_path / "outbox", "boot")
    assert again.unacknowledged == outbox.unacknowledged
    assert list(again.unacknowledged) == [4, 5, 6]
    assert (again.last_seq, again.offsets, again.report.progress) == (6, {"stdout": 5, "stderr": 0}, 5)
    assert [seq for seq, _ in again.after(4)] == [5, 6]
    assert again.add(Completion()) == 7
    assert Outbox(tmp_path / "outbox", "boot").completed


def test_after_a_reboot_numbers_jump(tmp_path: Path) -> None:
    """The disk may have lost the last messages that the hub got: new ones have numbers that it never saw."""
    Outbox(tmp_path / "outbox", "boot").add(logs(1))
    again = Outbox(tmp_path / "outbox", "another boot")
    assert again.add(Completion()) == 2 + AFTER_REBOOT
    assert Outbox(tmp_path / "outbox", "another boot").last_seq == 2 + AFTER_REBOOT


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_line_that_was_cut_short_was_not_sent(tmp_path: Path, cut: int) -> None:
    """A machine that lost power in the middle of a line: that message is numbered again, the others stand."""
    path = tmp_path / "outbox"
    outbox = Outbox(path, "boot")
    outbox.add(logs(1))
    outbox.add(logs(2))
    path.write_bytes(path.read_bytes()[:-cut])
    again = Outbox(path, "boot")
    assert list(again.unacknowledged) == [1]
    assert again.add(logs(2)) == 2
    assert list(Outbox(path, "boot").unacknowledged) == [1, 2]


def test_it_does_not_grow(tmp_path: Path) -> None:
    """However many messages went through it, its file stays small."""
    outbox = Outbox(tmp_path / "outbox", "boot")
    for end in range(1, 3000):
        outbox.acknowledge(outbox.add(logs(end)))
    assert (tmp_path / "outbox").stat().st_size <= COMPACT_BYTES + 1024
    assert Outbox(tmp_path / "outbox", "boot").offsets["stdout"] == 2999


@given(st.lists(st.sampled_from(["add", "ack", "aside", "restart"]), max_size=30), st.data())
def test_it_forgets_and_invents_nothing(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], data: st.DataObject
) -> None:
    """Whatever the order of sending, acknowledging and restarting, exactly what is due is kept."""
    path = tmp_path_factory.mktemp("outbox") / "outbox"
    outbox, expected, last = Outbox(path, "boot"), {}, 0
    for step in steps:
        match step:
            case "add":
                last += 1
                expected[last] = logs(last)
                assert outbox.add(logs(last)) == last
            case "ack":
                seq = data.draw(st.integers(0, last + 1))
                outbox.acknowledge(seq)
                expected = {number: item for number, item in expected.items() if number > seq}
            case "aside":
                seq = data.draw(st.integers(0, last + 1))
                outbox.set_aside(seq)
                expected.pop(seq, None)
            case "restart":
                outbox = Outbox(path, "boot")
        assert outbox.unacknowledged == expected
        assert outbox.last_seq == last


@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode), st.booleans())
def test_pieces_end_at_the_end_of_a_character(raw: bytes, final: bool) -> None:
    """A piece stands for exactly its bytes, and what is held back is the beginning of one character."""
    text, used = piece(raw, final=final)
    assert text == raw[:used].decode(errors="replace")
    assert used == len(raw) if final else len(raw) - used <= 3


@pytest.mark.parametrize("character", ["a", "ü", "�", "\x00", '"', "🎈"])
def test_pieces_fit_into_a_message(character: str) -> None:
    """What takes more room as it is encoded is cut into shorter pieces."""
    raw = (character * MAX_CHUNK_BYTES).encode()
    text, used = piece(raw, final=True)
    assert 0 < used <= len(raw)
    assert text == raw[:used].decode()


@given(st.binary(max_size=5000), st.integers(0, 400), st.integers(0, 400))
def test_every_byte_is_told_or_counted(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes, head: int, tail: int
) -> None:
    """Whatever part of a stream was kept, the messages tell it in order and count the rest."""
    files = Files(tmp_path_factory.mktemp("attempt"))
    head, tail = min(head, len(raw)), min(tail, max(len(raw) - head, 0))
    files.stream("stdout").write_bytes(raw[:head])
    files.tail("stdout").write_bytes(raw[len(raw) - tail :])
    if head == len(raw):
        tail = 0
    outbox = Outbox(files.directory / "outbox", "boot")
    reporter = Reporter("job", 1, files, outbox)
    end = Ended(status="completed", stdout=Kept(total=len(raw), head=head, tail=tail))
    position = dropped = 0
    while isinstance(item := reporter.next_item(0, end), Logs):
        _, message = reporter.message(outbox.add(item), item, end)
        assert message == reporter.message(message.seq, item, end)[1]
        assert item.start == position + item.dropped
        assert isinstance(message, ReportLogs)
        assert message.text == raw[item.start : item.end].decode(errors="replace")
        position, dropped = item.end, dropped + item.dropped
    assert (position, dropped) == (len(raw), len(raw) - head - tail)
    assert isinstance(item, Completion)
