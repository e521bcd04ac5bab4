"""What waits for one reader."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from qubix_tui.hub.outbox import WRITE_AT_ONCE, Outbox
from tests.hub.frames import FakeSocket


class Pages:
    """A page source that gives what it was given."""

    def __init__(self, *pages: bytes) -> None:
        self.pages = list(pages)

    def next_page(self) -> bytes | None:
        return self.pages.pop(0) if self.pages else None


def full(bound: int = 1_000) -> tuple[FakeSocket, Outbox]:
    """An outbox whose socket takes nothing at the moment."""
    socket = FakeSocket()
    outbox = Outbox(socket, bound)
    socket.paused = True
    outbox.hold()
    return socket, outbox


def drain(socket: FakeSocket, outbox: Outbox) -> bytes:
    """Let the socket take everything, and give what it took."""
    socket.written.clear()
    socket.paused = False
    outbox.pump()
    return socket.sent


def test_a_socket_that_takes_all_is_written_to_at_once() -> None:
    """Nothing is kept while the reader keeps up."""
    socket = FakeSocket()
    outbox = Outbox(socket)
    outbox.send(b"a")
    outbox.deliver(b"bc", [(b"b", None), (b"c", "s")])
    assert socket.written == [b"a", b"bc"]
    assert outbox.waiting_bytes == 0


def test_a_full_socket_gets_everything_later_in_order() -> None:
    """Ordered frames wait their turn and go out joined."""
    socket, outbox = full()
    outbox.send(b"a")
    outbox.deliver(b"bc", [(b"b", None), (b"c", None)])
    assert socket.written == []
    assert outbox.waiting_bytes == 3
    assert drain(socket, outbox) == b"abc"
    assert len(socket.written) == 1
    assert outbox.waiting_bytes == 0
    assert not outbox.congested


def test_of_a_subject_only_the_newest_is_kept_in_the_place_of_the_first() -> None:
    """A slow reader gets each subject's newest sample when its turn comes, and all ordered frames."""
    socket, outbox = full()
    for data, subject in [
        (b"x1", "x"),
        (b"e1", None),
        (b"y1", "y"),
        (b"x2", "x"),
        (b"e2", None),
        (b"x3", "x"),
    ]:
        outbox.send(data, subject)
    assert outbox.waiting_bytes == 8
    assert drain(socket, outbox) == b"x3e1y1e2"
    outbox.send(b"x4", "x")
    assert socket.written[-1] == b"x4"


def test_past_the_bound_the_reader_is_cut_and_nothing_is_kept() -> None:
    """The bound holds for what waits; after the cut, frames are dropped."""
    socket, outbox = full(bound=10)
    outbox.send(b"0123456789")
    cut_within_the_bound = socket.cut
    outbox.send(b"x")
    assert (cut_within_the_bound, socket.cut) == (False, True)
    assert outbox.waiting_bytes == 0
    outbox.send(b"y")
    outbox.deliver(b"y", [(b"y", None)])
    outbox.reserve().fill([b"y"])
    outbox.set_background(Pages(b"y"))
    assert drain(socket, outbox) == b""


def test_a_subject_that_grows_past_the_bound_cuts_too() -> None:
    """Replacing a sample by a longer one counts."""
    socket, outbox = full(bound=10)
    outbox.send(b"12345", "x")
    outbox.send(b"123456789ab", "x")
    assert socket.cut


def test_what_comes_after_a_slot_waits_until_it_is_filled() -> None:
    """A reserved place keeps the order, even on a socket that would take everything."""
    socket = FakeSocket()
    outbox = Outbox(socket)
    outbox.send(b"a")
    slot = outbox.reserve()
    outbox.send(b"d")
    assert socket.sent == b"a"
    slot.fill([b"b", b"c"])
    assert socket.sent == b"abcd"
    assert not outbox.congested


