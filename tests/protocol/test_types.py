"""Times on the wire: RFC 3339, UTC, milliseconds, there and back."""

import re
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qubix_tui.protocol.types import TIMESTAMP_PATTERN, from_timestamp, to_timestamp

LATEST = datetime(2200, 1, 1, tzinfo=UTC).timestamp()
"""Until then a double holds a time to better than half a microsecond, which is what it is rounded to."""
milliseconds = st.integers(0, int(LATEST) * 1000)


@given(milliseconds)
def test_whole_milliseconds_survive(moment: int) -> None:
    """A time that was written is read as the same millisecond, and written again as the same text."""
    text = to_timestamp(moment / 1000)
    assert round(from_timestamp(text) * 1000) == moment
    assert to_timestamp(from_timestamp(text)) == text


@given(st.floats(0, LATEST))
def test_times_are_written_as_the_contract_says(seconds: float) -> None:
    """Whatever the fraction: UTC, milliseconds, never later than the time itself by more than rounding."""
    text = to_timestamp(seconds)
    assert re.match(TIMESTAMP_PATTERN, text)
    assert len(text) == len("2026-01-31T12:00:00.000Z")
    assert -0.000_1 <= seconds - from_timestamp(text) < 0.001_1


def test_known_times() -> None:
    """Some moments everybody agrees about."""
    assert to_timestamp(0) == "1970-01-01T00:00:00.000Z"
    assert to_timestamp(1_769_860_800.25) == "2026-01-31T12:00:00.250Z"
    assert to_timestamp(1_709_164_800) == "2024-02-29T00:00:00.000Z"
    assert from_timestamp("2026-01-31T12:00:00Z") == 1_769_860_800
    assert from_timestamp("2026-01-31T12:00:00.5Z") == 1_769_860_800.5
    assert from_timestamp("2026-01-31T12:00:00.123456789Z") == pytest.approx(1_769_860_800.123456, abs=1e-6)


def test_times_do_not_depend_on_the_time_zone_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """UTC is written and read everywhere, around a change of the clocks too."""
    for zone in ("America/St_Johns", "Asia/Kathmandu", "Europe/Berlin"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        assert to_timestamp(1_774_746_000) == "2026-03-29T01:00:00.000Z"
        assert from_timestamp("2026-03-29T01:00:00.000Z") == 1_774_746_000
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "2026-01-31", "2026-01-31T12:00:00", "2026-02-31T12:00:00Z", "2026-13-01T00:00:00Z"),
        *("2026-01-31T24:30:00Z", "2026-01-31T12:60:00Z", "0000-01-01T00:00:00Z"),
    ],
)
def test_what_is_no_time(text: str) -> None:
    """No zone, no such day, no such hour: ValueError, nothing else."""
    with pytest.raises(ValueError, match=r".+"):
        from_timestamp(text)
