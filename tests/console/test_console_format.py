"""Values as text."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qubix_tui.console import format as fmt


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "—"),
        (0.0, "0.0s"),
        (0.44, "0.4s"),
        (0.96, "1s"),
        (7.2, "7s"),
        (59.4, "59s"),
        (59.6, "1m"),
        (60, "1m"),
        (3599, "59m"),
        (3600, "1h"),
        (86399, "23h"),
        (86400 * 12, "12d"),
        (-3, "0.0s"),
    ],
)
def test_ages(seconds: float | None, text: str) -> None:
    """An age has one unit, and never runs backwards."""
    assert fmt.format_age(seconds) == text


@given(st.floats(min_value=0, max_value=999 * 86400))
def test_ages_keep_their_width(seconds: float) -> None:
    """No age is wider than four characters: nothing moves when it grows."""
    assert len(fmt.format_age(seconds)) <= 4


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "—"), (12, "12s"), (192, "3m12s"), (7500, "2h05m"), (1047600, "12d3h")]
)
def test_durations(seconds: float | None, text: str) -> None:
    """A span shows its two largest units."""
    assert fmt.format_duration(seconds) == text


def test_unknown_is_a_dash_never_zero() -> None:
    """What is not known is ``—`` everywhere, and what is zero is 0."""
    assert fmt.format_percent(None) == fmt.format_temp(None) == fmt.format_price(None) == "—"
    assert fmt.format_mem(None, None) == fmt.format_power(None, None) == fmt.format_rate(None) == "—"
    assert fmt.format_gpus(None, None) == "—"
    assert (fmt.format_percent(0), fmt.format_temp(0), fmt.format_rate(0)) == ("0%", "0°", "0B/s")
    assert (fmt.format_mem(0, 1024), fmt.format_power(0, 450)) == ("0.0/1G", "0/450W")
    assert (fmt.format_mem(None, 24576), fmt.format_power(None, 450)) == ("—/24G", "—/450W")


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (640, "640B/s"),
        (999, "999B/s"),
        (1000, "1.0k/s"),
        (12.4e6, "12.4M/s"),
        (2.5e9, "2.5G/s"),
        (3e12, "3.0T/s"),
    ],
)
def test_rates(rate: float, text: str) -> None:
    """A rate of bytes has a decimal unit."""
    assert fmt.format_rate(rate) == text


def test_gpus_lose_their_makers_name() -> None:
    """A model is shown as people say it."""
    assert fmt.format_gpus(4, "NVIDIA GeForce RTX 4090") == "4× RTX 4090"
    assert fmt.format_gpus(0, None) == "no GPU"


@given(st.text())
def test_text_from_outside_is_harmless(text: str) -> None:
    """Nothing that a terminal or the reader's eye could obey is left, and nothing else is lost."""
    shown = fmt.safe(text)
    assert len(shown) == len(text)
    assert all(
        unicodedata.category(character)[0] != "C" or character == "�"
        for character in shown
        if unicodedata.category(character) != "Cn"
    )
    assert not {"\x1b", "\n", "\r", "\x9b", "\u202e", "\u2066"} & set(shown)
    for before, after in zip(text, shown, strict=True):
        assert after in {before, "�"}


@pytest.mark.parametrize(
    ("model", "short"),
    [
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA A100-SXM4-80GB", "A100 80GB"),
        ("NVIDIA A100-PCIE-40GB", "A100 40GB"),
        ("NVIDIA H100 NVL", "H100"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"),
        ("Tesla V100-SXM2-32GB", "Tesla V100 32GB"),
        ("NVIDIA H200", "H200"),
    ],
)
def test_models_are_called_what_people_call_them(model: str, short: str) -> None:
    """What all have in common, and how a GPU is mounted, goes."""
    assert fmt.short_model(model) == short
