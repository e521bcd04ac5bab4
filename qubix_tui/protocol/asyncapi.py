"""The contract for other languages, as AsyncAPI 3.0: ``python -m qubix_tui.protocol.asyncapi`` prints it.

All that has a form is read from the structs, their docstrings and their constraints. Written down by hand is
only what they don't know: which reply answers which request, and what a message is for.
"""

import inspect
import sys
from collections.abc import Iterable
from typing import Final

from qubix_tui.protocol import (
    DEFAULT_PORT,
    MAX_DEPTH,
    MAX_FRAME_BYTES,
    PROTOCOL_VERSION,
    channels,
    events,
    marketplace,
)
from qubix_tui.protocol.errors import CloseCode
from qubix_tui.protocol.events import EVENTS
from qubix_tui.protocol.plain_yaml import write_yaml
from qubix_tui.protocol.requests import (
    OPTIONAL_DATA,
    PING,
    REQUESTS,
    SUBSCRIBE_MARKETPLACE,
    SUBSCRIBES,
    UNSUBSCRIBE,
)
from qubix_tui.protocol.schemas import Schema, enum_words, markdown, reference, schemas

_MESSAGES: Final = "#/components/messages/"
_CHANNEL: Final = "hub"

_REQUEST_WORDS: Final = {
    "subscribe:marketplace": "Follow the marketplace: providers come, change and go, jobs move on.",
    "subscribe:provider": "Follow one provider, or all with `*`; the provider need not exist yet.",
    "subscribe:job": "Follow one job, or all with `*` (without their logs); the job need not exist yet.",
    "unsubscribe": "Stop following a channel.",
    "ping": "Say that the client is alive; `data` is echoed.",
    "auth": "Show a token, where the handshake could not carry one.",
    "provider:register": "Say what this provider is, and which jobs it holds.",
    "provider:status": "Pause, drain or resume this provider.",
    "provider:remove": "Forget a provider.",
    "provider:history": "Ask for a provider's past, which comes in pages.",
    "GPU_METRICS_UPDATE": "Publish a sample of this provider. Nothing confirms it.",
    "JOB_PROGRESS": "Report how far a job is.",
    "JOB_LOGS": "Report a piece of a job's log.",
    "JOB_COMPLETED": "Report how a job ended.",
    "job:accept": "Take a job that was assigned. Nothing starts before `job:start`.",
    "job:refuse": "Turn down a job that was assigned.",
    "job:renew": "Renew the leases of the jobs held.",
    "job:submit": "Submit a job; confirmed once it is durable.",
    "job:cancel": "Cancel a job.",
    "job:why": "Ask why a job is where it is.",
    "token:issue": "Make a token.",
    "token:list": "List the tokens.",
    "token:revoke": "Revoke a token; its connections close with 4003.",
    "audit:list": "Ask what was done, or refused, about tokens and providers.",
    "enroll:new": "Make a code that lets one agent enroll.",
    "enroll": "Trade an enrollment code for a provider's token.",
    "hub:stats": "Ask what the hub itself does: connections, messages, limits.",
}

_EVENT_WORDS: Final = {
    "error": "The message with this `id` was refused. The connection stays open unless a close code follows.",
    "PROVIDER_REGISTERED": "A provider registered, for the first time ever.",
    "PROVIDER_STATUS_CHANGED": "A provider came, went, or is free or busy now.",
    "GPU_METRICS_UPDATE": "A sample of a provider; `timestamp` is when the hub received it.",
    "JOB_PROGRESS": "How far a job is.",
    "JOB_LOGS": "A piece of a job's log; `from` is the byte offset of `text`.",
    "JOB_COMPLETED": "How a job ended: exactly once per job.",
    "MARKETPLACE_UPDATE": "A snapshot, a digest, or a change of a provider or job; `kind` tells which.",
    "job:assign": "To the agent alone: take this job, or refuse it.",
    "job:start": "To the agent alone: the process may start now.",
    "job:stop": "To the agent alone: end this job, or don't start it.",
    "provider:backfill": "To the agent alone: send what was sampled since then again, as late samples.",
}
"""For the types whose form says only what its members are."""

_REPLIES: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(SUBSCRIBES, ("subscribed",)),
    "unsubscribe": ("unsubscribed",),
    "ping": ("pong",),
    "auth": ("authenticated",),
    "provider:register": ("registered",),
    "provider:status": ("ok",),
    "provider:remove": ("ok",),
    "provider:history": ("history",),
    "JOB_PROGRESS": ("ack",),
    "JOB_LOGS": ("ack",),
    "JOB_COMPLETED": ("ack",),
    "job:accept": ("job:start", "job:stop"),
    "job:refuse": ("job:stop",),
    "job:renew": ("renewed",),
    "job:submit": ("submitted",),
    "job:cancel": ("ok",),
    "job:why": ("match",),
    "token:issue": ("issued",),
    "token:list": ("tokens",),
    "token:revoke": ("ok",),
    "audit:list": ("audit",),
    "enroll:new": ("enrollment",),
    "enroll": ("enrolled",),
    "hub:stats": ("hub_statistics",),
}
"""What confirms a request; ``error`` may answer any."""


