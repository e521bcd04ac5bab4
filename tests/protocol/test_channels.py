"""Channel keys: which are well formed, what they are made of, and which wildcard hears them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qubix_tui.protocol import channels

ids = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)

NOT_IDS = ["", "*", "a b", "a:b", "a/b", "a\n", "\na", "é", "٣", "a" * 65, "a*", "%41", "\0", "a\u200e"]


@given(ids)
def test_every_id_makes_channels(subject: str) -> None:
    """Of any well-formed id a provider's and a job's channel can be made, which their wildcards hear."""
    assert channels.is_id(subject)
    for key, wildcard in (
        (channels.provider_channel(subject), channels.ALL_PROVIDERS),
        (channels.job_channel(subject), channels.ALL_JOBS),
    ):
        assert channels.is_channel(key)
        assert not channels.is_wildcard(key)
        assert channels.wildcard_of(key) == wildcard


@pytest.mark.parametrize("text", NOT_IDS)
def test_what_is_no_id(text: str) -> None:
    """1 to 64 of ASCII letters, digits, dot, underscore and dash, and nothing before or after."""
    assert not channels.is_id(text)
    if text != "*":
        assert not channels.is_channel(channels.provider_channel(text))
        assert not channels.is_channel(channels.job_channel(text))


@given(st.text(max_size=70))
def test_any_text_is_a_channel_only_of_a_kind(text: str) -> None:
    """Whatever the text, only the keys of the contract are channels."""
    kind, _, subject = text.partition(":")
    expected = text == "marketplace" or (
        kind in {"provider", "job"} and (subject == "*" or channels.is_id(subject))
    )
    assert channels.is_channel(text) is expected


@pytest.mark.parametrize(
    "key", ["provider", "job", "", ":", ":a", "Provider:a", "gpu:a", "marketplace:", " job:a"]
)
def test_what_is_no_channel(key: str) -> None:
    """A kind without an id, another kind, another spelling."""
    assert not channels.is_channel(key)


def test_wildcards() -> None:
    """The two wildcards are channels that no wildcard hears; nor does any hear the marketplace."""
    assert channels.provider_channel("*") == channels.ALL_PROVIDERS == "provider:*"
    assert channels.job_channel("*") == channels.ALL_JOBS == "job:*"
    for key in (channels.ALL_PROVIDERS, channels.ALL_JOBS):
        assert channels.is_channel(key)
        assert channels.is_wildcard(key)
        assert channels.wildcard_of(key) is None
    assert channels.MARKETPLACE == "marketplace"
    assert channels.is_channel(channels.MARKETPLACE)
    assert channels.is_channel(channels.MARKETPLACE)
    assert not channels.is_wildcard(channels.MARKETPLACE)
    assert channels.wildcard_of(channels.MARKETPLACE) is None
