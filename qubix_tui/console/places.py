"""Where one is in the console, and the way back. No Textual in it."""

from typing import Final, NamedTuple

MOST_KEPT: Final = 50
"""Steps of the way back."""


class Place(NamedTuple):
    """A view, and what of it is looked at: enough to come back to, or to send somebody to."""

    view: str
    """Name of the view: ``fleet``, ``events`` and so on."""
    subject: str | None = None
    """Id of the provider or job, or a filter of events; None for the view itself."""


class Trail:
    """The places where one was, newest last.

    Args:
        here: Where it begins.
    """

    def __init__(self, here: Place) -> None:
        self._home = here
        self.here = here
        self.before: Place | None = None
        """Where one was before this: what one toggles with."""
        self._back: list[Place] = []

    def go(self, place: Place) -> None:
        """Note that somebody went to a place. The view that it all begins with has no way back."""
        if place == self.here:
            return
        self.before = self.here
        self._back = [] if place == self._home else [*self._back, self.here][-MOST_KEPT:]
        self.here = place

    def move(self, place: Place) -> None:
        """Note that somebody went on from here to a place beside it: the way back stays as it is."""
        if place != self.here:
            self.before, self.here = self.here, place

    def back(self) -> Place | None:
        """Go back one step, and give where that is; None where the way ends."""
        if not self._back:
            return None
        self.before, self.here = self.here, self._back.pop()
        return self.here
