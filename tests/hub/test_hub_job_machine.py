"""The life of a job, pair by pair."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qubix_tui.hub.job_machine import Facts, Input, step
from qubix_tui.protocol.job_records import JobState

FACTS = [Facts(cancelled=cancelled, may_retry=may) for cancelled in (False, True) for may in (False, True)]
MATRIX = """
                  queued     assigned   running    unknown
assign            assigned   -          -          -
accept            -          running    running    running
refuse            -          again      -          -
accept_timeout    -          again      -          -
heard             -          -          running    running
out_of_reach      -          -          unknown    unknown
completed         -          -          completed  completed
failed            -          -          again      again
stopped           -          -          end        end
unkillable        -          -          failed     failed
lease_over        -          -          end        end
overtime          -          -          running    -
cancel            cancelled  cancelled  running    unknown
"""
"""What the contract says, written by hand: ``again`` is queued or failed, ``end`` is that or cancelled."""


def expected(state: JobState, given_: Input, facts: Facts) -> JobState | None:
    """Read the matrix."""
    head, *rows = MATRIX.strip().splitlines()
    if state.value not in head.split():
        return None
    cells = {row.split()[0]: row.split()[1:] for row in rows}
    word = cells[given_.value][head.split().index(state.value)]
    if word == "end" and facts.cancelled:
        return JobState.CANCELLED
    if word in {"again", "end"}:
        return JobState.QUEUED if facts.may_retry and not facts.cancelled else JobState.FAILED
    return None if word == "-" else JobState(word)


@pytest.mark.parametrize("facts", FACTS, ids=str)
@pytest.mark.parametrize("given_", Input)
@pytest.mark.parametrize("state", JobState)
def test_every_pair_of_state_and_input(state: JobState, given_: Input, facts: Facts) -> None:
    """Seven states and thirteen inputs: each has the outcome of the matrix, and no other."""
    assert step(state, given_, facts) == expected(state, given_, facts)


@pytest.mark.parametrize("given_", Input)
def test_final_states_absorb_everything(given_: Input) -> None:
    """The first final state that is committed stands: nothing leads out of it, nor back into it."""
    for state in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED):
        assert all(step(state, given_, facts) is None for facts in FACTS)


@given(st.lists(st.tuples(st.sampled_from(Input), st.sampled_from(FACTS)), max_size=40))
def test_nothing_runs_that_was_not_accepted(inputs: list[tuple[Input, Facts]]) -> None:
    """Whatever comes in whatever order: since it last waited, a job that runs was assigned, then accepted."""
    state, path = JobState.QUEUED, [JobState.QUEUED]
    for given_, facts in inputs:
        state = step(state, given_, facts) or state
        path.append(state)
        since = path[len(path) - path[::-1].index(JobState.QUEUED) - 1 :]
        if state in {JobState.RUNNING, JobState.UNKNOWN, JobState.COMPLETED}:
            assert since.index(JobState.ASSIGNED) < since.index(JobState.RUNNING)


def test_a_cancelled_job_is_never_tried_again() -> None:
    """Once somebody wants it ended no input puts it back into the queue."""
    for state in JobState:
        for given_ in Input:
            for facts in FACTS:
                if facts.cancelled:
                    assert step(state, given_, facts) is not JobState.QUEUED
