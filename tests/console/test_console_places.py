"""The way through the console's views, and back."""

from qubix_tui.console.places import MOST_KEPT, Place, Trail

FLEET, RIG, EVENTS, OF_RIG = (
    Place("fleet"),
    Place("fleet", "rig-41"),
    Place("events"),
    Place("events", "rig-41"),
)


def test_back_goes_the_way_one_came() -> None:
    """Each step back is the place before, down to where one began; there the way ends."""
    trail = Trail(FLEET)
    for place in (RIG, OF_RIG, EVENTS):
        trail.go(place)
    assert [trail.back(), trail.back(), trail.back(), trail.back()] == [OF_RIG, RIG, FLEET, None]
    assert trail.here == FLEET


def test_the_first_view_is_where_ways_begin() -> None:
    """Who goes there has no way back from it, but can toggle."""
    trail = Trail(FLEET)
    trail.go(EVENTS)
    trail.go(FLEET)
    assert trail.back() is None
    assert trail.before == EVENTS


def test_before_is_what_one_toggles_with() -> None:
    """Going to where one was before, again and again, alternates between two places."""
    trail = Trail(FLEET)
    trail.go(RIG)
    trail.go(EVENTS)
    for expected in (RIG, EVENTS, RIG):
        assert trail.before == expected
        trail.go(trail.before)
    trail.back()
    assert trail.before == RIG


def test_going_nowhere_is_no_step() -> None:
    """To the place where one is leads no further."""
    trail = Trail(FLEET)
    trail.go(RIG)
    trail.go(RIG)
    assert trail.back() == FLEET


def test_the_way_is_not_kept_without_end() -> None:
    """A day of going to and fro does not grow."""
    trail = Trail(FLEET)
    for number in range(3 * MOST_KEPT):
        trail.go(Place("fleet", f"n{number}"))
    steps = 0
    while trail.back() is not None:
        steps += 1
    assert steps == MOST_KEPT