def document() -> Schema:
    """Build the AsyncAPI document, as plain JSON values."""
    messages = {_request_key(kind): _request_message(kind) for kind in REQUESTS}
    messages |= {_event_key(kind): _event_message(kind) for kind in EVENTS}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "QUBIX hub",
            "version": f"{PROTOCOL_VERSION}.0.0",
            "description": (
                "Live state of a GPU marketplace, over one WebSocket. Every message is one text frame of "
                f"JSON in UTF-8, of at most {MAX_FRAME_BYTES // 1024} KiB and nested at most {MAX_DEPTH} "
                "deep; what is longer comes in pages. "
                "Members that are not known are to be ignored. A value that is not known is null, never 0."
            ),
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": {_CHANNEL: _channel(messages)},
        "operations": _operations(),
        "components": {
            "messages": messages,
            "schemas": schemas(),
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": (
                        "Programs send `Authorization: Bearer <token>` with the handshake; browsers, "
                        "which can't, send `auth` as their first message. Without a token a client on "
                        "loopback may look on."
                    ),
                }
            },
        },
    }


def _servers() -> Schema:
    security = [{"$ref": "#/components/securitySchemes/bearer"}]
    return {
        "local": {
            "host": f"localhost:{DEFAULT_PORT}",
            "pathname": "/",
            "protocol": "ws",
            "description": "A hub on this machine. Tokens never go over plain ws beyond loopback.",
            "security": security,
        },
        "remote": {
            "host": "{host}",
            "pathname": "/",
            "protocol": "wss",
            "description": "A hub elsewhere, with TLS.",
            "variables": {"host": {"description": "Name and port of the hub."}},
            "security": security,
        },
    }


def _channel(messages: Iterable[str]) -> Schema:
    return {
        "address": "/",
        "title": "The connection",
        "description": (
            "One connection carries everything. What is published names one of these keys as `channel`:\n\n"
            f"- `{channels.MARKETPLACE}`: providers and jobs in general, ordered and recoverable\n"
            f"- `{channels.provider_channel('<id>')}`: one provider; all but its metrics is ordered\n"
            f"- `{channels.job_channel('<id>')}`: one job, ordered and recoverable\n"
            f"- `{channels.ALL_PROVIDERS}`, `{channels.ALL_JOBS}`: all of a kind"
        ),
        "messages": {key: {"$ref": _MESSAGES + key} for key in messages},
        "x-close-codes": [
            {"code": code.value, "name": code.name, "meaning": markdown(words)}
            for code, words in enum_words(CloseCode)
        ],
    }


def _operations() -> Schema:
    """Give the operations as the hub sees them: it receives requests and sends events."""
    channel = {"$ref": f"#/channels/{_CHANNEL}"}

    def on_channel(keys: Iterable[str]) -> list[Schema]:
        return [{"$ref": f"#/channels/{_CHANNEL}/messages/{key}"} for key in keys]

    operations: Schema = {}
    for kind in REQUESTS:
        answers = map(_event_key, (*_REPLIES.get(kind, ()), events.ERROR))
        operations[f"receive-{_key(kind)}"] = {
            "action": "receive",
            "channel": channel,
            "summary": _REQUEST_WORDS[kind],
            "messages": on_channel([_request_key(kind)]),
            "reply": {"channel": channel, "messages": on_channel(answers)},
        }
    for kind in EVENTS:
        operations[f"send-{_key(kind)}"] = {
            "action": "send",
            "channel": channel,
            "summary": _event_words(kind),
            "messages": on_channel([_event_key(kind)]),
        }
    return operations


def _key(kind: str) -> str:
    """Write a type in the characters that AsyncAPI allows in a key."""
    return kind.replace(":", ".")


def _request_key(kind: str) -> str:
    return f"request-{_key(kind)}"


def _event_key(kind: str) -> str:
    return f"event-{_key(kind)}"


def _request_message(kind: str) -> Schema:
    members: Schema = {"type": {"const": kind}}
    required = ["type"]
    if kind in SUBSCRIBES - {SUBSCRIBE_MARKETPLACE}:
        members["subscriptionId"] = {"anyOf": [reference("Id"), {"const": "*"}]}
        required.append("subscriptionId")
    elif kind == UNSUBSCRIBE:
        members["subscriptionId"] = reference("Channel")
        required.append("subscriptionId")
    form = reference(REQUESTS[kind].__name__)
    if kind == PING:
        members["data"] = {"description": "Any JSON value, echoed."}
    elif kind in OPTIONAL_DATA:
        members["data"] = {"anyOf": [form, {"type": "null"}]}
    else:
        members["data"] = form
        required.append("data")
    members["id"] = reference("RequestId")
    return _message(kind, _REQUEST_WORDS[kind], members, required)


def _event_message(kind: str) -> Schema:
    members: Schema = {"type": {"const": kind}, "data": reference(_form_name(kind))}
    required = ["type"] if kind == events.OK else ["type", "data"]
    members["channel"] = reference("Channel")
    members["offset"] = reference("Count")
    members["id"] = reference("RequestId")
    return _message(kind, _event_words(kind), members, required)


def _message(kind: str, words: str, members: Schema, required: list[str]) -> Schema:
    return {
        "name": kind,
        "summary": words,
        "payload": {"type": "object", "required": required, "properties": members},
    }


def _form_name(kind: str) -> str:
    form = EVENTS[kind]
    return form.__name__ if isinstance(form, type) else marketplace.MarketplaceUpdate.__name__


def _event_words(kind: str) -> str:
    return _EVENT_WORDS.get(kind) or markdown(inspect.getdoc(EVENTS[kind]) or "")


def main() -> None:
    """Print the document as YAML."""
    sys.stdout.buffer.write(write_yaml(document()).encode())


if __name__ == "__main__":
    main()
