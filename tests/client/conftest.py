"""What the client's tests share."""

from collections.abc import AsyncIterator

import pytest

from tests.client.scripted_hub import ScriptedHub


@pytest.fixture
async def hub() -> AsyncIterator[ScriptedHub]:
    """A hub that listens, and is stopped after the test."""
    async with ScriptedHub() as listening:
        yield listening
