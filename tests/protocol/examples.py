"""Messages of every type, built from the structs themselves: nothing to forget when a member is added."""

from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from qubix_tui.protocol import codec
from qubix_tui.protocol.events import EVENTS
from qubix_tui.protocol.requests import PING, REQUESTS, SUBSCRIBE_MARKETPLACE, SUBSCRIBES, UNSUBSCRIBE
from qubix_tui.protocol.types import ID_PATTERN, LINE_PATTERN, TIMESTAMP_PATTERN

TIME = "2026-01-31T12:00:00.000Z"


def subscription_id(kind: str) -> str | None:
    """Give a fitting ``subscriptionId`` for a type, None where it has none."""
    if kind == UNSUBSCRIBE:
        return "provider:rig-7"
    return "rig-7" if kind in SUBSCRIBES and kind != SUBSCRIBE_MARKETPLACE else None


def request_messages(kind: str) -> list[bytes]:
    """Encode two requests of a type: only what must be there, and all that may be."""
    messages = []
    for full in (False, True):
        data = {"any": [1, None]} if kind == PING else build(inspect.type_info(REQUESTS[kind]), full=full)
        if kind in SUBSCRIBES:
            data = {"snapshot": full}
        messages.append(
            codec.encode_request(
                kind, data, subscription_id=subscription_id(kind), request_id=7 if full else None
            )
        )
    return messages


def event_messages(kind: str) -> list[bytes]:
    """Encode two events of each form that a type's data may have: bare and full."""
    info = inspect.type_info(EVENTS[kind])
    forms = info.types if isinstance(info, inspect.UnionType) else (info,)
    return [
        codec.encode_event(
            kind,
            build(form, full=full),
            channel="marketplace" if full else None,
            offset=3 if full else None,
            request_id="x" if full else None,
        )
        for form in forms
        for full in (False, True)
    ]


def build(kind: inspect.Type, *, full: bool) -> Any:
    """Make a plain value of a type.

    Args:
        kind: What to make, as msgspec sees it.
        full: Whether optional members are there and nullable ones known.
    """
    match kind:
        case inspect.Metadata():
            return build(kind.type, full=full)
        case inspect.UnionType():
            return build(next(one for one in kind.types if not isinstance(one, inspect.NoneType)), full=full)
        case inspect.StructType():
            members = {
                field.encode_name: build(field.type, full=full)
                for field in kind.fields
                if field.required or full
            }
            return ({kind.tag_field: kind.tag} if kind.tag_field else {}) | members
        case inspect.ListType():
            return [build(kind.item_type, full=full)] if full else []
        case inspect.DictType():
            return {"epochs": 3, "nested": {"list": [None, 1.5]}} if full else {}
        case inspect.StrType():
            return {ID_PATTERN: "rig-7", LINE_PATTERN: "one line é", TIMESTAMP_PATTERN: TIME}.get(
                kind.pattern or "", "any\ntext"
            )
        case inspect.EnumType():
            return next(iter(kind.cls)).value
        case inspect.LiteralType():
            return kind.values[0]
        case inspect.BoolType():
            return True
        case inspect.IntType():
            return (2**53 if kind.le is None else min(kind.le, 2**53)) if full else 0
        case inspect.FloatType():
            return 61.5 if full else 0
        case inspect.AnyType():
            return {"any": [1, None]}
    raise NotImplementedError(kind)


def line(limit: int) -> st.SearchStrategy[str]:
    """Give lines that the contract takes."""
    return st.text(
        st.characters(
            exclude_categories=["Cs", "Cc"],
            exclude_characters="\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
        ),
        max_size=min(limit, 40),
    )


integers = st.integers(-(2**53), 2**53)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
floats = st.floats(allow_nan=False, allow_infinity=False)
plain_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | integers | floats | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
timestamps = (
    st.datetimes().map(lambda moment: f"{moment:%H:%M:%S}").map(lambda clock: f"2026-01-31T{clock}.000Z")
)


def values(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Give plain values of a type, within all of its constraints."""
    match kind:
        case inspect.Metadata():
            return values(kind.type)
        case inspect.UnionType():
            return st.one_of([values(one) for one in kind.types])
        case inspect.StructType():
            required = {field.encode_name: values(field.type) for field in kind.fields if field.required}
            optional = {field.encode_name: values(field.type) for field in kind.fields if not field.required}
            if kind.tag_field:
                required[kind.tag_field] = st.just(kind.tag)
            return st.fixed_dictionaries(required, optional=optional)
        case inspect.ListType():
            return st.lists(values(kind.item_type), max_size=2)
        case inspect.DictType():
            return st.dictionaries(texts, plain_values, max_size=3)
        case inspect.StrType():
            return {
                ID_PATTERN: st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True),
                LINE_PATTERN: line(kind.max_length or 40),
                TIMESTAMP_PATTERN: timestamps,
            }.get(kind.pattern or "", texts)
        case inspect.EnumType():
            return st.sampled_from([member.value for member in kind.cls])
        case inspect.LiteralType():
            return st.sampled_from(list(kind.values))
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.IntType():
            return st.integers(
                kind.ge if kind.ge is not None else -(2**53), kind.le if kind.le is not None else 2**53
            )
        case inspect.FloatType():
            return st.floats(kind.ge, kind.le, allow_nan=False, allow_infinity=False)
        case inspect.AnyType():
            return plain_values
    raise NotImplementedError(kind)


def struct_of(form: Any, plain: Any) -> Any:
    """Turn plain values into the struct they are the members of."""
    return msgspec.convert(plain, form)
