"""The AsyncAPI document: current, whole, and true of the messages that the codec makes and takes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

from qubix_tui.protocol import asyncapi, codec
from qubix_tui.protocol.errors import CloseCode, ErrorCode, ProtocolError
from qubix_tui.protocol.events import EVENTS
from qubix_tui.protocol.plain_yaml import write_yaml
from qubix_tui.protocol.requests import OPTIONAL_DATA, PING, REQUESTS
from tests.protocol.examples import event_messages, request_messages

FILE = Path(__file__).parents[2] / "docs" / "asyncapi.yaml"
DOCUMENT: dict[str, Any] = asyncapi.document()
REGISTRY: Registry[Any] = Registry().with_resource("urn:contract", Resource.from_contents(DOCUMENT, DRAFT7))
GPU_METRICS = "#/channels/hub/messages/request-GPU_METRICS_UPDATE"

names = st.text(st.characters(codec="utf-8"), max_size=60)
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=20,
)


def validator(message: str) -> Draft7Validator:
    """Give what checks the payload of one of the document's messages."""
    payload = f"urn:contract#/components/messages/{message}/payload"
    return Draft7Validator({"$ref": payload}, registry=REGISTRY)


def references(value: object) -> Iterator[str]:
    """Find every ``$ref`` of a document."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for member in value.values():
            yield from references(member)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def resolve(reference: str) -> Any:
    """Follow a reference inside the document; KeyError where it leads nowhere."""
    value: Any = DOCUMENT
    for step in reference.removeprefix("#/").split("/"):
        value = value[step]
    return value


def test_file_is_current() -> None:
    """What lies in docs/ is what the structs say now; `make docs` makes it so."""
    assert FILE.read_text(encoding="utf-8") == write_yaml(DOCUMENT), "it is stale: run `make docs`"


def test_main_prints_the_document(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """The module prints exactly the file, as UTF-8 whatever the terminal speaks."""
    asyncapi.main()
    assert capfdbinary.readouterr().out == FILE.read_bytes()


def test_yaml_reads_back_as_the_document() -> None:
    """Another reader of YAML finds in the file exactly the values that were written."""
    assert yaml.safe_load(FILE.read_text(encoding="utf-8")) == DOCUMENT


@given(st.dictionaries(names, plain, min_size=1, max_size=4))
def test_yaml_of_any_object_reads_back(value: dict[str, Any]) -> None:
    """Whatever the strings hold (quotes, colons, blank lines, controls), they come back the same."""
    assert yaml.safe_load(write_yaml(value)) == value


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "no",
            "NULL",
            "3.0",
            "a: b",
            "- a",
            "# a",
            "a #b",
            "a :b",
            "a:",
            "!x",
            "&x",
            "*x",
            "~",
            "=",
            "<<",
        ),
        *(
            "2026-01-31",
            "1e3",
            "0x1f",
            ".5",
            "'\\d\"",
            "\u202e",
            "\x85",
            "\u2028",
            "\ufeff",
            "\t",
            "a\tb",
            "😀",
        ),
        *("a\nb", "a\n\nb\n", " a\nb", "a \nb", "\n", "word " * 40, "word  " * 40, "x " * 60, "é" * 200),
        *("- item " * 30, "# word " * 30, "... --- " * 30, "# a\n- b", "--- a\nb", "a\u2028b " * 30),
    ],
)
def test_yaml_of_awkward_strings(text: str) -> None:
    """Strings that YAML would read as something else are quoted, as members, items and names alike."""
    value: dict[str, Any] = {text or "empty": [text, {"member": text, text: [[text], {}, []]}]}
    assert yaml.safe_load(write_yaml(value)) == value


def test_required_members() -> None:
    """The members that AsyncAPI 3.0 requires are there, and what may not be there is not."""
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert DOCUMENT["info"]["title"]
    assert DOCUMENT["info"]["version"]
    allowed = {
        "asyncapi",
        "id",
        "info",
        "servers",
        "defaultContentType",
        "channels",
        "operations",
        "components",
    }
    assert set(DOCUMENT) <= allowed
    for server in DOCUMENT["servers"].values():
        assert {"host", "protocol"} <= set(server)
        assert "://" not in server["host"]
    assert {server["protocol"] for server in DOCUMENT["servers"].values()} == {"ws", "wss"}
    assert DOCUMENT["servers"]["local"]["host"] == "localhost:3001"
    for scheme in DOCUMENT["components"]["securitySchemes"].values():
        assert scheme["type"] == "http"
        assert scheme["scheme"] == "bearer"


def test_keys_are_of_the_allowed_characters() -> None:
    """AsyncAPI's component keys are of letters, digits, dots, dashes and underscores."""
    for section in DOCUMENT["components"].values():
        for key in section:
            assert key.isascii()
            assert key.replace(".", "").replace("-", "").replace("_", "").isalnum()


def test_every_reference_resolves() -> None:
    """No ``$ref`` leads out of the document or to nothing."""
    found = list(references(DOCUMENT))
    assert len(found) > 200
    for reference in found:
        assert reference.startswith("#/")
        assert resolve(reference)


