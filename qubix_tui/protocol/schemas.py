"""JSON Schemas of all records and messages, read from the structs and from what their source says of them."""

import ast
import inspect
from collections.abc import Callable
from enum import Enum
from types import ModuleType
from typing import Any, Final

import msgspec

from qubix_tui.protocol import answers, errors, events, job_records, marketplace, records, requests, types
from qubix_tui.protocol.errors import ErrorCode
from qubix_tui.protocol.events import EVENTS
from qubix_tui.protocol.requests import REQUESTS

Schema = dict[str, Any]

_PREFIX: Final = "#/components/schemas/"

_SCALARS: Final = {
    "Id": types.Id,
    "Name": types.Name,
    "Sentence": types.Sentence,
    "Timestamp": types.Timestamp,
    "Integer": types.Integer,
    "Count": types.Count,
    "Percent": types.Percent,
    "Amount": types.Amount,
    "Celsius": types.Celsius,
}


def schemas() -> Schema:
    """Give the schema of every form by its name, in the dialect of AsyncAPI 3.0 (draft 7 and more)."""
    forms = dict.fromkeys([*REQUESTS.values(), *EVENTS.values()])
    _, found = msgspec.json.schema_components(forms, ref_template=_PREFIX + "{name}")
    scalars = {name: msgspec.json.schema(form) for name, form in _SCALARS.items()}
    words = _words_after([types, records, job_records, requests, answers, marketplace, events])
    described: Schema = {}
    for name, form in scalars.items():
        described[name] = ({"description": words[name]} if name in words else {}) | _portable(form)
    described["Channel"] = {
        "description": "The key of a channel.",
        "type": "string",
        "pattern": r"^(marketplace|(provider|job):([A-Za-z0-9._-]{1,64}|\*))$",
    }
    described["RequestId"] = {
        "description": "What a client numbers its messages with; a direct reply echoes it as it came.",
        "type": ["number", "string", "null"],
        "minimum": -types.MAX_SAFE_INTEGER,
        "maximum": types.MAX_SAFE_INTEGER,
        "maxLength": 128,
    }
    for name, form in sorted(found.items()):
        described[name] = _described(name, _portable(_with_names(form, scalars)), words)
    described["ErrorCode"]["description"] = "\n".join(
        f"- `{code.value}`: {text}" for code, text in enum_words(ErrorCode)
    )
    described[marketplace.MarketplaceUpdate.__name__] = {
        "description": "What happened is told by `kind`; kinds that are not known are to be ignored.",
        "anyOf": [reference(kind.__name__) for kind in marketplace.AnyMarketplaceUpdate.__args__],
    }
    return described


def reference(name: str) -> Schema:
    """Refer to the schema of that name."""
    return {"$ref": _PREFIX + name}


def markdown(text: str) -> str:
    """Turn the text of a docstring into Markdown on one line."""
    return " ".join(text.replace("``", "`").split())


def enum_words(enum: type[Enum]) -> list[tuple[Any, str]]:
    """Give each member of an enumeration with the docstring that follows it."""
    words = _words_after([inspect.getmodule(enum) or errors])
    return [(member, words[f"{enum.__name__}.{member.name}"]) for member in enum]


def _words_after(modules: list[ModuleType]) -> dict[str, str]:
    """Read the docstrings that follow assignments, by ``NAME`` or ``Class.member``."""
    words: dict[str, str] = {}

    def read(body: list[ast.stmt], prefix: str) -> None:
        for statement, following in zip(body, [*body[1:], ast.Pass()], strict=True):
            if isinstance(statement, ast.ClassDef):
                read(statement.body, f"{statement.name}.")
            match statement, following:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    words[prefix + name] = markdown(text)

    for module in modules:
        read(ast.parse(inspect.getsource(module)).body, "")
    return words


def _described(name: str, schema: Schema, words: dict[str, str]) -> Schema:
    """Add what the source says of a form and of its members."""
    schema.pop("title", None)
    if "description" in schema:
        schema["description"] = markdown(schema["description"])
    form = next(
        found
        for module in (records, job_records, requests, answers, marketplace, events, errors)
        if (found := getattr(module, name, None))
    )
    if not issubclass(form, msgspec.Struct):
        return {"type": "string"} | schema
    if not schema["required"]:
        del schema["required"]
    for field in msgspec.structs.fields(form):
        owners = (f"{base.__name__}.{field.name}" for base in form.__mro__)
        text = next((words[owner] for owner in owners if owner in words), None)
        member = schema["properties"][field.encode_name]
        if member.get("default", ...) is None:
            # That a member may be missing is said by ``required``.
            del member["default"]
        if "$ref" in member and (text or len(member) > 1):
            # Whatever stands beside a $ref is ignored.
            member["allOf"] = [{"$ref": member.pop("$ref")}]
        schema["properties"][field.encode_name] = ({"description": text} if text else {}) | member
    return schema


def _with_names(schema: Schema, scalars: Schema) -> Schema:
    """Put references in place of the scalars that have names."""
    bare = {keyword: value for keyword, value in schema.items() if keyword != "default"}
    for name, scalar in scalars.items():
        if bare == scalar:
            return reference(name)
    return _map_objects(schema, lambda inner: _with_names(inner, scalars))


def _portable(schema: Schema) -> Schema:
    """Write patterns as JavaScript reads them too: ``$`` for the end, escapes for what can't be seen."""
    changed = _map_objects(schema, _portable)
    if isinstance(changed.get("pattern"), str):
        changed["pattern"] = "".join(
            character if character.isprintable() else f"\\u{ord(character):04x}"
            for character in changed["pattern"].replace(r"\Z", "$")
        )
    return changed


def _map_objects(schema: Schema, change: Callable[[Schema], Schema]) -> Schema:
    """Apply ``change`` to the objects right inside ``schema``, also where they are in a list."""

    def changed(value: object) -> object:
        if isinstance(value, list):
            return [changed(item) for item in value]
        return change(value) if isinstance(value, dict) else value

    return {keyword: changed(value) for keyword, value in schema.items()}
