"""Channel keys: ``marketplace``, ``provider:<id>``, ``job:<id>``, ``provider:*``, ``job:*``."""

import re
from typing import Final

from qubix_tui.protocol.types import ID_PATTERN

MARKETPLACE: Final = "marketplace"
ALL_PROVIDERS: Final = "provider:*"
ALL_JOBS: Final = "job:*"

_ID = re.compile(ID_PATTERN)


def is_id(text: str) -> bool:
    """Whether ``text`` is a well-formed id: 1 to 64 of ``A-Z a-z 0-9 . _ -``."""
    return _ID.match(text) is not None


def provider_channel(provider_id: str) -> str:
    """The key of one provider's channel (``*`` for all of them)."""
    return f"provider:{provider_id}"


def job_channel(job_id: str) -> str:
    """The key of one job's channel (``*`` for all of them)."""
    return f"job:{job_id}"


def wildcard_of(channel: str) -> str | None:
    """The wildcard that also hears ``channel``; None for ``marketplace`` and for wildcards themselves."""
    if channel.startswith("provider:"):
        return None if channel == ALL_PROVIDERS else ALL_PROVIDERS
    if channel.startswith("job:"):
        return None if channel == ALL_JOBS else ALL_JOBS
    return None


def kind_of(channel: str) -> str:
    """The kind that a channel is counted under: ``provider:<id>`` for any single provider's, else the key."""
    wildcard = wildcard_of(channel)
    return channel if wildcard is None else f"{wildcard[:-1]}<id>"


def is_channel(key: str) -> bool:
    """Whether ``key`` is a well-formed channel key."""
    if key == MARKETPLACE:
        return True
    kind, _, subject = key.partition(":")
    return kind in {"provider", "job"} and (subject == "*" or is_id(subject))


def is_job(key: str) -> bool:
    """Whether a well-formed key is one of jobs."""
    return key.startswith("job:")


def is_wildcard(key: str) -> bool:
    """Whether ``key`` stands for all providers or all jobs."""
    return key in {ALL_PROVIDERS, ALL_JOBS}