def test_every_schema_is_used() -> None:
    """Nothing is described that no message holds."""
    used = set(references(DOCUMENT))
    unused = {
        name for name in DOCUMENT["components"]["schemas"] if f"#/components/schemas/{name}" not in used
    }
    # ``ping`` takes any JSON, so that its form is not referred to; all others are.
    assert unused <= {"Integer"}


def test_every_operation_refers_to_what_exists() -> None:
    """An operation names an existing channel, and messages (and replies) of that channel."""
    for operation in DOCUMENT["operations"].values():
        assert operation["action"] in {"send", "receive"}
        for part in (operation, operation.get("reply", operation)):
            channel = part["channel"]["$ref"]
            assert resolve(channel)["address"] == "/"
            assert part["messages"]
            if "reply" in operation and operation["messages"] != [{"$ref": GPU_METRICS}]:
                assert len(operation["reply"]["messages"]) > 1, "only metrics have no reply but an error"
            for message in part["messages"]:
                assert message["$ref"].startswith(f"{channel}/messages/")
                assert resolve(resolve(message["$ref"])["$ref"])["payload"]


def test_every_type_has_a_message_and_an_operation() -> None:
    """All types of both directions are described, each in a sentence."""
    actions = [operation["action"] for operation in DOCUMENT["operations"].values()]
    assert actions.count("receive") == len(REQUESTS)
    assert actions.count("send") == len(EVENTS)
    messages = DOCUMENT["components"]["messages"]
    assert len(messages) == len(REQUESTS) + len(EVENTS)
    assert [message["name"] for message in messages.values()] == [*REQUESTS, *EVENTS]
    for message in messages.values():
        assert message["summary"].endswith(".")
        assert "``" not in message["summary"]


def test_every_code_is_explained() -> None:
    """All error and close codes are there, with what they mean."""
    closes = DOCUMENT["channels"]["hub"]["x-close-codes"]
    assert {close["code"] for close in closes} == set(CloseCode)
    assert all(close["meaning"].endswith(".") for close in closes)
    code = DOCUMENT["components"]["schemas"]["ErrorCode"]
    assert set(code["enum"]) == set(ErrorCode)
    assert all(f"`{error}`: " in code["description"] for error in ErrorCode)


@pytest.mark.parametrize("name", DOCUMENT["components"]["schemas"])
def test_every_schema_is_one(name: str) -> None:
    """Each schema is valid JSON Schema, in the draft that AsyncAPI builds on."""
    Draft7Validator.check_schema(DOCUMENT["components"]["schemas"][name])


@pytest.mark.parametrize("kind", REQUESTS)
def test_requests_fit_their_schema(kind: str) -> None:
    """Encoded requests, bare and full, validate; without their type, or with another, they don't."""
    check = validator(f"request-{kind.replace(':', '.')}")
    for raw in request_messages(kind):
        message = json.loads(raw)
        check.validate(message)
        codec.decode_request(raw)
        assert not check.is_valid({**message, "type": "other"})
        assert not check.is_valid({**message, "id": [1]})
        if kind != PING:
            assert not check.is_valid({**message, "data": 3})
        if kind not in OPTIONAL_DATA:
            assert not check.is_valid({"type": kind})


@pytest.mark.parametrize("kind", EVENTS)
def test_events_fit_their_schema(kind: str) -> None:
    """Encoded events, bare and full, validate; without their type, or with another, they don't."""
    check = validator(f"event-{kind.replace(':', '.')}")
    for raw in event_messages(kind):
        message = json.loads(raw)
        check.validate(message)
        codec.decode_event(raw)
        assert not check.is_valid({**message, "type": "other"})
        assert not check.is_valid({**message, "data": 3})
        assert not check.is_valid({**message, "channel": "rig-7"})


@pytest.mark.parametrize(
    ("message", "broken"),
    [
        ("request-subscribe.provider", {"type": "subscribe:provider"}),
        ("request-subscribe.provider", {"type": "subscribe:provider", "subscriptionId": "a b"}),
        ("request-subscribe.marketplace", {"type": "subscribe:marketplace", "data": {"digest": 0.05}}),
        ("request-subscribe.marketplace", {"type": "subscribe:marketplace", "data": {"since": -1}}),
        ("request-unsubscribe", {"type": "unsubscribe", "subscriptionId": "provider:"}),
        (
            "request-GPU_METRICS_UPDATE",
            {"type": "GPU_METRICS_UPDATE", "data": {"metrics": {"cpuPercent": 101}}},
        ),
        ("request-provider.register", {"type": "provider:register", "data": {"workerId": "w"}}),
        ("request-auth", {"type": "auth", "data": {"token": None}}),
    ],
)
def test_broken_requests_fit_neither_schema_nor_codec(message: str, broken: dict[str, Any]) -> None:
    """What the schema refuses the codec refuses too: the document promises no more than the hub holds."""
    assert not validator(message).is_valid(broken)
    with pytest.raises(ProtocolError):
        codec.decode_request(json.dumps(broken).encode())
