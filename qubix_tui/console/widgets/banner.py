"""A line that says what is wrong with the connection, where anything is."""

from textual.widgets import Static


class Banner(Static):
    """A sentence above the rest of a screen; no line at all while there is nothing to say."""

    DEFAULT_CSS = """
    Banner {
        display: none;
        height: auto;
        max-height: 3;
        padding: 0 1;
        color: $hot;
        &.-shown { display: block; }
    }
    """

    def __init__(self) -> None:
        super().__init__(markup=False)

    def show(self, sentence: str | None) -> None:
        """Say something; None says nothing."""
        if self.content != (sentence or ""):
            self.update(sentence or "")
            self.set_class(sentence is not None, "-shown")
