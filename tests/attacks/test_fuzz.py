"""Anything at all, to a real hub: nothing comes of it but what the contract says of wrong messages.

A few seconds every day; QUBIX_SOAK_SECONDS (an hour by default) in `make soak`. A failure names the seed that
begins its run: QUBIX_FUZZ_SEED makes the same run again.
"""

import copy
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import inspect

from qubix_tui.protocol.errors import ErrorCode
from qubix_tui.protocol.events import EVENTS
from qubix_tui.protocol.requests import REQUESTS
from qubix_tui.protocol.tokens import Role
from tests.attacks.raw import CLOSE, TEXT, RawClient, frame, message
from tests.attacks.stage import MEMORY_MARGIN, MIB, AttackedHub, attacked_hub
from tests.protocol.examples import build, request_messages

SECONDS = 3.0
CLOSE_CODES = {1000, 1001, 1002, 1003, 1005, 1007, 1009, 4001, 4003, 4009, 4013, 4029}
ROLES = (None, Role.OPERATOR, Role.PROVIDER)
"""Without a token, on the hub's own machine, one is a viewer."""

ANSWER_SECONDS = 0.5

AWKWARD: list[Any] = [
    None,
    True,
    0,
    -1,
    2**53,
    2**53 + 1,
    10**400,
    1e308,
    -0.0,
    0.5,
    "",
    "*",
    "../..",
    "a" * 129,
    "a" * 70_000,
    "\x00",
    "\x1b[2J",
    "\x9b31m",
    "\u202e",
    "\ud800",
    "é界😀",
    "provider:*",
    "marketplace",
    "sim-1",
    "qbx_o" + "0" * 72,
    [],
    {},
    [[[[]]]],
    {"": None},
    {"type": "ping"},
]
"""What stands where something else is expected."""

VALID = [json.loads(raw) for kind in REQUESTS for raw in request_messages(kind)]
KINDS = [*REQUESTS, *EVENTS, "", "PING", "subscribe", "subscribe:", "subscribe:all"]


class Fuzzer:
    """Makes what is sent.

    Args:
        chance: Where all its choices come from.
    """

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def noise(self) -> bytes:
        """Bytes, as they come or with a frame's head before them."""
        chance = self._chance
        data = chance.randbytes(chance.choice((1, 7, 60, 500, 5_000)))
        if chance.random() < 0.3:
            return data
        return frame(
            chance.randrange(16),
            data,
            fin=chance.random() < 0.7,
            reserved=chance.choice((0, 0, 0, 0, 0x10, 0x40)),
            masked=chance.random() < 0.9,
        )

    def text(self) -> bytes:
        """A message that is nearly one, in one frame or in fragments."""
        payload = self._payload()
        if self._chance.random() < 0.9 or len(payload) < 3:
            return frame(TEXT, payload)
        cut = self._chance.randrange(1, len(payload))
        return frame(TEXT, payload[:cut], fin=False) + frame(0x9, b"between") + frame(0x0, payload[cut:])

    def _payload(self) -> bytes:
        chance = self._chance
        value = json.loads(json.dumps(chance.choice(VALID)))
        for _ in range(chance.choice((0, 0, 1, 1, 2, 4))):
            self._change(value)
        if chance.random() < 0.8:
            value.setdefault("id", chance.randrange(1_000))
        payload = json.dumps(value, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
        if chance.random() < 0.1:
            at = chance.randrange(len(payload))
            payload = (
                payload[:at] + chance.choice((b"", b"\x00", b"\xff", b"[", b'"', b"NaN")) + payload[at + 1 :]
            )
        return payload

    def _change(self, message: dict[str, Any]) -> None:
        """Change one place anywhere in a message."""
        chance = self._chance
        found = list(places(message))
        if not found:
            return
        holder, key = chance.choice(found)
        match chance.randrange(5):
            case 0 if isinstance(holder, dict):
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[chance.choice(["", "data", "\x1b", "x" * 100, "providerId"])] = holder.pop(key)
            case 2:
                message["type"] = chance.choice(KINDS)
            case 3:
                form = chance.choice(list(REQUESTS.values()))
                message["data"] = build(inspect.type_info(form), full=chance.random() < 0.5)
            case _:
                holder[key] = copy.deepcopy(chance.choice(AWKWARD))


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every member and item of a JSON value: what holds it, and under which key."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    for key in keys:
        yield value, key
        yield from places(value[key])


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[AttackedHub]:
    """A hub, to which everything is sent."""
    with attacked_hub(tmp_path) as running:
        yield running


def read_everything(client: RawClient) -> int | None:
    """Read up to the answer to a last ping, or to the close; gives its code.

    Raises:
        AssertionError: The hub calls something its own mistake, or sends what is no message.
    """
    while True:
        opcode, payload = client.receive()
        if opcode == CLOSE:
            return int.from_bytes(payload[:2], "big") if payload else 1005
        if opcode != TEXT:
            continue
        heard = json.loads(payload)
        if heard["type"] == "error":
            assert heard["data"]["code"] in set(ErrorCode) - {ErrorCode.INTERNAL}, heard
            assert heard["data"]["message"].isprintable(), heard
        if heard.get("id") == "the last":
            return None


def fuzz(hub: AttackedHub, make: Callable[[Fuzzer], bytes], seconds: float) -> None:
    """Send for some time what a fuzzer makes, and check every answer, and the hub at the end."""
    seed = int(os.environ.get("QUBIX_FUZZ_SEED") or time.time_ns())
    chance = random.Random(seed)
    fuzzer = Fuzzer(chance)
    before, ends, sent = hub.memory(), time.monotonic() + seconds, b""
    answered = 0
    try:
        while time.monotonic() < ends:
            with hub.client(chance.choice(ROLES)) as client:
                client.socket.settimeout(ANSWER_SECONDS)
                sent = b"".join(make(fuzzer) for _ in range(chance.randrange(1, 30)))
                client.send_what_goes(sent + message("ping", id="the last"))
                try:
                    code = read_everything(client)
                except (ConnectionError, TimeoutError):
                    # A frame may promise bytes that never come; then nothing is answered.
                    continue
                # A client's own close is answered with its own code; nothing hides it, all masks are zeros.
                assert code is None or code in CLOSE_CODES or code.to_bytes(2) in sent, code
                answered += 1
        assert answered > 10
        assert hub.memory() <= before + MEMORY_MARGIN + 64 * MIB
        hub.check()
    except BaseException as error:
        error.add_note(f"QUBIX_FUZZ_SEED={seed}; sent last: {sent[:2_000]!r}")
        raise


MAKERS = [Fuzzer.noise, Fuzzer.text]
NAMES = ["bytes", "messages"]


@pytest.mark.parametrize("make", MAKERS, ids=NAMES)
def test_anything_for_a_while(hub: AttackedHub, make: Callable[[Fuzzer], bytes]) -> None:
    """A few seconds of random bytes, and of messages that are nearly right."""
    fuzz(hub, make, SECONDS)


@pytest.mark.soak
@pytest.mark.parametrize("make", MAKERS, ids=NAMES)
def test_anything_for_long(hub: AttackedHub, make: Callable[[Fuzzer], bytes]) -> None:
    """The same for as long as it is asked for."""
    fuzz(hub, make, float(os.environ.get("QUBIX_SOAK_SECONDS") or 3_600))
