"""When a worker is started again, when it hangs, how long newcomers wait for it: by a clock moved by hand."""

import pytest

from qubix_tui.cli.worker_rules import LONGEST_PAUSE, STEADY_SECONDS, WAIT_SECONDS, Attendance

SILENCE = 8.0


@pytest.fixture
def worker() -> Attendance:
    """One that serves since 100 s."""
    made = Attendance(SILENCE)
    made.started()
    made.ready(100.0)
    return made


def test_a_worker_is_started_at_once() -> None:
    """It is due from the beginning, and nothing else is; while it starts, nothing is."""
    made = Attendance(SILENCE)
    assert made.next_moment() == made.start_at == 0
    assert not made.serves
    made.started()
    assert made.next_moment() is None


def test_the_first_end_costs_no_pause_and_each_further_one_twice_as_much(worker: Attendance) -> None:
    """Up to the longest pause, where it stays; and it is due when the pause is over."""
    pauses = []
    for now in range(101, 111):
        pauses.append(worker.ended(now))
        assert worker.start_at == now + pauses[-1]
        worker.started()
        worker.ready(now)
    assert pauses == [0, 0.5, 1, 2, 4, *[LONGEST_PAUSE] * 5]


def test_what_has_served_for_long_begins_anew(worker: Attendance) -> None:
    """An end after steady service is a first one again, whatever was before; one a moment sooner is not."""
    assert worker.ended(101) == 0
    worker.started()
    worker.ready(101)
    assert worker.ended(101 + STEADY_SECONDS - 0.1) == 0.5
    worker.started()
    worker.ready(200)
    assert worker.ended(200 + STEADY_SECONDS) == 0


def test_one_that_never_serves_is_no_steady_one() -> None:
    """However long its starts take."""
    made = Attendance(SILENCE)
    for now, pause in ((1000, 0), (2000, 0.5), (3000, 1)):
        made.started()
        assert made.ended(now) == pause


def test_silence_is_counted_from_the_last_word(worker: Attendance) -> None:
    """While it serves, and while it lets clients leave; not while it starts, nor once it is gone."""
    seen = [worker.hangs_at]
    worker.heard(103)
    assert worker.next_moment() == 103 + SILENCE
    worker.leaves()
    seen.append(worker.hangs_at)
    worker.ended(104)
    seen.append(worker.hangs_at)
    worker.started()
    seen.append(worker.hangs_at)
    assert seen == [100 + SILENCE, 103 + SILENCE, None, None]


def test_newcomers_wait_for_a_while_and_then_no_more(worker: Attendance) -> None:
    """From its end on, through any starts that come to nothing, until it serves or they were let go."""
    worker.ended(110)
    worker.started()
    worker.ended(111)
    assert worker.give_up_at == 110 + WAIT_SECONDS
    worker.given_up()
    worker.started()
    worker.ended(114)
    waits = [worker.give_up_at]
    worker.started()
    worker.ready(115)
    worker.ended(116)
    waits.append(worker.give_up_at)
    worker.started()
    worker.ready(116.5)
    assert [*waits, worker.give_up_at] == [None, 116 + WAIT_SECONDS, None]


def test_nobody_waits_for_one_that_leaves(worker: Attendance) -> None:
    """Its newcomers were left to the others when it began to; it serves nobody new, and is started again."""
    assert worker.serves
    worker.leaves()
    states = [worker.serves]
    assert worker.ended(105) == 0
    assert worker.give_up_at is None
    worker.started()
    worker.ready(106)
    assert [*states, worker.serves] == [False, True]