def test_pages_of_a_slot_are_made_only_when_the_socket_takes_them_and_do_not_count() -> None:
    """A reader that does not read costs none of its snapshot's memory."""
    made = []

    def pages() -> Iterator[bytes]:
        for number in range(5):
            made.append(number)
            yield b"p" * 1_000

    socket, outbox = full(bound=100)
    outbox.reserve().fill(pages())
    outbox.send(b"after")
    assert made == []
    assert outbox.waiting_bytes == 5
    assert not socket.cut
    assert drain(socket, outbox) == b"p" * 5_000 + b"after"


def test_a_socket_that_fills_up_in_mid_slot_is_written_to_no_more() -> None:
    """Pages stop at once and go on where they were."""

    class OnePage(FakeSocket):
        def write(self, data: bytes) -> None:
            super().write(data)
            self.paused = True

    socket = OnePage()
    outbox = Outbox(socket)
    outbox.reserve().fill([b"a", b"b", b"c"])
    assert socket.written == [b"a"]
    assert outbox.congested
    socket.paused = False
    outbox.pump()
    assert socket.written == [b"a", b"b"]


def test_the_background_comes_last() -> None:
    """Digests are asked for a page only when no event and no slot waits."""
    socket, outbox = full()
    outbox.set_background(Pages(b"digest1", b"digest2"))
    outbox.send(b"event")
    slot = outbox.reserve()
    assert drain(socket, outbox) == b"event"
    slot.fill([b"snapshot"])
    assert socket.sent == b"eventsnapshotdigest1digest2"


def test_small_frames_are_joined_up_to_a_limit() -> None:
    """One write does not put much more into the socket's buffer than that."""
    socket, outbox = full(bound=10 * WRITE_AT_ONCE)
    for _ in range(300):
        outbox.send(b"x" * 1_000)
    drain(socket, outbox)
    assert all(WRITE_AT_ONCE <= len(data) < WRITE_AT_ONCE + 1_000 for data in socket.written[:-1])
    assert sum(map(len, socket.written)) == 300_000


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.none()),
        st.tuples(st.just("send"), st.sampled_from("xyz")),
        st.tuples(st.just("pages"), st.integers(0, 3)),
        st.tuples(st.just("pause"), st.none()),
        st.tuples(st.just("resume"), st.none()),
    ),
    max_size=60,
)


@given(OPERATIONS)
def test_whatever_happens_order_holds_and_only_older_samples_are_left_out(
    operations: list[tuple[str, object]],
) -> None:
    """Every ordered frame and page comes once and in order; of each subject, the last sample comes."""
    socket = FakeSocket()
    outbox = Outbox(socket, 10_000)
    ordered: list[bytes] = []
    newest: dict[bytes, bytes] = {}
    for number, (operation, argument) in enumerate(operations):
        frame = b"%04d" % number
        if operation == "send" and argument is None:
            outbox.send(b"o" + frame)
            ordered.append(b"o" + frame)
        elif operation == "send":
            subject = str(argument)
            outbox.send(subject.encode() + frame, subject)
            newest[subject.encode()] = subject.encode() + frame
        elif operation == "pages":
            assert isinstance(argument, int)
            pages = [b"o%02d%02d" % (number, page) for page in range(argument)]
            outbox.reserve().fill(pages)
            ordered.extend(pages)
        elif operation == "pause":
            socket.paused = True
            outbox.hold()
        elif operation == "resume" and socket.paused:
            socket.paused = False
            outbox.pump()
    socket.paused = False
    outbox.pump()
    got = [socket.sent[start : start + 5] for start in range(0, len(socket.sent), 5)]
    assert [frame for frame in got if frame.startswith(b"o")] == ordered
    for name, last in newest.items():
        samples = [frame for frame in got if frame.startswith(name)]
        assert samples[-1] == last
        assert samples == sorted(set(samples))
    assert outbox.waiting_bytes == 0
    assert not outbox.congested
