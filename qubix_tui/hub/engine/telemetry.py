"""How an engine is doing, in numbers for the hub's metrics."""


class Calls:
    """Calls of one kind.

    Attributes:
        count: How many there were.
        seconds: How long they took together, each with all that it shared its way there and back with.
    """

    __slots__ = ("count", "seconds")

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0


class EngineTelemetry:
    """What an engine has measured; all 0 for one on the hub's own machine.

    Attributes:
        lag: Seconds from when the engine took a commit to when the hub had applied it, for the newest one
            applied; longer where one is known of that was not applied yet. 0 while there are none.
        reconnects: How often the hub had to connect anew.
        clock_skew: Seconds that the engine's clock is ahead of this machine's.
        calls: What the hub has asked of it, by kind.
    """

    def __init__(self) -> None:
        self.lag = 0.0
        self.reconnects = 0
        self.clock_skew = 0.0
        self.calls: dict[str, Calls] = {}

    def called(self, kind: str, count: int, seconds: float) -> None:
        """Count calls that were made together.

        Args:
            kind: Of what kind.
            count: How many.
            seconds: How long each of them took.
        """
        calls = self.calls.get(kind)
        if calls is None:
            calls = self.calls[kind] = Calls()
        calls.count += count
        calls.seconds += count * seconds
