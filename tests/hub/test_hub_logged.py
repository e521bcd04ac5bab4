"""What the hub's log says of connections, and what it never says."""

import io
import logging
from collections.abc import Iterator
from typing import cast

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from qubix_tui.cli.logs import FORMATTERS, HIDDEN
from qubix_tui.hub.session import Session
from qubix_tui.protocol.tokens import Role, new_token
from tests.hub.wire import eventually, running


class Log:
    """What is logged, raw, as text and as JSON."""

    def __init__(self) -> None:
        self.handlers: list[logging.StreamHandler[io.StringIO]] = []
        formatters = [logging.Formatter("%(message)s %(args)s"), *(made() for made in FORMATTERS.values())]
        for formatter in formatters:
            handler = logging.StreamHandler(io.StringIO())
            handler.setFormatter(formatter)
            # The client at the other end is the test's own.
            handler.addFilter(lambda record: not record.name.startswith("websockets.client"))
            self.handlers.append(handler)

    def written(self) -> list[str]:
        """Everything up to now: as the calls have it, as text, as JSON."""
        return [handler.stream.getvalue() for handler in self.handlers]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    """All records of all loggers from debug on."""
    log = Log()
    level = logging.root.level
    logging.root.setLevel(logging.DEBUG)
    for handler in log.handlers:
        logging.root.addHandler(handler)
    yield log
    logging.root.setLevel(level)
    for handler in log.handlers:
        logging.root.removeHandler(handler)


async def test_no_token_is_ever_logged(log: Log) -> None:
    """Good ones and bad ones, in a header, a message, an address; nor a code, nor what is traded for one."""
    async with running() as hub:
        good, unknown = hub.tokens[Role.OPERATOR], new_token(Role.OPERATOR)
        mistyped = good[:-1] + ("0" if good[-1] != "0" else "1")
        async with await hub.client(Role.OPERATOR) as operator:
            issued = (await operator.ask("token:issue", {"role": "viewer", "name": "x"}))["data"]["token"]
            code = (await operator.ask("enroll:new", {"name": "x"}))["data"]["code"]
        for token in (unknown, mistyped):
            with pytest.raises(InvalidStatus):
                await hub.client(token=token)
            async with connect(f"{hub.hub.url}/?token={token}"):
                pass
            with pytest.raises(InvalidStatus):
                await connect(f"{hub.hub.url}/{token}")
        async with await hub.client() as client:
            for token in (good, unknown, mistyped, issued):
                await client.ask("auth", {"token": token})
            await client.ask(good)
            await client.socket.send(f'{{"type": "auth", "data": {{"token": "{good}"')
            await client.heard()
        async with await hub.client() as client:
            traded = (await client.ask("enroll", {"code": code, "workerId": "w1"}))["data"]["token"]
        await eventually(lambda: hub.hub.stats().clients == 0)
    for text in log.written():
        assert text.count("a client connected as") >= 3
        assert HIDDEN not in text, "our own calls log no token; hiding them is for those of others"
        for secret in (good, unknown, mistyped, issued, code, traded):
            assert secret[:14] not in text


async def test_records_about_a_connection_carry_its_id(log: Log) -> None:
    """As text and as JSON, with the address that it came from."""
    async with running() as hub, await hub.client() as client:
        await client.ask("ping")
        (session,) = hub.hub.caretaker.clients
        fields = cast("Session", session).log_fields
    _, text, as_json = log.written()
    assert fields["address"] == "127.0.0.1"
    assert f"a client connected as viewer connection={fields['connection']} address=127.0.0.1" in text
    assert f'"connection": "{fields["connection"]}"' in as_json
