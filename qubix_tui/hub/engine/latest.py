"""The newest value of each subject, in memory: bounded, what was written longest ago goes first."""


class LatestValues:
    """What `Engine.latest` keeps.

    Args:
        most: How many values are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: dict[tuple[str, str], bytes] = {}

    def put(self, channel: str, subject: str, value: bytes | None) -> None:
        """Keep a value; None forgets what is there."""
        key = (channel, subject)
        self._values.pop(key, None)
        if value is None:
            return
        self._values[key] = value
        if len(self._values) > self._most:
            del self._values[next(iter(self._values))]

    def get(self, channel: str, subject: str) -> bytes | None:
        """Give what was put last, None where there is nothing (any more)."""
        return self._values.get((channel, subject))
